"""What came of preparing a data set, in a few lines however many scans it has."""

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
from nodule_lightning.preparation.filling import Outcome, State
from nodule_lightning.preparation.layouts import RawDataset
from nodule_lightning.structures import Labels

# What differs between notes of one kind: what stands in brackets, and numbers.
_DETAIL: Final = re.compile(r"\([^)]*\)|(?<!\w)-?\d[\d.]*(, \d[\d.]*)*( and \d+ others)?")


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of preparing a data set.

    Attributes:
        prepared: scans that were read and written now.
        skipped: scans that lay in the cache already, prepared alike from the same files.
        failed: why each of the others could not be prepared.
        notes: what the user should know: annotations without a scan, and of all scans how many have each kind of note.
    """

    prepared: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    notes: tuple[str, ...]


def summarise(cache: Path, dataset: RawDataset, outcomes: Iterable[Outcome]) -> Summary:
    """Gather what became of the scans, and what a user should know of those in the cache."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.scan_id)
    notes = list(dataset.notes)
    absent = sorted({*dataset.nodules.scan_id.tolist(), *dataset.excluded.scan_id.tolist()} - set(dataset.scans))
    if absent:
        notes.append(f"the annotations name {len(absent)} scans that are not on disk, such as {absent[0]}")
    prepared, skipped = (
        tuple(outcome.scan_id for outcome in ordered if outcome.state == state)
        for state in (State.PREPARED, State.SKIPPED)
    )
    notes += count_notes(_read_notes(cache, sorted((*prepared, *skipped))))
    failed = {outcome.scan_id: outcome.reason for outcome in ordered if outcome.state == State.FAILED}
    return Summary(prepared, skipped, failed, tuple(notes))


def count_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Say of each kind of note how many scans have it, the rarest in full.

    >>> count_notes({"a": ["reaches the border (feet)"], "b": ["reaches the border (head)", "gap after slice 7"]})
    ['2 scans, such as a: reaches the border (…)', 'b: gap after slice 7']

    Args:
        notes: of each scan, by its id.
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
    """Give what an entry's record notes, and which of its nodules lie outside the crop."""
    marks = Labels.from_dict(description["labels"]).nodules
    outside = marks.centre_xyz_mm[~in_crop(marks, Grid.from_dict(description["grid"]))]
    return [
        *description["record"]["notes"],
        *(f"the nodule at ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the crop" for x, y, z in outside.tolist()),
    ]


def _shorten(detail: re.Match[str]) -> str:
    return "(…)" if detail[0].startswith("(") else "…"


def _read_notes(cache: Path, scan_ids: Sequence[str]) -> dict[str, list[str]]:
    notes = {}
    # Another run may just be putting a newer entry in the place of one of these.
    with lock(cache):
        for scan_id in scan_ids:
            try:
                notes[scan_id] = entry_notes(read_description(cache, scan_id))
            except InputError as error:
                notes[scan_id] = [str(error)]
    return notes
