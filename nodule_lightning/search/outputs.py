"""Output files of a search: the submission of all scans and, on request, formats for other programs.

    OUTPUT/submission.csv            seriesuid,coordX,coordY,coordZ,probability, as LUNA16 and Tianchi take it
    OUTPUT/scans.csv                 the scans that were searched, and with what doubts each was read
    OUTPUT/candidate_list.csv        `list`: rank, slice, probability and [x, y] in the slice
    OUTPUT/grand_challenge/ID.json   `grand_challenge`: point marks
    OUTPUT/slicer/ID.mrk.json        `slicer`: markups
    OUTPUT/pictures/ID.png           `pictures`: the best candidates' slices

All coordinates are those of the original scan. A scan id becomes a file name, so no id may lead out of the folder.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import csv_bytes, write_whole
from nodule_lightning.io.run_folder import SEARCHED, SUBMISSION
from nodule_lightning.io.tables import check_scan_id, write_candidates, write_read_scans
from nodule_lightning.io.viewers import point_marks, slicer_markups
from nodule_lightning.search.predict import Prediction, submission
from nodule_lightning.structures import Candidates, Entry

LIST: Final = "candidate_list.csv"
LIST_COLUMNS: Final = ("seriesuid", "rank", "slice", "probability", "x", "y", "diameter_mm")


class Format(StrEnum):
    """Formats that can be written beside the submission."""

    LIST = "list"
    GRAND_CHALLENGE = "grand_challenge"
    SLICER = "slicer"
    PICTURES = "pictures"


_PICTURE: Final = ".png"
# Space for the submission, which is written last: a thousand scans with two hundred candidates each take 20 MB.
_KEPT_FREE: Final = 32 * 10**6
# Formats made from the candidates alone; a picture needs the scan as well.
_PER_SCAN: Final[dict[Format, tuple[str, Callable[[Candidates], bytes]]]] = {
    Format.GRAND_CHALLENGE: (".json", point_marks),
    Format.SLICER: (".mrk.json", slicer_markups),
}


# The files of each format, relative to the output folder.
_FILES: Final = (
    LIST,
    *(f"{name.value}/*{suffix}" for name, (suffix, _) in _PER_SCAN.items()),
    f"{Format.PICTURES.value}/*{_PICTURE}",
)


def parse_formats(names: Sequence[object]) -> tuple[Format, ...]:
    """Read the names of formats, each once.

    Raises:
        InputError: an unknown name; the message lists the formats.

    >>> parse_formats(["slicer", "list", "slicer"])
    (<Format.SLICER: 'slicer'>, <Format.LIST: 'list'>)
    """
    known = list(Format)
    for name in names:
        if name not in known:
            raise InputError(
                f"formats holds {name!r}; there are {', '.join(known)}, and {SUBMISSION}, which LUNA16 and Tianchi "
                "take, is always written",
                "argument-invalid",
            )
    return tuple(dict.fromkeys(Format(str(name)) for name in names))


def write_outputs(folder: Path, predictions: Sequence[Prediction], formats: Sequence[Format] = ()) -> Path:
    """Write the submission, the list of the scans, and all formats but the pictures.

    Args:
        folder: made if needed.
        predictions: of the searched scans, at least one.
        formats: what to write beside the submission.

    Returns:
        The submission's file.

    Raises:
        InputError: a scan's id cannot name a file, or the folder cannot be written to.
    """
    for prediction in predictions:
        check_scan_id(prediction.scan_id)
    path = folder / SUBMISSION
    write_candidates(path, submission(predictions))
    write_read_scans(folder / SEARCHED, {prediction.scan_id: prediction.doubts for prediction in predictions})
    if Format.LIST in formats:
        write_whole(folder / LIST, csv_bytes(LIST_COLUMNS, _list_rows(predictions)))
    for name, (suffix, lay_out) in _PER_SCAN.items():
        for prediction in predictions if name in formats else ():
            write_whole(_file(folder, name, prediction.scan_id, suffix), lay_out(prediction.candidates))
    return path


def write_picture(folder: Path, entry: Entry, prediction: Prediction) -> None:
    """Draw the slices of a scan's best candidates into a PNG file.

    Args:
        folder: the output folder; made if needed.
        entry: the prepared scan.
        prediction: what was found in it.

    Raises:
        InputError: as `write_outputs`, or the disk is so full that the submission might not fit any more.
    """
    # Only this function needs matplotlib, whose import takes as long as all others together.
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.overlay import draw_overlay

    path = _file(folder, Format.PICTURES, prediction.scan_id, _PICTURE)
    picture = to_png(draw_overlay(entry, prediction.candidates, prediction.voxels_zyx()))
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if shutil.disk_usage(existing).free < len(picture) + _KEPT_FREE:
        raise InputError(
            f"{path} is not written: the last {_KEPT_FREE // 10**6} MB of the disk are for {SUBMISSION}", "disk-full"
        )
    write_whole(path, picture)


def find_outputs(folder: Path) -> dict[Path, tuple[int, int]]:
    """Find the output files beside a submission, with what shows later whether each was replaced.

    Args:
        folder: the output folder, which need not exist.

    Returns:
        For each path relative to the folder, its inode and its modification time in nanoseconds.
    """
    paths = [path for pattern in _FILES for path in sorted(folder.glob(pattern))]
    return {path.relative_to(folder): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths}


def describe_leftovers(folder: Path, before: Mapping[Path, tuple[int, int]]) -> str | None:
    """Describe the files of an earlier search that this one has not replaced; a search deletes no file.

    Args:
        folder: the output folder.
        before: the result of `find_outputs` before the search.

    Returns:
        A note that names them and the cure; None if there are none.
    """
    now = find_outputs(folder)
    left = [path for path, file in before.items() if now.get(path) == file]
    if not left:
        return None
    counts = Counter(path.parts[0] for path in left)
    names = [name if name == LIST else f"{count} of {name}/" for name, count in counts.items()]
    return (
        f"{folder} also holds files of an earlier search, which do not belong to {SUBMISSION}: {', '.join(names)}, "
        f"such as {left[-1]}; delete them, or name another output="
    )


def _file(folder: Path, name: Format, scan_id: str, suffix: str) -> Path:
    return folder / name.value / f"{check_scan_id(scan_id)}{suffix}"


def _list_rows(predictions: Sequence[Prediction]) -> Iterator[tuple[object, ...]]:
    for prediction in predictions:
        found = prediction.candidates
        rows = zip(
            prediction.voxels_zyx().tolist(), found.probability.tolist(), found.diameter_mm.tolist(), strict=True
        )
        for rank, ((z, y, x), probability, diameter_mm) in enumerate(rows, start=1):
            size = round(diameter_mm, 1) if diameter_mm > 0 else ""
            yield prediction.scan_id, rank, z + 1, round(probability, 6), x, y, size
