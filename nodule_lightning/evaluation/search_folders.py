"""Output folders of `nodule-predict`: a submission and the list of searched scans."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.provenance import SearchRecord
from nodule_lightning.io.run_folder import PREDICTION, SEARCHED, SUBMISSION
from nodule_lightning.io.tables import read_candidates, read_scan_ids


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """Output folder of one finished search.

    Attributes:
        name: path of the folder relative to the root under which it was found.
        submission: csv file of the marks.
        scans: csv file of the searched scans.
        scan_ids: the searched scans.
        record: how the marks were made; None if there is no valid record.
    """

    name: str
    submission: Path
    scans: Path
    scan_ids: frozenset[str]
    record: SearchRecord | None = None


def find_search_folders(root: Path) -> tuple[list[SearchFolder], list[str]]:
    """Find all folders with a submission and its scans, at any depth.

    Returns:
        The folders sorted by name, and a sentence for each one that was left out because it is incomplete or damaged.

    Raises:
        InputError: the root is not a folder, or has no such folder under it.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the one under which nodule-predict has written", "file-missing")
    searches, left_out = [], []
    for submission in sorted(root.rglob(SUBMISSION)):
        scans, name = submission.with_name(SEARCHED), submission.parent.relative_to(root).as_posix()
        if not scans.exists():
            left_out.append(f"{name} was left out: no {SEARCHED} beside its {SUBMISSION} says what it searched.")
            continue
        try:
            read_candidates(submission)
            scan_ids = frozenset(read_scan_ids(scans))
            searches.append(SearchFolder(name, submission, scans, scan_ids, _record_beside(submission)))
        except InputError as error:
            left_out.append(f"{name} was left out: {error}.")
    if not searches:
        raise InputError(
            f"{root} holds no folder with {SUBMISSION} and {SEARCHED}, as nodule-predict writes them; name the files"
            f" with submissions=[FILE,FILE] instead. {' '.join(left_out)}".rstrip(),
            "run-missing",
        )
    return searches, left_out


def _record_beside(submission: Path) -> SearchRecord | None:
    # A ranking does not need the record, so a damaged one is treated as missing.
    with suppress(InputError):
        return SearchRecord.read(submission.with_name(PREDICTION))
    return None


def select_comparable(
    searches: Sequence[SearchFolder], scan_ids: Sequence[str] | None
) -> tuple[list[SearchFolder], list[str]]:
    """Keep the searches that cover all of the given scans.

    Args:
        searches: at least one.
        scan_ids: the scans that count; None requires that all searches cover the same scans.

    Returns:
        The kept searches, and a sentence for each one that was left out.

    Raises:
        InputError: the searches cover different scans and no scans were given, or none covers all given scans.
    """
    if scan_ids is None:
        first = searches[0]
        other = next((search for search in searches if search.scan_ids != first.scan_ids), None)
        if other is not None:
            raise InputError(
                f"the runs searched different scans, {first.name} {len(first.scan_ids)} and {other.name}"
                f" {len(other.scan_ids)}, with {len(first.scan_ids & other.scan_ids)} in common; say which count,"
                f" scans={other.scans} for example: runs that have not searched them all are left out",
                "argument-missing",
            )
        return list(searches), []
    kept, left_out = [], []
    for search in searches:
        if lacking := sorted(set(scan_ids) - search.scan_ids):
            left_out.append(
                f"{search.name} was left out: it has not searched {len(lacking)} of the scans, such as {lacking[0]}."
            )
        else:
            kept.append(search)
    if not kept:
        raise InputError(
            f"none of the {len(searches)} runs searched all {len(scan_ids)} scans that count; {left_out[0]}",
            "split-invalid",
        )
    return kept, left_out
