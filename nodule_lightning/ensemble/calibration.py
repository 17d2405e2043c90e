"""Calibration of probabilities by isotonic regression on scans that the detector was not trained on."""

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

# Fraction of the score mixed in, so that marks on one step of the regression keep their order.
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability that a mark is correct, as a function of its score.

    Attributes:
        score: distinct scores, increasing.
        share: fraction of correct marks at each score, non-decreasing.
    """

    score: Float64[np.ndarray, "score"]
    share: Float64[np.ndarray, "score"]

    @classmethod
    def fit(cls, score: Float64[np.ndarray, "mark"], right: Bool[np.ndarray, "mark"]) -> Self:
        """Fit a non-decreasing step function by least squares.

        Raises:
            InputError: all marks are correct or all are wrong, so there is nothing to learn from.
        """
        if not right.any() or right.all():
            what = "no mark is right" if not right.any() else "no mark is wrong"
            raise InputError(f"{what} among {len(right)}: they cannot calibrate probabilities", "annotations-missing")
        scores, place, number = np.unique(score, return_inverse=True, return_counts=True)
        found = np.bincount(place, right.astype(np.float64)) / number
        return cls(scores, np.asarray(isotonic_regression(found, weights=number).x, dtype=np.float64))

    def apply(self, score: Float64[np.ndarray, "mark"]) -> Float64[np.ndarray, "mark"]:
        """Calibrate scores, with linear interpolation between those that were fitted.

        One millionth of the result is the logistic function of the score. So marks on one step, which the regression
        alone would make equal, keep their order, and the member's own FROC curve does not change.
        """
        probability: np.ndarray = (1 - TIE) * np.interp(score, self.score, self.share) + TIE * expit(score)
        return probability


def calibrate(marks: Table[Candidates], calibration: Calibration) -> Table[Candidates]:
    """Replace the probabilities of the marks by calibrated ones."""
    return Table(marks.scan_id, replace(marks.rows, probability=calibration.apply(marks.rows.probability)))


def calibrate_members(members: Sequence[Member], calibrations: Sequence[Calibration]) -> list[Member]:
    """Apply to each member its own calibration."""
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
    """Label marks as correct or wrong by LUNA16's rules.

    The most probable mark inside a nodule is correct; a mark inside no finding is wrong. Marks that count neither way
    are left out: further marks in the same nodule, and marks inside an excluded finding. The cap of 100 marks per scan
    does not apply: it is a rule of the score, not a property of a mark.

    Args:
        marks: of scans that the detector was not trained on.
        nodules: to be found.
        excluded: findings that count neither way; None if there is no such list.
        scan_ids: the scans that count; rows of others are left out.

    Returns:
        The score of each labelled mark, and whether it is correct.

    Raises:
        InputError: a scan is listed twice.
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
