"""The FROC curve: sensitivity against false positives per scan as the threshold falls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodule_lightning.metrics.functional.matching import Matching
from nodule_lightning.structures import Candidates, Table

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Rates at which the curve is drawn: 16 per octave, the seven rates of the score among them.
DRAWN_RATES = 2.0 ** (np.arange(-48, 49) / 16)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of the FROC curve from (0, 0) on, one for each distinct probability.

    Attributes:
        fps: false positives per scan at or above the threshold, increasing.
        sensitivity: fraction of the nodules found at or above the threshold.
        threshold: decreasing probability; +inf at the start.
    """

    fps: Float64[np.ndarray, "point"]
    sensitivity: Float64[np.ndarray, "point"]
    threshold: Float64[np.ndarray, "point"]

    def at(self, rates: Sequence[float] | Float64[np.ndarray, "rate"]) -> Float64[np.ndarray, "rate"]:
        """Interpolate the sensitivity linearly at these false positives per scan.

        On a vertical segment of the curve the upper end counts; beyond the last point the sensitivity stays constant.

        >>> Curve(np.array([0.0, 1, 1, 2]), np.array([0.0, 0.2, 0.6, 0.8]), np.zeros(4)).at([0.5, 1, 1.5, 8]).tolist()
        [0.1, 0.6, 0.7, 0.8]
        """
        values: np.ndarray = np.interp(rates, self.fps, self.sensitivity)
        return values

    def point_at(self, threshold: float) -> tuple[float, float]:
        """Look up false positives per scan and sensitivity of the marks with at least this probability.

        >>> Curve(np.array([0.0, 1, 2]), np.array([0.0, 0.4, 0.6]), np.array([np.inf, 0.9, 0.5])).point_at(0.7)
        (1.0, 0.4)
        """
        place = int(np.searchsorted(-self.threshold, -threshold, side="right")) - 1
        return float(self.fps[place]), float(self.sensitivity[place])

    def threshold_at(self, rate: float) -> float:
        """Find the lowest threshold with at most this many false positives per scan.

        >>> Curve(np.array([0.0, 1, 2]), np.array([0.0, 0.4, 0.6]), np.array([np.inf, 0.9, 0.5])).threshold_at(1.5)
        0.9
        """
        return float(self.threshold[int(np.searchsorted(self.fps, rate, side="right")) - 1])

    def corners(self) -> Self:
        """Drop the points inside horizontal segments; `at` returns the same values."""
        rises = np.diff(self.sensitivity) != 0
        keep = np.concatenate([[True], rises]) | np.concatenate([rises, [True]])
        return type(self)(self.fps[keep], self.sensitivity[keep], self.threshold[keep])


@dataclass(frozen=True, slots=True)
class Events:
    """Found nodules and false positives in one sequence, most probable first.

    Attributes:
        scan: position of each event's scan in the list.
        probability: decreasing.
        nodule: row of the found nodule; -1 for a false positive.
        ends: index of the last event in each group of equal probability; the curve is defined only there.
    """

    scan: Int64[np.ndarray, "event"]
    probability: Float64[np.ndarray, "event"]
    nodule: Int64[np.ndarray, "event"]
    ends: Int64[np.ndarray, "point"]

    @classmethod
    def collect(cls, marks: Table[Candidates], nodule_scan: Int64[np.ndarray, "nodule"], matching: Matching) -> Self:
        """Sort the found nodules and false positives of a matching by probability."""
        found = np.flatnonzero(matching.marks_inside)
        false = np.flatnonzero(matching.false_positive)
        scan = np.concatenate([nodule_scan[found], marks.scan_id[false]])
        probability = np.concatenate([matching.best_probability[found], marks.rows.probability[false]])
        nodule = np.concatenate([found, np.full(len(false), -1)])
        order = np.argsort(-probability, kind="stable")
        falling = probability[order]
        last = np.ones(len(falling), dtype=bool)
        last[:-1] = falling[1:] != falling[:-1]
        return cls(scan[order], falling, nodule[order], np.flatnonzero(last))

    def head(self, false_positives: float) -> Self:
        """Keep the first groups of equal probability, up to the one that reaches this many false positives."""
        reached = np.cumsum(self.nodule < 0)[self.ends] < false_positives
        points = min(int(reached.sum()) + 1, len(self.ends))
        events = int(self.ends[points - 1]) + 1 if points else 0
        return type(self)(self.scan[:events], self.probability[:events], self.nodule[:events], self.ends[:points])

    def among(self, wanted: Bool[np.ndarray, "nodule"]) -> Bool[np.ndarray, "event"]:
        """Select the events that find a wanted nodule."""
        # The appended entry serves the index -1 of the false positives.
        chosen: np.ndarray = np.append(wanted, False)[self.nodule]
        return chosen

    def curve(self, scans: int, wanted: Bool[np.ndarray, "nodule"]) -> Curve:
        """Compute the FROC curve over this many scans, with the sensitivity among the wanted nodules only."""
        found = np.cumsum(self.among(wanted))[self.ends]
        false = np.cumsum(self.nodule < 0)[self.ends]
        return Curve(
            np.append(0.0, false / max(scans, 1)),
            np.append(0.0, found / max(int(wanted.sum()), 1)),
            np.append(np.inf, self.probability[self.ends]),
        )
