"""The folders that `nodule-predict` has written: a submission, and which scans it was made of."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.provenance import SearchRecord
from nodule_lightning.io.run_folder import PREDICTION, SEARCHED, SUBMISSION
from nodule_lightning.io.tables import read_candidates, read_scan_ids


@dataclass(frozen=True, slots=True)
class Run:
    """A search that was made.

    Attributes:
        name: its folder, seen from where the search for runs began.
        submission: the file of its marks.
        scans: the file of the scans that were searched.
        scan_ids: those scans.
        record: how the marks were made; None where nothing tells.
    """

    name: str
    submission: Path
    scans: Path
    scan_ids: frozenset[str]
    record: SearchRecord | None = None


def find_runs(root: Path) -> tuple[list[Run], list[str]]:
    """Find every folder with a submission and its scans; say of each damaged one that it is left out.

    Raises:
        InputError: the folder is not there, or holds no run.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the one under which nodule-predict has written")
    runs, left_out = [], []
    for submission in sorted(root.rglob(SUBMISSION)):
        scans, name = submission.with_name(SEARCHED), submission.parent.relative_to(root).as_posix()
        if not scans.exists():
            left_out.append(f"{name} was left out: no {SEARCHED} beside its {SUBMISSION} says what it searched.")
            continue
        try:
            read_candidates(submission)
            scan_ids = frozenset(read_scan_ids(scans))
            runs.append(Run(name, submission, scans, scan_ids, _record_beside(submission)))
        except InputError as error:
            left_out.append(f"{name} was left out: {error}.")
    if not runs:
        raise InputError(
            f"{root} holds no folder with {SUBMISSION} and {SEARCHED}, as nodule-predict writes them; name the files"
            f" with submissions=[FILE,FILE] instead. {' '.join(left_out)}".rstrip()
        )
    return runs, left_out


def _record_beside(submission: Path) -> SearchRecord | None:
    # A ranking needs none, so a damaged one is as good as none.
    with suppress(InputError):
        return SearchRecord.read(submission.with_name(PREDICTION))
    return None


def comparable(runs: Sequence[Run], scan_ids: Sequence[str] | None) -> tuple[list[Run], list[str]]:
    """Keep the runs that searched all of these scans, or all runs where they searched the same.

    Args:
        runs: one at least.
        scan_ids: the scans that count; None takes those that the runs have in common.

    Raises:
        InputError: the runs searched different scans and none were chosen, or no run searched all that were.
    """
    if scan_ids is None:
        other = next((run for run in runs if run.scan_ids != runs[0].scan_ids), None)
        if other is not None:
            raise InputError(
                f"the runs searched different scans, {runs[0].name} {len(runs[0].scan_ids)} and {other.name}"
                f" {len(other.scan_ids)}, with {len(runs[0].scan_ids & other.scan_ids)} in common; say which count,"
                f" scans={other.scans} for example: runs that have not searched them all are left out"
            )
        return list(runs), []
    kept, left_out = [], []
    for run in runs:
        if lacking := sorted(set(scan_ids) - run.scan_ids):
            left_out.append(
                f"{run.name} was left out: it has not searched {len(lacking)} of the scans, such as {lacking[0]}."
            )
        else:
            kept.append(run)
    if not kept:
        raise InputError(f"none of the {len(runs)} runs searched all {len(scan_ids)} scans that count; {left_out[0]}")
    return kept, left_out
