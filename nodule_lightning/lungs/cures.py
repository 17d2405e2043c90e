"""Cures: changed rules that are tried when the segmented lungs fail the checks.

`pieces`, `slices`, `unequal` and `one_lung` automate corrections that a team of the Tianchi 2017 challenge (Shi, Hong
Kong Baptist University) made by hand, scan by scan. `leaks` is new.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.body import Body
from nodule_lightning.lungs.morphology import Mask
from nodule_lightning.lungs.rules import Rules
from nodule_lightning.lungs.settings import LEAKS, ONE_LUNG, PIECES, SLICES, UNEQUAL

_LUNG_SHARE, _MARGIN_MM = 0.1, 12.0


def join_pieces(rules: Rules) -> Rules:
    """Threshold at -150 HU: diffuse disease is denser than -600 HU and cuts the lungs to pieces."""
    return replace(rules, threshold_hu=-150.0)


def clear_other_slices(rules: Rules) -> Rules:
    """Search only the slices that hold lung: in the head, the airway is open to the room; the bowel contains gas."""
    return replace(rules, only_lung_slices=True)


def allow_unequal(rules: Rules) -> Rules:
    """Accept a small lung: 1500 mm2 and 92 mm instead of 6000 mm2 and 62 mm."""
    return replace(rules, min_slice_mm2=1500.0, max_distance_mm=92.0)


def close_leaks(rules: Rules) -> Rules:
    """Close connections up to two voxels wide: a thin chest wall or gas under the skin opens a lung to the room."""
    return replace(rules, close_leaks=True)


def allow_one_lung(rules: Rules) -> Rules:
    """Accept a single lung, and whatever air the other side holds: that lung is filled with fluid or was removed."""
    return replace(rules, one_lung=True, min_volume_l=rules.min_volume_l / 2)


CURES: Final[dict[str, Callable[[Rules], Rules]]] = {
    PIECES: join_pieces,
    SLICES: clear_other_slices,
    UNEQUAL: allow_unequal,
    LEAKS: close_leaks,
    ONE_LUNG: allow_one_lung,
}


def attempts(cures: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the combinations of cures in order: none, each alone, then several; all with a single lung come last.

    >>> list(attempts(("slices", "one_lung")))
    [(), ('slices',), ('one_lung',), ('slices', 'one_lung')]
    """
    others = [name for name in cures if name != ONE_LUNG]
    several = [chosen for count in range(len(others) + 1) for chosen in combinations(others, count)]
    yield from several
    if ONE_LUNG in cures:
        yield from ((*chosen, ONE_LUNG) for chosen in several)


def keep_lung_slices(air: Mask, grid: Grid, body: Body) -> Mask:
    """Clear the slices above and below the lungs: those with much less air inside the body than the fullest one.

    Each slice is judged by the air inside the body in that slice, so a connection to the room elsewhere does no harm.
    """
    inner_air = (air & body.inside).sum(axis=(1, 2))
    if not inner_air.any():
        return air
    middle = _fullest(inner_air, max(1, round(60 * body.scale / grid.spacing_zyx_mm[0])))
    is_lung = inner_air > _LUNG_SHARE * inner_air[middle]
    above, below = np.flatnonzero(~is_lung[middle:]), np.flatnonzero(~is_lung[middle::-1])
    margin = int(np.ceil(_MARGIN_MM * body.scale / grid.spacing_zyx_mm[0]))
    stop = min(len(air), middle + int(above[0]) + margin) if len(above) else len(air)
    start = max(0, middle - int(below[0]) + 1 - margin) if len(below) else 0
    cleared = np.zeros_like(air)
    cleared[start:stop] = air[start:stop]
    return cleared


def _fullest(inner_air: np.ndarray, width: int) -> int:
    """Return the slice with most air in a window around it: a single slice may be full of bowel gas."""
    total = np.convolve(inner_air, np.ones(min(width, len(inner_air))), mode="same")
    return int(np.argmax(total))
