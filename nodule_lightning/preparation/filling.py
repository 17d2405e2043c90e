"""Preparation of a raw data set into a cache: in parallel, and only the scans that are missing or outdated."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from nodule_lightning.boxes import check_nodules
from nodule_lightning.cache.completeness import note_scans
from nodule_lightning.cache.entries import (
    list_entries,
    open_entry,
    read_description,
    settings_differences,
    update_labels,
    write_entry,
)
from nodule_lightning.cache.failures import forget_failure, keep_failure
from nodule_lightning.cache.replacing import lock, remove_leftovers
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.files import write_error
from nodule_lightning.io.lidc_xml import Readings
from nodule_lightning.io.processes import run_in_processes
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.preparation.layouts import LUNG_MASKS, RawDataset
from nodule_lightning.preparation.outlines import count_readers
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.preparation.readings import ReadingFiles, read_marks, to_labels
from nodule_lightning.structures import Entry, Failure, Findings, Labels

KILLED: Final = "its process was killed, perhaps for want of memory; run again with fewer workers"


@dataclass(frozen=True, slots=True)
class Task:
    """One scan to prepare.

    Attributes:
        scan_id: the scan.
        path: its file or DICOM folder.
        labels: its subset and findings.
        lung_mask: the file of its lung mask, if the settings ask for the masks of the data set.
        readings: the readers' marks that its findings are made of; None if `labels` has them.
    """

    scan_id: str
    path: Path
    labels: Labels
    lung_mask: Path | None = None
    readings: ReadingFiles | None = None


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A scan that is in the cache, with current labels.

    Attributes:
        scan_id: the scan.
        skipped: whether its entry was up to date already; False if it was prepared now.
    """

    scan_id: str
    skipped: bool = False


def shard_of(dataset: RawDataset, shard: int, shards: int) -> tuple[str, ...]:
    """Return the ids of every `shards`-th scan, starting with the `shard`-th: each scan is in exactly one shard.

    Raises:
        InputError: there is no such shard.
    """
    if shards < 1 or not 0 <= shard < shards:
        raise InputError(f"shard={shard} is not among the {shards} shards 0 to {shards - 1}", "argument-invalid")
    return tuple(sorted(dataset.scans)[shard::shards])


def fill_cache(
    dataset: RawDataset,
    cache: Path,
    settings: PreparationSettings,
    scan_ids: Sequence[str] | None = None,
    workers: int = 1,
    *,
    reading: ReadingSettings = STRICT,
    overwrite: bool = False,
) -> Iterator[PreparedScan | Failure]:
    """Prepare scans of a data set into a cache.

    A scan is skipped if the cache holds an entry with the same settings from the same files, read in the same way; its
    labels are then updated. A scan that cannot be read, or whose worker dies, does not stop the others. Its failure
    stays in the cache until the scan is prepared.

    Args:
        dataset: the raw scans with their findings.
        cache: the cache's folder; created if missing.
        settings: how to prepare.
        scan_ids: the scans to prepare; None takes all.
        workers: number of processes; 1 uses this one.
        reading: what to do where the files leave doubt.
        overwrite: prepare scans of this data set again if the cache holds them with other settings.

    Returns:
        An iterator over the results, in the order in which they finish.

    Raises:
        InputError: the cache holds scans with other settings or cannot be written, or the settings ask for lung masks
            that the data set lacks.
    """
    masks = dataset.lung_masks if settings.lungs.source == "luna16_masks" else {}
    if settings.lungs.source == "luna16_masks" and not masks:
        raise InputError(
            f"lungs=luna16_masks: there is no {LUNG_MASKS} beside the subsets; take lungs=default", "file-missing"
        )
    try:
        remove_leftovers(cache)
        _refuse_mixing(cache, dataset, settings, overwrite=overwrite)
        note_scans(cache, dataset.scans)
    except OSError as error:
        raise write_error(cache, error) from None
    nodules, excluded, none = dataset.nodules.by_scan(), dataset.excluded.by_scan(), Findings.empty()
    tasks = [
        Task(
            scan_id,
            dataset.scans[scan_id],
            Labels(dataset.subset[scan_id], nodules.get(scan_id, none), excluded.get(scan_id, none)),
            masks.get(scan_id),
            dataset.readings.get(scan_id),
        )
        for scan_id in (dataset.scans if scan_ids is None else scan_ids)
    ]
    work = partial(prepare_task, cache=cache, settings=settings, reading=reading)
    if workers <= 1:
        return map(partial(_keep, cache), map(work, tasks))
    done = run_in_processes(work, tasks, workers, lambda task: Failure(task.scan_id, KILLED))
    return map(partial(_keep, cache), done)


