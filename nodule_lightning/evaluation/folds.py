"""Submissions of a cross-validation: each fold marks its own scans, and all are pooled and scored once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import distinct_names
from nodule_lightning.io.tables import read_candidates, read_scan_ids
from nodule_lightning.structures import Candidates, Table


@dataclass(frozen=True, slots=True)
class Fold:
    """Submission of one fold.

    Attributes:
        name: unique among the folds.
        path: the submission file.
        candidates: its marks in its own scans.
        scan_ids: its own scans: those in its list or, without a list, those it marks.
        elsewhere: number of marks in scans that are not in its list; they were left out.
    """

    name: str
    path: Path
    candidates: Table[Candidates]
    scan_ids: tuple[str, ...]
    elsewhere: int = 0


def read_folds(submissions: Sequence[Path], scans: Sequence[Path]) -> list[Fold]:
    """Read the submissions of several folds.

    Args:
        submissions: one file for each fold.
        scans: one list of scans for each fold, in the same order; with a single list or none, a fold's scans are
            those that it marks.

    Raises:
        InputError: a file cannot be read, the number of lists is neither 0, 1 nor that of the folds, or a scan is in
            two folds.
    """
    if len(scans) not in (0, 1, len(submissions)):
        raise InputError(
            f"scans names {len(scans)} files and submission {len(submissions)}: give one list for all folds, or one for"
            " each in the same order",
            "argument-invalid",
        )
    names = distinct_names(submissions)
    known = len(scans) == len(submissions)
    folds = [
        _listed(name, path, read_scan_ids(scans[place])) if known else _as_marked(name, path)
        for place, (name, path) in enumerate(zip(names, submissions, strict=True))
    ]
    _require_apart(folds, known)
    return folds


def pool(folds: Sequence[Fold]) -> Table[Candidates]:
    """Concatenate the marks of all folds."""
    scan_id = np.concatenate([fold.candidates.scan_id for fold in folds])
    return Table(scan_id, Candidates.concatenate(fold.candidates.rows for fold in folds))


def fold_cautions(folds: Sequence[Fold], scans: Sequence[Path]) -> list[str]:
    """Warn of marks that were left out, and of separate scores that are unreliable without lists of scans."""
    sentences = [
        f"{fold.elsewhere} marks of {fold.name} lie in scans that are not in its own list and were left out."
        for fold in folds
        if fold.elsewhere
    ]
    if len(scans) != len(folds):
        sentences.append(
            "No list of scans was given for each fold: a fold's own score covers only the scans that it marks, and is"
            " too high or too low if some of its scans have no mark. The pooled score is not affected."
        )
    return sentences


def _listed(name: str, path: Path, scan_ids: list[str]) -> Fold:
    candidates = read_candidates(path)
    own = candidates.in_scans(scan_ids)
    if len(own) and not own.any():
        other = candidates.scan_id[0]
        raise InputError(
            f"{path} marks no scan of its own list, but others such as {other}: is the order the same?",
            "split-invalid",
        )
    return Fold(name, path, candidates[own], tuple(scan_ids), int((~own).sum()))


def _as_marked(name: str, path: Path) -> Fold:
    candidates = read_candidates(path)
    return Fold(name, path, candidates, tuple(str(scan_id) for scan_id in candidates.numbered()[0]))


def _require_apart(folds: Sequence[Fold], known: bool) -> None:
    owner: dict[str, Fold] = {}
    for fold in folds:
        for scan_id in fold.scan_ids:
            if scan_id in owner:
                where = "in the lists of" if known else "marked by"
                cure = "" if known else "; if each was run on all scans, give scans=[...] with the list of each fold"
                raise InputError(
                    f"scan {scan_id} is {where} two folds, {owner[scan_id].path} and {fold.path}: a scan belongs to"
                    f" one fold{cure}",
                    "split-invalid",
                )
            owner[scan_id] = fold
