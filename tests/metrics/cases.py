"""Small random comparisons with everything that is rare in real ones: ties, full scans, overlaps, empty scans."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nodule_lightning.structures import Candidates, Findings, RowsT, Table


@dataclass(frozen=True, slots=True)
class Case:
    candidates: Table[Candidates]
    nodules: Table[Findings]
    excluded: Table[Findings]
    scan_ids: list[str]

    def shuffled(self, rng: np.random.Generator) -> "Case":
        return Case(
            self.candidates[rng.permutation(len(self.candidates))],
            self.nodules[rng.permutation(len(self.nodules))],
            self.excluded[rng.permutation(len(self.excluded))],
            [self.scan_ids[place] for place in rng.permutation(len(self.scan_ids))],
        )


def random_case(seed: int) -> Case:
    """Draw a comparison; positions and probabilities lie on coarse lattices, so that ties and exact radii abound."""
    rng = np.random.default_rng(seed)
    scan_ids = [f"scan{number:02d}" for number in range(rng.integers(1, 8))]
    levels = int(rng.integers(2, 400))
    size = int(rng.choice([4, 10, 30]))
    marks = rng.choice([0, 1, 5, 40, 99, 100, 101, 130], size=len(scan_ids))
    mark_ids = np.repeat(scan_ids, marks)
    probability = rng.integers(levels, size=len(mark_ids)) / levels
    centre = _centres(rng, len(mark_ids), size)
    order = rng.permutation(len(mark_ids))
    return Case(
        Table(mark_ids, Candidates(centre, probability, np.full(len(mark_ids), -1.0)))[order],
        _findings(rng, scan_ids, size, most=int(rng.choice([0, 3, 12]))),
        _findings(rng, scan_ids, size, most=int(rng.choice([0, 5, 30]))),
        scan_ids,
    )


def marks(*rows: tuple[str, float, float], z: float = 0.0) -> Table[Candidates]:
    """Make marks from (scan, x, probability)."""
    centre = np.array([[x, 0.0, z] for _, x, _ in rows]).reshape(-1, 3)
    probability = np.array([probability for _, _, probability in rows])
    return Table(np.array([scan for scan, _, _ in rows]), Candidates(centre, probability, np.full(len(rows), -1.0)))


def findings(*rows: tuple[str, float, float]) -> Table[Findings]:
    """Make findings from (scan, x, diameter)."""
    centre = np.array([[x, 0.0, 0.0] for _, x, _ in rows]).reshape(-1, 3)
    diameter_mm = np.array([diameter for _, _, diameter in rows], dtype=np.float64)
    return Table(np.array([scan for scan, _, _ in rows]), Findings(centre, diameter_mm))


def no_marks() -> Table[Candidates]:
    return Table(np.zeros(0, dtype="<U1"), Candidates.empty())


def no_findings() -> Table[Findings]:
    return Table(np.zeros(0, dtype="<U1"), Findings.empty())


def _findings(rng: np.random.Generator, scan_ids: list[str], size: int, most: int) -> Table[Findings]:
    numbers = rng.integers(most + 1, size=len(scan_ids))
    ids = np.repeat(scan_ids, numbers)
    diameter = rng.choice([-1.0, 1.0, 2.0, 3.5, 6.0, 10.0, 24.0], size=len(ids))
    return Table(ids, Findings(_centres(rng, len(ids), size), diameter))


def _centres(rng: np.random.Generator, number: int, size: int) -> Float64[np.ndarray, "n 3"]:
    return rng.integers(-2 * size, 2 * size, size=(number, 3)) / 2.0


def repeated(table: Table[RowsT], drawn: list[str], copies: list[str]) -> Table[RowsT]:
    """Take the rows of each drawn scan under the id of its copy."""
    rows = [np.flatnonzero(table.scan_id == name) for name in drawn]
    ids = np.repeat(copies, [len(part) for part in rows])
    return Table(ids, table.rows[np.concatenate(rows)])
