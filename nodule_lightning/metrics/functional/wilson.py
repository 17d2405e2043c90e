"""Wilson's confidence interval of a proportion."""

from typing import Final

import numpy as np

_QUANTILE_975: Final = 1.959963984540054


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Compute the 95 % interval of a proportion (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Args:
        share: the observed proportion; it may lie between two counts, as an interpolated sensitivity does.
        number: of independent cases, at least 1.

    >>> [round(bound, 4) for bound in wilson_interval(0.9, 10)]
    [0.5958, 0.9821]
    """
    square = _QUANTILE_975**2
    middle = (share + square / (2 * number)) / (1 + square / number)
    half = _QUANTILE_975 / (1 + square / number) * np.sqrt(share * (1 - share) / number + square / (4 * number**2))
    # At 0 and at 1 the bound is the share itself, up to rounding.
    return min(float(middle - half), share), max(float(middle + half), share)
