"""Distribution of nodule diameters, in the data and in the draws of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from nodule_lightning.io.files import csv_bytes

SHOWN_EDGES_MM: Final = (5.0, 10.0, 20.0)
COLUMNS: Final = ("from_mm", "to_mm", "nodules", "nodule_share", "draws", "draw_share")


@dataclass(frozen=True, slots=True)
class SizeDistribution:
    """Counts in bins of diameter, before and after sampling.

    Attributes:
        edges_mm: edges of the bins; n edges make n + 1 bins, the lower edge belongs to its bin.
        nodules: in the training data.
        draws: in an epoch.
    """

    edges_mm: tuple[float, ...]
    nodules: Int64[np.ndarray, "bin"]
    draws: Int64[np.ndarray, "bin"]

    def to_csv(self) -> bytes:
        """Return a csv table, one row for each bin; without nodules all shares are 0."""
        columns = zip(
            ("0", *map(_short, self.edges_mm)),
            (*map(_short, self.edges_mm), ""),
            self.nodules.tolist(),
            shares(self.nodules).round(4).tolist(),
            self.draws.tolist(),
            shares(self.draws).round(4).tolist(),
            strict=True,
        )
        return csv_bytes(COLUMNS, columns)


def count_sizes(
    nodules_mm: Float64[np.ndarray, "nodule"], drawn_mm: Float64[np.ndarray, "draw"], edges_mm: Sequence[float] = ()
) -> SizeDistribution:
    """Count diameters in the bins of a rule, split further at 5, 10 and 20 mm so that rules can be compared.

    >>> count_sizes(np.array([4.0, 6.0]), np.array([4.0, 4.0, 6.0])).draws.tolist()
    [2, 1, 0, 0]
    """
    edges = tuple(sorted({*map(float, edges_mm), *SHOWN_EDGES_MM}))
    counts = [
        np.bincount(np.searchsorted(edges, diameters, side="right"), minlength=len(edges) + 1)
        for diameters in (nodules_mm, drawn_mm)
    ]
    return SizeDistribution(edges, counts[0], counts[1])


def shares(counts: Int64[np.ndarray, "bin"]) -> Float64[np.ndarray, "bin"]:
    """Divide counts by their sum; no counts give zeros."""
    return np.asarray(counts / max(counts.sum(), 1))


def _short(edge_mm: float) -> str:
    return f"{edge_mm:g}"
