"""Finding and reading of the submissions that form an ensemble."""

from collections.abc import Sequence
from pathlib import Path

from nodule_lightning.ensemble.members import Member
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.search_folders import find_search_folders
from nodule_lightning.io.files import distinct_names
from nodule_lightning.io.run_folder import SEARCHED, SUBMISSION
from nodule_lightning.io.tables import read_candidates, read_scan_ids


def find_submissions(given: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Resolve paths and patterns to submission files; also return a note for each folder that was left out.

    A path is a csv file, a folder above those that `nodule-predict` wrote, or a pattern of either such as
    `outputs/multirun/*/test`. The files of a folder or pattern are sorted by name.

    Raises:
        InputError: a path does not exist, a folder holds no submission, or a file is given twice.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for path in (match for one in given for match in _matches(one)):
        if path.is_dir():
            searches, notes = find_search_folders(path)
            files += [search.submission for search in searches]
            left_out += notes
        else:
            files.append(path)
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise InputError(f"{file} is there twice: give each submission once", "argument-invalid")
        seen.add(file.resolve())
    return files, left_out


def read_members(files: Sequence[Path]) -> list[Member]:
    """Read each submission and, if `nodule-predict` wrote it, the list of searched scans beside it.

    Raises:
        InputError: a file cannot be read.
    """
    by_path = sorted(files)
    names = dict(zip(by_path, distinct_names(by_path), strict=True))
    return [Member(names[file], read_candidates(file), _searched(file)) for file in files]


def require_probabilities(files: Sequence[Path], members: Sequence[Member]) -> None:
    """Refuse scores that are not probabilities and so cannot be averaged.

    Raises:
        InputError: a score lies outside [0, 1].
    """
    for file, member in zip(files, members, strict=True):
        score = member.marks.rows.probability
        if (outside := score[(score < 0) | (score > 1)]).size:
            raise InputError(
                f"{file} holds the probability {outside[0]:g}, and only values from 0 to 1 can be averaged: give"
                " calibrate=true with out-of-fold predictions, which turns any scores into probabilities",
                "table-value-invalid",
            )


def _matches(path: Path) -> list[Path]:
    if path.exists() or not any(sign in str(path) for sign in "*?["):
        if not path.exists():
            raise InputError(
                f"{path} does not exist: a member is a csv file, or a folder with runs of nodule-predict",
                "file-missing",
            )
        return [path]
    root = Path(path.anchor) if path.anchor else Path()
    found = sorted(root.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not found:
        raise InputError(f"no file or folder matches {path}", "file-missing")
    return found


def _searched(file: Path) -> frozenset[str] | None:
    scans = file.with_name(SEARCHED)
    return frozenset(read_scan_ids(scans)) if file.name == SUBMISSION and scans.exists() else None
