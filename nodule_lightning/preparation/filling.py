"""Fill a cache from a raw data set: several scans at once, only what is missing or outdated, nothing lost."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

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
from nodule_lightning.cache.failures import keep_failure
from nodule_lightning.cache.replacing import lock, remove_leftovers
from nodule_lightning.errors import InputError
from nodule_lightning.io.processes import run_in_processes
from nodule_lightning.preparation.layouts import LUNG_MASKS, RawDataset
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.structures import Findings, Labels

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
        reason: why it failed, without a path: the name of a folder may be a patient's.
    """

    scan_id: str
    state: State
    reason: str = ""


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
    *,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Prepare scans of a data set into a cache, several at once, as they come to be done.

    A scan that lies in the cache already, prepared alike from the same files, is skipped; its findings and subset are
    brought up to date. One that cannot be read, or whose worker dies, does not stop the others. Why a scan failed
    stays in the cache until it is prepared.

    Args:
        dataset: the raw scans with their findings.
        cache: the cache's folder; made where it is missing.
        settings: how to prepare.
        scan_ids: the scans to prepare; all of them if left out.
        workers: processes; 1 prepares in this one.
        overwrite: prepare anew the scans of this data set that were prepared with other settings.

    Raises:
        InputError: the cache holds scans that were prepared with other settings, or cannot be written, or the
            settings ask for lung masks that did not come with the data set.
    """
    masks = dataset.lung_masks if settings.lungs.source == "luna16_masks" else {}
    if settings.lungs.source == "luna16_masks" and not masks:
        raise InputError(f"lungs=luna16_masks: there is no {LUNG_MASKS} beside the subsets; take lungs=default")
    try:
        remove_leftovers(cache)
        _refuse_mixing(cache, dataset, settings, overwrite=overwrite)
        note_scans(cache, dataset.scans)
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
        return map(partial(_keep, cache), map(work, tasks))
    done = run_in_processes(work, tasks, workers, lambda task: Outcome(task.scan_id, State.FAILED, KILLED))
    return map(partial(_keep, cache), done)


def prepare_task(task: Task, cache: Path, settings: PreparationSettings) -> Outcome:
    """Prepare one scan unless it lies in the cache already; whatever goes wrong is its own outcome."""
    from nodule_lightning.io.readers import read_labels, read_scan, source_files
    from nodule_lightning.preparation.crop_picture import draw_crop

    try:
        files = source_files(task.path) + (source_files(task.lung_mask) if task.lung_mask else [])
        source = _identity(files)
        if (nodules := _nodules_if_prepared(task, cache, settings, source)) is not None:
            update_labels(cache, task.scan_id, task.labels, nodules)
            return Outcome(task.scan_id, State.SKIPPED)
        scan = replace(read_scan(task.path), scan_id=task.scan_id)
        labels = read_labels(task.lung_mask, scan.grid) if task.lung_mask else None
        entry = prepare_scan(scan, settings, labels)
        nodules = check_nodules(task.labels.nodules, entry.grid, entry.lung)
        entry = replace(entry, record={**entry.record, "nodules": nodules, "source": source}, labels=task.labels)
        write_entry(cache, entry, draw_crop(scan, entry))
    except Exception as error:
        # One scan that trips something unforeseen must not cost the other thousand.
        return Outcome(task.scan_id, State.FAILED, _reason(error, task, cache))
    return Outcome(task.scan_id, State.PREPARED)


def _keep(cache: Path, outcome: Outcome) -> Outcome:
    keep_failure(cache, outcome.scan_id, outcome.reason)
    return outcome


def _identity(files: Sequence[Path]) -> str:
    """Tell raw files from changed ones, by the size and time of change of each, and by the text of a header.

    An edited header may well be older than its data, and as long as before; names are left out, as they may be
    patients'.
    """
    parts = []
    for file in files:
        stat = file.stat()
        header = file.read_bytes() if file.suffix.lower() == ".mhd" else b""
        parts.append((stat.st_size, stat.st_mtime_ns, header))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _nodules_if_prepared(task: Task, cache: Path, settings: PreparationSettings, source: str) -> dict[str, int] | None:
    """Count the nodules in the entry of a scan; None where it has to be prepared."""
    # Another run may just be putting a newer entry in its place.
    with lock(cache):
        try:
            there = open_entry(cache, task.scan_id)
        except InputError:
            return None
        if there.record.get("source") != source or settings_differences(there.settings, settings.to_dict()):
            return None
        return check_nodules(task.labels.nodules, there.grid, there.lung)


def _reason(error: Exception, task: Task, cache: Path) -> str:
    """Say what went wrong without a path."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{type(error).__name__}: {error.strerror}"
    else:
        text = f"{type(error).__name__}: {error}" if os.sep not in str(error) else type(error).__name__
    places = {
        task.path: "its folder" if task.path.is_dir() else "its file",
        task.lung_mask: "its lung mask",
        cache / "scans" / task.scan_id: "its entry",
    }
    for path, word in places.items():
        text = re.sub(rf"(?<!\S){re.escape(str(path))}(?=[\s:;,]|$)", word, text)
    return " ".join(text.split())


def _refuse_mixing(cache: Path, dataset: RawDataset, settings: PreparationSettings, *, overwrite: bool) -> None:
    """Refuse a cache with scans that were prepared otherwise, unless they are to be prepared anew."""
    for scan_id in list_entries(cache):
        is_own = scan_id in dataset.scans
        if is_own and overwrite:
            continue
        try:
            there = read_description(cache, scan_id)["settings"]
        except InputError:
            # It is made again, or the closing table names it.
            continue
        if differing := settings_differences(there, settings.to_dict()):
            cure = ", or add overwrite=true to prepare them anew" if is_own else ""
            raise InputError(
                f"{cache} holds {scan_id}, prepared with other settings (there and wanted): "
                f"{'; '.join(differing)}; prepare into another folder{cure}"
            )
