"""Calibrate probabilities by isotonic regression, on scans that the detector has not learnt from."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64
from scipy.optimize import isotonic_regression
from scipy.special import expit

from nodule_lightning.ensemble.members import Member
from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional.matching import pairs_inside
from nodule_lightning.metrics.functional.scan_list import ScanList
from nodule_lightning.structures import Candidates, Findings, Table

# So much of the score itself keeps the marks of one step of the regression apart.
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """How likely a mark is right, by the score that it was given.

    Attributes:
        score: rising, each once.
        share: of the marks with that score that are right, never falling.
    """

    score: Float64[np.ndarray, "score"]
    share: Float64[np.ndarray, "score"]

    @classmethod
    def fit(cls, score: Float64[np.ndarray, "mark"], right: Bool[np.ndarray, "mark"]) -> Self:
        """Fit the never falling step function that is nearest in squares.

        Raises:
            InputError: no mark is right, or none is wrong: there is nothing to learn from.
        """
        if not right.any() or right.all():
            what = "no mark is right" if not right.any() else "no mark is wrong"
            raise InputError(f"{what} among {len(right)}: probabilities cannot be calibrated on them")
        scores, place, number = np.unique(score, return_inverse=True, return_counts=True)
        found = np.bincount(place, right.astype(np.float64)) / number
        return cls(scores, np.asarray(isotonic_regression(found, weights=number).x, dtype=np.float64))

    def apply(self, score: Float64[np.ndarray, "mark"]) -> Float64[np.ndarray, "mark"]:
        """Give the probabilities of marks, linear between the scores that were seen.

        A millionth part is the score itself, by the logistic function: marks of one step, which the regression would
        make equal, keep their order, and the member's own FROC curve stays what it was.
        """
        probability: np.ndarray = (1 - TIE) * np.interp(score, self.score, self.share) + TIE * expit(score)
        return probability


def calibrate(marks: Table[Candidates], calibration: Calibration) -> Table[Candidates]:
    """Give the marks calibrated probabilities."""
    return Table(marks.scan_id, replace(marks.rows, probability=calibration.apply(marks.rows.probability)))


def calibrate_members(members: Sequence[Member], calibrations: Sequence[Calibration]) -> list[Member]:
    """Calibrate each member by its own calibration."""
    return [
        replace(member, marks=calibrate(member.marks, calibration))
        for member, calibration in zip(members, calibrations, strict=True)
    ]


def judge(
    marks: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings] | None,
    scan_ids: Sequence[Hashable],
) -> tuple[Float64[np.ndarray, "judged"], Bool[np.ndarray, "judged"]]:
    """Give the score of each mark that is right or wrong by LUNA16's rules, and which it is.

    Right is the most probable mark inside a nodule; wrong is one inside no finding at all. What counts neither way is
    left out: further marks in the same nodule, and marks inside an excluded finding. The cap of 100 marks a scan is not
    applied: it is a rule of the score, not of what a mark is.

    Args:
        marks: of scans that the detector has not learnt from.
        nodules: what was to be found.
        excluded: the findings that count neither way; None if there is no such list.
        scan_ids: the scans that count; rows of others are left out.

    Raises:
        InputError: a scan twice in the list.
    """
    scans = ScanList.of(scan_ids)
    there, wanted = scans.locate(marks).listed(), scans.locate(nodules).listed()
    probability = there.rows.probability
    nodule, hitting = pairs_inside(there, wanted)
    best = np.full(len(wanted), -np.inf)
    np.maximum.at(best, nodule, probability[hitting])
    right, nothing = np.zeros((2, len(there)), dtype=bool)
    right[hitting[probability[hitting] == best[nodule]]] = True
    nothing[hitting] = True
    if excluded is not None:
        nothing[pairs_inside(there, scans.locate(excluded).listed())[1]] = True
    judged = right | ~nothing
    return probability[judged], right[judged]
