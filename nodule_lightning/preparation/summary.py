"""A summary of the preparation of a data set, short for any number of scans."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodule_lightning.boxes import in_crop
from nodule_lightning.cache.entries import read_description
from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.preparation.filling import PreparedScan
from nodule_lightning.preparation.layouts import RawDataset
from nodule_lightning.structures import Failure, Labels

# What differs between notes of the same kind: text in brackets, and numbers.
_DETAIL: Final = re.compile(r"\([^)]*\)|(?<!\w)-?\d[\d.]*(, \d[\d.]*)*( and \d+ others)?")


@dataclass(frozen=True, slots=True)
class Summary:
    """The results of the preparation of a data set.

    Attributes:
        prepared: ids of the scans that were prepared now.
        skipped: ids of the scans whose entries were up to date.
        failed: the reason of each failure, by scan id.
        notes: remarks for the user: annotations without a scan, and for each kind of note the number of scans.
        doubts: with what doubts each scan that is in the cache was read, by scan id.
    """

    prepared: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    notes: tuple[str, ...]
    doubts: dict[str, tuple[str, ...]]


def summarise(cache: Path, dataset: RawDataset, results: Iterable[PreparedScan | Failure]) -> Summary:
    """Summarise the results of `fill_cache`, and the notes of the entries in the cache."""
    ordered = sorted(results, key=lambda result: result.scan_id)
    done = [result for result in ordered if isinstance(result, PreparedScan)]
    notes = list(dataset.notes)
    absent = sorted({*dataset.nodules.scan_id.tolist(), *dataset.excluded.scan_id.tolist()} - set(dataset.scans))
    if absent:
        notes.append(f"the annotations name {len(absent)} scans that are not on disk, such as {absent[0]}")
    prepared, skipped = (
        tuple(result.scan_id for result in done if result.skipped == is_skipped) for is_skipped in (False, True)
    )
    of_scans, doubts = _read_notes(cache, [result.scan_id for result in done])
    notes += count_notes(of_scans)
    failed = {result.scan_id: result.reason for result in ordered if isinstance(result, Failure)}
    return Summary(prepared, skipped, failed, tuple(notes), doubts)


def count_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Count the scans with each kind of note; a note that a single scan has is given in full.

    >>> count_notes({"a": ["reaches the border (feet)"], "b": ["reaches the border (head)", "gap after slice 7"]})
    ['2 scans, such as a: reaches the border (…)', 'b: gap after slice 7']

    Args:
        notes: the notes of each scan, by id.
    """
    kinds: dict[str, dict[str, list[str]]] = {}
    for scan_id, lines in notes.items():
        for line in lines:
            kinds.setdefault(_DETAIL.sub(_shorten, line), {}).setdefault(scan_id, []).append(line)
    counted = []
    for kind, scans in sorted(kinds.items(), key=lambda item: -len(item[1])):
        first = next(iter(scans))
        if len(scans) > 1:
            counted.append(f"{len(scans)} scans, such as {first}: {kind}")
        else:
            counted += [f"{first}: {line}" for line in scans[first]]
    return counted


def entry_notes(description: dict[str, Any]) -> list[str]:
    """Return the notes of an entry's record, and one for each of its nodules outside the crop."""
    marks = Labels.from_dict(description["labels"]).nodules
    outside = marks.centre_xyz_mm[~in_crop(marks, Grid.from_dict(description["grid"]))]
    return [
        *description["record"]["notes"],
        *(f"the nodule at ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the crop" for x, y, z in outside.tolist()),
    ]


def _shorten(detail: re.Match[str]) -> str:
    return "(…)" if detail[0].startswith("(") else "…"


def _read_notes(cache: Path, scan_ids: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, tuple[str, ...]]]:
    notes, doubts = {}, {}
    # Locked, because another run may be replacing one of these entries.
    with lock(cache):
        for scan_id in scan_ids:
            try:
                description = read_description(cache, scan_id)
                notes[scan_id] = entry_notes(description)
                doubts[scan_id] = tuple(description["record"].get("doubts", ()))
            except InputError as error:
                notes[scan_id] = [str(error)]
    return notes, doubts
