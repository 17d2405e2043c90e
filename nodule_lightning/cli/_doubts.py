"""The line that closes a command which has read scans with doubts."""

from collections.abc import Mapping, Sequence

from nodule_lightning.cli._errors import one_line


def describe_doubts(doubts: Mapping[str, Sequence[str]]) -> str | None:
    """Count the scans that were read with doubts, and name the first; None if there are none.

    >>> describe_doubts({"a": (), "b": ("2 slices are missing", "1 file was left out")})
    '1 scan was read with doubts: b: 2 slices are missing; 1 file was left out'

    Args:
        doubts: the notes of the reader on each scan, by id.
    """
    doubtful = {scan_id: notes for scan_id, notes in doubts.items() if notes}
    if not doubtful:
        return None
    scan_id, notes = next(iter(doubtful.items()))
    counted = "1 scan was read with doubts" if len(doubtful) == 1 else f"{len(doubtful)} scans were read with doubts"
    first = "" if len(doubtful) == 1 else ", the first"
    return one_line(f"{counted}{first}: {scan_id}: {'; '.join(notes)}")
