"""The submissions of a cross-validation: each fold marks scans of its own, and all are scored together once."""

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
    """One submission.

    Attributes:
        name: tells it from the others.
        path: where it was read.
        candidates: its marks in its own scans.
        scan_ids: its own scans: those of its list, or else those that it marks.
        elsewhere: how many of its marks lie in scans that its own list lacks; they were left out.
    """

    name: str
    path: Path
    candidates: Table[Candidates]
    scan_ids: tuple[str, ...]
    elsewhere: int = 0


def read_folds(submissions: Sequence[Path], scans: Sequence[Path]) -> list[Fold]:
    """Read the submissions of several folds.

    Args:
        submissions: a file for each fold.
        scans: a list of scans for each fold, in the same order; with one list for all or none, a fold's scans are
            those that it marks.

    Raises:
        InputError: a file that cannot be read, as many lists as neither one nor the folds, or a scan in two folds.
    """
    if len(scans) not in (0, 1, len(submissions)):
        raise InputError(
            f"scans names {len(scans)} files and submission {len(submissions)}: give one list for all folds, or one for"
            " each in the same order"
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
    """Join the marks of all folds."""
    scan_id = np.concatenate([fold.candidates.scan_id for fold in folds])
    return Table(scan_id, Candidates.concatenate(fold.candidates.rows for fold in folds))


def fold_cautions(folds: Sequence[Fold], scans: Sequence[Path]) -> list[str]:
    """Say what should be known before the folds' own scores are compared."""
    sentences = [
        f"{fold.elsewhere} marks of {fold.name} lie in scans that its own list lacks and were left out."
        for fold in folds
        if fold.elsewhere
    ]
    if len(scans) != len(folds):
        sentences.append(
            "No list of each fold's scans was given: its own score knows only the scans that it marks, and is too high"
            " or too low where it leaves some without a mark. The pooled score does not depend on it."
        )
    return sentences


def _listed(name: str, path: Path, scan_ids: list[str]) -> Fold:
    candidates = read_candidates(path)
    own = candidates.in_scans(scan_ids)
    if len(own) and not own.any():
        other = candidates.scan_id[0]
        raise InputError(f"{path} marks no scan of its own list, but others such as {other}: is the order the same?")
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
                    f" one fold{cure}"
                )
            owner[scan_id] = fold
