"""Fill a cache from a raw data set: several scans at once, only what is missing or outdated, nothing lost."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from nodule_lightning.data.cache import (
    Labels,
    list_entries,
    open_entry,
    read_description,
    settings_differences,
    update_labels,
    write_entry,
)
from nodule_lightning.data.layouts import LUNG_MASKS, RawDataset
from nodule_lightning.data.processes import run_in_processes
from nodule_lightning.data.replacing import remove_leftovers
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.prepare import PreparationSettings, prepare_scan
from nodule_lightning.quality import check_nodules, in_crop
from nodule_lightning.structures import Findings

KILLED: Final = "its process was killed, perhaps for want of memory; run again with fewer workers"


class State(StrEnum):
    """What became of a scan."""

    PREPARED = "prepared"
    SKIPPED = "there already"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """One scan to prepare.

    Attributes:
        scan_id: the scan.
        path: its file or DICOM folder.
        labels: its subset and findings.
        lung_mask: the file of the lung mask that came with it, where that is wanted.
    """

    scan_id: str
    path: Path
    labels: Labels
    lung_mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one scan.

    Attributes:
        scan_id: the scan.
        state: what became of it.
        reason: why it failed.
    """

    scan_id: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of preparing a data set.

    Attributes:
        prepared: scans that were read and written now.
        skipped: scans that lay in the cache already, prepared alike from the same files.
        failed: why each of the others could not be prepared.
        notes: what the user should know: fallbacks, nodules outside the crop, annotations without a scan.
    """

    prepared: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    notes: tuple[str, ...]


def shard_of(dataset: RawDataset, shard: int, shards: int) -> tuple[str, ...]:
    """Give the ids of every `shards`-th scan, from the `shard`-th on: each scan is in one shard.

    Raises:
        InputError: there is no such shard.
    """
    if shards < 1 or not 0 <= shard < shards:
        raise InputError(f"shard={shard} is not among the {shards} shards 0 to {shards - 1}")
    return tuple(sorted(dataset.scans)[shard::shards])


def fill_cache(
    dataset: RawDataset,
    cache: Path,
    settings: PreparationSettings,
    scan_ids: Sequence[str] | None = None,
    workers: int = 1,
) -> Iterator[Outcome]:
    """Prepare scans of a data set into a cache, several at once, as they come to be done.

    A scan that lies in the cache already, prepared alike from the same files, is skipped; its findings and subset are
    brought up to date. One that cannot be read, or whose worker dies, does not stop the others.

    Args:
        dataset: the raw scans with their findings.
        cache: the cache's folder; made where it is missing.
        settings: how to prepare.
        scan_ids: the scans to prepare; all of them if left out.
        workers: processes; 1 prepares in this one.

    Raises:
        InputError: the cache holds other scans that were prepared otherwise, or cannot be written, or the settings
            ask for lung masks that did not come with the data set.
    """
    masks = dataset.lung_masks if settings.lungs.source == "luna16_masks" else {}
    if settings.lungs.source == "luna16_masks" and not masks:
        raise InputError(f"lungs=luna16_masks: there is no {LUNG_MASKS} beside the subsets; take lungs=default")
    _refuse_mixing(cache, dataset, settings)
    try:
        (cache / "scans").mkdir(parents=True, exist_ok=True)
        remove_leftovers(cache)
    except OSError as error:
        raise InputError(f"{cache} cannot be written: {error.strerror}") from None
    nodules, excluded, none = dataset.nodules.by_scan(), dataset.excluded.by_scan(), Findings.empty()
    tasks = [
        Task(
            scan_id,
            dataset.scans[scan_id],
            Labels(dataset.subset[scan_id], nodules.get(scan_id, none), excluded.get(scan_id, none)),
            masks.get(scan_id),
        )
        for scan_id in (dataset.scans if scan_ids is None else scan_ids)
    ]
    work = partial(prepare_task, cache=cache, settings=settings)
    if workers <= 1:
        return map(work, tasks)
    return run_in_processes(work, tasks, workers, lambda task: Outcome(task.scan_id, State.FAILED, KILLED))


def prepare_task(task: Task, cache: Path, settings: PreparationSettings) -> Outcome:
    """Prepare one scan unless it lies in the cache already; whatever goes wrong is its own outcome."""
    from nodule_lightning.io.readers import read_labels, read_scan, source_files
    from nodule_lightning.report.crop_picture import draw_crop

    try:
        files = source_files(task.path) + (source_files(task.lung_mask) if task.lung_mask else [])
        stats = [file.stat() for file in files]
        source = {"bytes": sum(stat.st_size for stat in stats), "mtime_ns": max(stat.st_mtime_ns for stat in stats)}
        if _is_prepared(cache, task.scan_id, settings, source):
            there = open_entry(cache, task.scan_id)
            update_labels(cache, task.scan_id, task.labels, check_nodules(task.labels.nodules, there.grid, there.lung))
            return Outcome(task.scan_id, State.SKIPPED)
        scan = replace(read_scan(task.path), scan_id=task.scan_id)
        labels = read_labels(task.lung_mask, scan.grid) if task.lung_mask else None
        entry = prepare_scan(scan, settings, labels)
        nodules = check_nodules(task.labels.nodules, entry.grid, entry.lung)
        entry = replace(entry, record={**entry.record, "nodules": nodules, "source": source}, labels=task.labels)
        write_entry(cache, entry, draw_crop(scan, entry))
    except InputError as error:
        return Outcome(task.scan_id, State.FAILED, str(error))
    except Exception as error:
        # One scan that trips something unforeseen must not cost the other thousand.
        return Outcome(task.scan_id, State.FAILED, f"{task.path}: {type(error).__name__}: {error}")
    return Outcome(task.scan_id, State.PREPARED)


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
    for scan_id in sorted((*prepared, *skipped)):
        notes += [f"{scan_id}: {note}" for note in entry_notes(read_description(cache, scan_id))]
    failed = {outcome.scan_id: outcome.reason for outcome in ordered if outcome.state == State.FAILED}
    return Summary(prepared, skipped, failed, tuple(notes))


def entry_notes(description: dict[str, Any]) -> list[str]:
    """Give what an entry's record notes, and which of its nodules lie outside the crop."""
    marks = Labels.from_dict(description["labels"]).nodules
    outside = marks.centre_xyz_mm[~in_crop(marks, Grid.from_dict(description["grid"]))]
    return [
        *description["record"]["notes"],
        *(f"the nodule at ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the crop" for x, y, z in outside.tolist()),
    ]


def _is_prepared(cache: Path, scan_id: str, settings: PreparationSettings, source: dict[str, int]) -> bool:
    try:
        there = read_description(cache, scan_id)
    except InputError:
        return False
    return there["record"].get("source") == source and not settings_differences(there["settings"], settings.to_dict())


def _refuse_mixing(cache: Path, dataset: RawDataset, settings: PreparationSettings) -> None:
    """Refuse a cache with scans of another data set that were prepared otherwise; its own are prepared anew."""
    for scan_id in sorted(set(list_entries(cache)) - set(dataset.scans)):
        if differing := settings_differences(read_description(cache, scan_id)["settings"], settings.to_dict()):
            raise InputError(
                f"{cache} holds {scan_id}, prepared with other settings (there and wanted): "
                f"{'; '.join(differing)}; prepare into another folder"
            )
