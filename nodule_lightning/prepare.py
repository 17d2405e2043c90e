"""From raw CT to cache entries: the lung crop, an isotropic grid, the window.

This module is imported by training, for the settings; only `prepare_dataset` and a raw scan need SimpleITK.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Bool, Int16, UInt8
from rich.console import Console
from rich.progress import track

from nodule_lightning.data.cache import (
    Entry,
    Labels,
    list_entries,
    read_description,
    remove_leftovers,
    settings_differences,
    update_labels,
    write_entry,
)
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.segmentation import LungSettings, segment_lungs
from nodule_lightning.resampling import box_grid, resample, shrink
from nodule_lightning.structures import AIR_HU, Findings, Scan

if TYPE_CHECKING:
    from nodule_lightning.data.layouts import RawDataset

_PREPARED, _SKIPPED = "prepared", "skipped"
_Task = tuple[str, Path, Labels]


@dataclass(frozen=True, slots=True)
class PreparationSettings:
    """How raw scans become cache entries; they travel in the cache and in every checkpoint.

    Attributes:
        spacing_mm: the isotropic spacing of the entries.
        window_hu: what becomes 0 and what becomes 255.
        margin_mm: how far the crop goes beyond the lungs.
        lungs: how the lungs are found.

    Raises:
        InputError: a spacing that is not positive, a window without width, a negative margin.
    """

    spacing_mm: float = 1.0
    window_hu: Sequence[float] = (-1200.0, 600.0)
    margin_mm: float = 8.0
    lungs: LungSettings = field(default_factory=LungSettings)

    def __post_init__(self) -> None:
        low, high = (float(value) for value in self.window_hu)
        object.__setattr__(self, "window_hu", (low, high))
        if self.spacing_mm <= 0 or self.margin_mm < 0:
            raise InputError(
                f"spacing_mm {self.spacing_mm} must be positive and margin_mm {self.margin_mm} not negative"
            )
        if low >= high:
            raise InputError(f"window_hu must rise, not go from {low} to {high}")

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON and checkpoints."""
        return {**asdict(self), "window_hu": list(self.window_hu)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            InputError: a setting is not known to this version.
        """
        try:
            return cls(**{**values, "lungs": LungSettings(**values["lungs"])})
        except (TypeError, KeyError) as error:
            raise InputError(f"these preparation settings are of another version: {error}") from None

    def differences(self, other: Self) -> list[str]:
        """Name every setting in which two differ, with both values."""
        return settings_differences(self.to_dict(), other.to_dict())


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


def prepare_scan(scan: Scan, settings: PreparationSettings) -> Entry:
    """Crop a scan to the lungs, bring it to an isotropic grid along the world axes, and window it.

    Where no lung is found, the body's box is the crop and the record says so.
    """
    lungs = segment_lungs(scan, settings.lungs)
    # Linear interpolation onto a much coarser grid would skip voxels, so whole blocks are averaged before.
    hu, source = shrink(scan.hu, scan.grid, settings.spacing_mm)
    corners = source.corners_xyz_mm()
    low = np.maximum(lungs.low_xyz_mm - settings.margin_mm, corners.min(axis=0))
    high = np.minimum(lungs.high_xyz_mm + settings.margin_mm, corners.max(axis=0))
    grid = box_grid(low, np.maximum(low, high), settings.spacing_mm)
    ct = _window(resample(hu, source, grid, linear=True, outside=AIR_HU), settings.window_hu)
    lung = resample(lungs.mask.astype(np.uint8), lungs.grid, grid, linear=False, outside=0)
    record = {"notes": list(lungs.notes), "lung_volume_l": round(lungs.volume_l, 3)}
    return Entry(scan.scan_id, ct, lung, grid, scan.grid, settings.to_dict(), record)


def prepare_dataset(
    dataset: "RawDataset",
    cache: Path,
    settings: PreparationSettings,
    workers: int = 1,
    progress: bool = True,
) -> Summary:
    """Prepare every scan of a data set into a cache, several at once.

    A scan that lies in the cache already, prepared alike from the same files, is skipped; its findings and subset are
    brought up to date. One that cannot be read does not stop the others.

    Args:
        dataset: the raw scans with their findings.
        cache: the cache's folder; made where it is missing.
        settings: how to prepare.
        workers: processes; 1 prepares in this one.
        progress: show a bar on the standard error.

    Raises:
        InputError: the cache holds other scans that were prepared otherwise, or cannot be written.
    """
    _refuse_mixing(cache, dataset, settings)
    remove_leftovers(cache)
    nodules, excluded, none = dataset.nodules.by_scan(), dataset.excluded.by_scan(), Findings.empty()
    tasks = [
        (scan_id, path, Labels(dataset.subset[scan_id], nodules.get(scan_id, none), excluded.get(scan_id, none)))
        for scan_id, path in dataset.scans.items()
    ]
    work = partial(_prepare_one, cache=cache, settings=settings)
    results = map(work, tasks) if workers <= 1 else _in_processes(work, tasks, workers)
    bar = track(results, "preparing", len(tasks), console=Console(stderr=True), disable=not progress)
    return _summarise(cache, dataset, dict(sorted(bar)))


def _window(hu: Int16[np.ndarray, "z y x"], window_hu: Sequence[float]) -> UInt8[np.ndarray, "z y x"]:
    low, high = window_hu
    # One look-up for each of the 65536 values of an int16, instead of arithmetic on a float copy of the volume.
    every_hu = np.arange(65536, dtype=np.uint16).view(np.int16)
    grey = np.rint((every_hu.astype(np.float64) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    windowed: UInt8[np.ndarray, "z y x"] = grey[hu.view(np.uint16)]
    return windowed


def _prepare_one(task: _Task, cache: Path, settings: PreparationSettings) -> tuple[str, str]:
    """Give the scan's id with _PREPARED, _SKIPPED, or the reason why it failed."""
    from nodule_lightning.io.readers import read_scan, source_files

    scan_id, path, labels = task
    try:
        stats = [file.stat() for file in source_files(path)]
        source = {"bytes": sum(stat.st_size for stat in stats), "mtime_ns": max(stat.st_mtime_ns for stat in stats)}
        if _is_prepared(cache, scan_id, settings, source):
            update_labels(cache, scan_id, labels)
            return scan_id, _SKIPPED
        entry = prepare_scan(replace(read_scan(path), scan_id=scan_id), settings)
        write_entry(cache, replace(entry, record={**entry.record, "source": source}, labels=labels))
    except InputError as error:
        return scan_id, str(error)
    except Exception as error:
        # One scan that trips something unforeseen must not cost the other thousand.
        return scan_id, f"{path}: {type(error).__name__}: {error}"
    return scan_id, _PREPARED


def _in_processes(
    work: Callable[[_Task], tuple[str, str]], tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[str, str]]:
    # Forking a process in which ITK or torch has started threads can hang it.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _share_cores, (workers,))
    try:
        futures = {pool.submit(work, task): task[0] for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield futures[future], "a worker was killed, perhaps for want of memory; run again with fewer workers"
    finally:
        pool.shutdown(cancel_futures=True)


def _share_cores(workers: int) -> None:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(max(1, (os.cpu_count() or 1) // workers))


def _is_prepared(cache: Path, scan_id: str, settings: PreparationSettings, source: dict[str, int]) -> bool:
    try:
        there = read_description(cache, scan_id)
    except InputError:
        return False
    return there["record"].get("source") == source and not settings_differences(there["settings"], settings.to_dict())


def _refuse_mixing(cache: Path, dataset: "RawDataset", settings: PreparationSettings) -> None:
    """Refuse a cache with scans of another data set that were prepared otherwise; its own are prepared anew."""
    for scan_id in sorted(set(list_entries(cache)) - set(dataset.scans)):
        if differing := settings_differences(read_description(cache, scan_id)["settings"], settings.to_dict()):
            raise InputError(
                f"{cache} holds {scan_id}, prepared with other settings (there and wanted): "
                f"{'; '.join(differing)}; prepare into another folder"
            )


def _outside(grid: Grid, findings: Findings) -> Bool[np.ndarray, "n"]:
    index = grid.to_index(findings.centre_xyz_mm)
    return np.asarray(((index < -0.5) | (index > np.array(grid.shape) - 0.5)).any(axis=1))


def _summarise(cache: Path, dataset: "RawDataset", outcome: dict[str, str]) -> Summary:
    notes = list(dataset.notes)
    absent = sorted({*dataset.nodules.scan_id.tolist(), *dataset.excluded.scan_id.tolist()} - set(dataset.scans))
    if absent:
        notes.append(f"the annotations name {len(absent)} scans that are not on disk, such as {absent[0]}")
    prepared, skipped = (tuple(name for name in outcome if outcome[name] == how) for how in (_PREPARED, _SKIPPED))
    for scan_id in sorted((*prepared, *skipped)):
        there = read_description(cache, scan_id)
        marks = Labels.from_dict(there["labels"]).nodules
        notes += [f"{scan_id}: {note}" for note in there["record"]["notes"]]
        for x, y, z in marks.centre_xyz_mm[_outside(Grid.from_dict(there["grid"]), marks)].tolist():
            notes.append(f"{scan_id}: the nodule at ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the crop")
    failed = {name: how for name, how in outcome.items() if how not in (_PREPARED, _SKIPPED)}
    return Summary(prepared, skipped, failed, tuple(notes))
