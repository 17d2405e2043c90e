"""Find and read the submissions that an ensemble is made of."""

from collections.abc import Sequence
from pathlib import Path

from nodule_lightning.ensemble.members import Member
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.runs import find_runs
from nodule_lightning.io.files import distinct_names
from nodule_lightning.io.run_folder import SEARCHED, SUBMISSION
from nodule_lightning.io.tables import read_candidates, read_scan_ids


def find_submissions(given: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Give the files that paths stand for, and say what was left out.

    A path is a csv file, a folder with the runs of `nodule-predict` under it, or a pattern of either such as
    `outputs/multirun/*/test`. The files of a folder or pattern come in the order of their names.

    Raises:
        InputError: a path that does not exist, a folder without a run, or a file that comes twice.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for path in (match for one in given for match in _matches(one)):
        if path.is_dir():
            runs, nameless = find_runs(path)
            files += [run.submission for run in runs]
            left_out += nameless
        else:
            files.append(path)
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise InputError(f"{file} is there twice: each submission is one member, once")
        seen.add(file.resolve())
    return files, left_out


def read_members(files: Sequence[Path]) -> list[Member]:
    """Read each submission, and beside one of `nodule-predict` the scans that it searched.

    Raises:
        InputError: a file cannot be read.
    """
    by_path = sorted(files)
    names = dict(zip(by_path, distinct_names(by_path), strict=True))
    return [Member(names[file], read_candidates(file), _searched(file)) for file in files]


def require_probabilities(files: Sequence[Path], members: Sequence[Member]) -> None:
    """Refuse scores that are no probabilities, of which no mean could be taken.

    Raises:
        InputError: one lies outside [0, 1].
    """
    for file, member in zip(files, members, strict=True):
        score = member.marks.rows.probability
        if (outside := score[(score < 0) | (score > 1)]).size:
            raise InputError(
                f"{file} holds the probability {outside[0]:g}, and a mean can be taken from 0 to 1 only: give"
                " calibrate=true with out-of-fold predictions, which makes probabilities of any scores"
            )


def _matches(path: Path) -> list[Path]:
    if path.exists() or not any(sign in str(path) for sign in "*?["):
        if not path.exists():
            raise InputError(f"{path} does not exist: a member is a csv file, or a folder with runs of nodule-predict")
        return [path]
    root = Path(path.anchor) if path.anchor else Path()
    found = sorted(root.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not found:
        raise InputError(f"no file or folder matches {path}")
    return found


def _searched(file: Path) -> frozenset[str] | None:
    scans = file.with_name(SEARCHED)
    return frozenset(read_scan_ids(scans)) if file.name == SUBMISSION and scans.exists() else None