def prepare_task(
    task: Task, cache: Path, settings: PreparationSettings, reading: ReadingSettings = STRICT
) -> PreparedScan | Failure:
    """Prepare one scan unless its entry is up to date. Any error becomes a `Failure`, with a reason without a path."""
    from nodule_lightning.io.readers import read_labels, read_scan, source_files
    from nodule_lightning.preparation.crop_picture import draw_crop

    try:
        files = source_files(task.path) + (source_files(task.lung_mask) if task.lung_mask else [])
        files += task.readings.files if task.readings else ()
        source = _identity(files)
        marks = read_marks(task.readings, task.scan_id) if task.readings else None
        if (present := _entry_if_prepared(task, cache, settings, reading, source)) is not None:
            labels, read = _labels(task, marks, present.original_grid)
            nodules = check_nodules(labels.nodules, present.grid, present.lung)
            update_labels(cache, task.scan_id, labels, {**read, "nodules": nodules})
            return PreparedScan(task.scan_id, skipped=True)
        scan = replace(read_scan(task.path, reading, task.scan_id), scan_id=task.scan_id)
        labels, read = _labels(task, marks, scan.grid)
        lung_mask = read_labels(task.lung_mask, scan.grid) if task.lung_mask else None
        entry = prepare_scan(scan, settings, lung_mask)
        nodules = check_nodules(labels.nodules, entry.grid, entry.lung)
        about = {**read, "nodules": nodules, "source": source, "reading": reading.to_dict()}
        outlines = count_readers(marks, scan.grid, entry.grid) if marks else None
        entry = replace(entry, record={**entry.record, **about}, labels=labels, outlines=outlines)
        write_entry(cache, entry, draw_crop(scan, entry))
    except Exception as error:
        # An unexpected error in one scan must not stop the other thousand.
        return Failure(task.scan_id, _reason(error, task, cache))
    return PreparedScan(task.scan_id)


def _keep(cache: Path, result: PreparedScan | Failure) -> PreparedScan | Failure:
    if isinstance(result, Failure):
        keep_failure(cache, result.scan_id, result.reason)
    else:
        forget_failure(cache, result.scan_id)
    return result


def _identity(files: Sequence[Path]) -> str:
    """Return a fingerprint of raw files: size and modification time of each, and the text of a header.

    The text is included because an edited header may keep its size and be older than its data. File names are not:
    they may be patients' names.
    """
    parts = []
    for file in files:
        stat = file.stat()
        header = file.read_bytes() if file.suffix.lower() == ".mhd" else b""
        parts.append((stat.st_size, stat.st_mtime_ns, header))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _labels(task: Task, marks: Readings | None, grid: Grid) -> tuple[Labels, dict[str, Any]]:
    """Return the labels of a scan, and what its record holds of them, from its table or from its readers' marks."""
    if task.readings is None or marks is None:
        return task.labels, {}
    return to_labels(marks, grid, task.readings.least_readers, task.labels.subset)


def _entry_if_prepared(
    task: Task, cache: Path, settings: PreparationSettings, reading: ReadingSettings, source: str
) -> Entry | None:
    """Open the entry of a scan; None if the scan has to be prepared."""
    # Locked, because another run may be replacing the entry.
    with lock(cache):
        try:
            entry = open_entry(cache, task.scan_id)
        except InputError:
            return None
        if entry.record.get("source") != source or ReadingSettings.of_record(entry.record) != reading:
            return None
        if settings_differences(entry.settings, settings.to_dict()):
            return None
        return entry


def _reason(error: Exception, task: Task, cache: Path) -> str:
    """Describe an error in one line without a path: a folder may be named after a patient."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{type(error).__name__}: {error.strerror}"
    else:
        text = f"{type(error).__name__}: {error}" if os.sep not in str(error) else type(error).__name__
    places: dict[Path | None, str] = {
        task.path: "its folder" if task.path.is_dir() else "its file",
        task.lung_mask: "its lung mask",
        cache / "scans" / task.scan_id: "its entry",
    }
    places |= dict.fromkeys(task.readings.files if task.readings else (), "its XML")
    for name in (file.name for file in task.path.rglob("*")) if task.path.is_dir() else ():
        text = text.replace(f", such as {name}", "")
    for path, word in places.items():
        text = re.sub(rf"(?<!\S){re.escape(str(path))}(?=[\s:;,]|$)", word, text)
    return " ".join(text.split())


def _refuse_mixing(cache: Path, dataset: RawDataset, settings: PreparationSettings, *, overwrite: bool) -> None:
    """Refuse a cache with scans of other settings, except those that `overwrite` prepares again."""
    for scan_id in list_entries(cache):
        is_own = scan_id in dataset.scans
        if is_own and overwrite:
            continue
        try:
            present = read_description(cache, scan_id)["settings"]
        except InputError:
            # An entry of this data set is prepared again; the closing table reports any other.
            continue
        if differing := settings_differences(present, settings.to_dict()):
            cure = ", or add overwrite=true to prepare them again" if is_own else ""
            raise InputError(
                f"{cache} holds {scan_id}, prepared with other settings (there and wanted): "
                f"{'; '.join(differing)}; prepare into another folder{cure}",
                "cache-settings-differ",
            )
