"""The challenge score as a torchmetrics metric, for validation during training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from nodule_lightning.metrics.functional.comparison import Comparison
from nodule_lightning.metrics.functional.curve import RATES
from nodule_lightning.metrics.functional.froc import summarise
from nodule_lightning.metrics.functional.matching import under_cap
from nodule_lightning.metrics.functional.result import FrocResult
from nodule_lightning.metrics.functional.sizes import SizeRange
from nodule_lightning.structures import Candidates, Findings, Table

# Type of a row of the state, in its first column.
SCAN, MARK, NODULE, EXCLUDED = range(4)
# kind, scan, x, y, z (mm), diameter (mm), probability
COLUMNS = 7


@dataclass(frozen=True, slots=True)
class ScoredScans:
    """Marks and findings that a score is computed from, with each scan once.

    The tables hold a scan's position in `scan_ids` in place of its id.

    Attributes:
        scan_ids: numbers of the scans as passed to `FROC.update`, increasing; or their names.
        marks: at most 100 of each scan.
        nodules: to be found.
        excluded: findings that do not count either way.
    """

    scan_ids: Shaped[np.ndarray, "scan"]
    marks: Table[Candidates]
    nodules: Table[Findings]
    excluded: Table[Findings]

    def named(self, names: Sequence[str]) -> Self:
        """Replace the scan numbers by names; a number is an index into `names`."""
        return replace(self, scan_ids=np.array(names, dtype=np.str_)[self.scan_ids])

    def result(self, bootstraps: int = 0) -> FrocResult:
        """Compute the score, with an interval from this many resamples of the scans."""
        return summarise(Comparison.of(self.scan_ids, self.marks, self.nodules, self.excluded), bootstraps, 0)


class FROC(Metric):
    """Mean sensitivity at 1/8 to 8 false positives per scan, exact for any number of processes.

    Each update adds one block of rows for a scan: a row that registers it, then its marks and findings. So a scan
    without marks and findings counts too, and a scan seen twice (by a padding sampler or on two ranks) counts once: its
    first block in the order of ranks is used. The state until `reset` consists of these blocks: for each scan at most
    101 rows, and one more for each finding, at 56 bytes a row. 1000 scans take 6 MB.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    # One float64 table is the only list state that torchmetrics gathers safely from uneven ranks.
    rows: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, scan: int, candidates: Candidates, nodules: Findings, excluded: Findings) -> None:
        """Add one scan.

        Args:
            scan: index of the scan in the data set, the same on all ranks.
            candidates: its marks; only the 100 most probable are kept, since the score uses no more.
            nodules: what is to be found in it.
            excluded: findings on which a mark counts neither way.
        """
        best = under_cap(Table(np.zeros(len(candidates), dtype=np.int64), candidates))
        marks = candidates[best]
        block = np.concatenate(
            [
                _rows(SCAN, np.zeros((1, 3)), np.zeros(1), np.zeros(1)),
                _rows(MARK, marks.centre_xyz_mm, marks.diameter_mm, marks.probability),
                _rows(NODULE, nodules.centre_xyz_mm, nodules.diameter_mm, np.zeros(len(nodules))),
                _rows(EXCLUDED, excluded.centre_xyz_mm, excluded.diameter_mm, np.zeros(len(excluded))),
            ]
        )
        block[:, 1] = scan
        assert isinstance(self.rows, list)
        self.rows.append(torch.from_numpy(block).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Compute the values to log.

        Returns:
            "froc", the score; "sensitivity@0.125" to "sensitivity@8"; and for each nodule size that occurs the
            sensitivity at 1 false positive per scan, such as "sensitivity_5-6mm".
        """
        return {
            name: torch.tensor(value, dtype=torch.float32, device=self.device)
            for name, value in values_to_log(self.scans().result()).items()
        }

    def scans(self) -> ScoredScans:
        """Collect the scans of all ranks inside `compute` and `sync_context`, else those of this rank."""
        gathered = dim_zero_cat(self.rows).cpu().numpy() if len(self.rows) else np.zeros((0, COLUMNS))
        rows, numbers = _first_blocks(gathered)
        place, at = rows[:, 1].astype(np.int64), rows[:, 0] == MARK
        marks = Table(place[at], Candidates(rows[at, 2:5], rows[at, 6], rows[at, 5]))
        return ScoredScans(numbers, marks, _findings(rows, place, NODULE), _findings(rows, place, EXCLUDED))

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,  # noqa: ANN401 - torchmetrics' own signature
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """Gather the rows of all ranks; an empty rank takes part with a table of no rows."""
        # torchmetrics would gather a flat float32 tensor from a rank without rows, and gloo aborts on the mixture.
        if isinstance(self.rows, list) and not self.rows:
            self.rows = [torch.empty(0, COLUMNS, dtype=torch.float64, device=self.device)]
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)


def values_to_log(result: FrocResult) -> dict[str, float]:
    """Name the values of a score as in `FROC.compute`; sizes without a nodule are left out."""
    values = {"froc": result.mean}
    for rate, sensitivity in zip(RATES, result.sensitivities, strict=True):
        values[f"sensitivity@{rate:g}"] = float(sensitivity)
    for size in (*result.sizes, *result.coarse_sizes):
        if size.nodules:
            values[f"sensitivity_{_size_name(size)}"] = size.sensitivity
    return values


def _size_name(size: SizeRange) -> str:
    if size.low_mm <= 0:
        return f"under_{size.high_mm:g}mm"
    return f"over_{size.low_mm:g}mm" if np.isinf(size.high_mm) else f"{size.low_mm:g}-{size.high_mm:g}mm"


def _rows(
    kind: int,
    centre_xyz_mm: Float64[np.ndarray, "n 3"],
    diameter_mm: Float64[np.ndarray, "n"],
    probability: Float64[np.ndarray, "n"],
) -> Float64[np.ndarray, "n 7"]:
    labels = np.tile([float(kind), 0.0], (len(centre_xyz_mm), 1))
    return np.concatenate([labels, centre_xyz_mm, diameter_mm[:, None], probability[:, None]], axis=1)


def _first_blocks(
    rows: Float64[np.ndarray, "n 7"],
) -> tuple[Float64[np.ndarray, "m 7"], Int64[np.ndarray, "scan"]]:
    """Keep the first block of each scan and renumber the scans 0, 1, ...; also return their original numbers."""
    starts = rows[:, 0] == SCAN
    scans, first, place = np.unique(rows[starts, 1], return_index=True, return_inverse=True)
    block = np.cumsum(starts) - 1
    kept = first[place][block] == block
    numbered = rows[kept].copy()
    numbered[:, 1] = place[block[kept]]
    return numbered, scans.astype(np.int64)


def _findings(rows: Float64[np.ndarray, "m 7"], place: Int64[np.ndarray, "m"], kind: int) -> Table[Findings]:
    at = rows[:, 0] == kind
    return Table(place[at], Findings(rows[at, 2:5], rows[at, 5]))
