"""The scans of a search: entries of a cache, or raw scans, prepared in other processes ahead of the search.

This module does not import torch, so that those processes start fast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from nodule_lightning.cache.entries import list_entries, open_entry, require_settings
from nodule_lightning.errors import InputError
from nodule_lightning.io.processes import run_ahead
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.structures import Entry, Failure

KILLED = "the process that prepared it was killed, perhaps because memory ran out; run again with fewer workers"


class Source:
    """The scans of a path: a prepared cache, or raw scans that are prepared as a detector needs them.

    Args:
        path: a scan file, a DICOM folder, a folder of scans, or a cache.
        settings: how the detector's training scans were prepared.
        wanted: csv whose column `seriesuid` names the scans to take; None takes all.
        reading: what to do where the files of raw scans leave doubt.

    Raises:
        InputError: the path holds no scan, lacks a wanted one, or is a cache that was prepared otherwise, or for which
            the reading is set.
    """

    def __init__(
        self,
        path: Path,
        settings: PreparationSettings,
        wanted: Path | None = None,
        reading: ReadingSettings = STRICT,
    ) -> None:
        self.path = path
        self.settings = settings
        self.reading = reading
        self.raw: Mapping[str, Path] = {}
        if list_entries(path):
            if reading != STRICT:
                raise InputError(
                    f"reading has no effect on {path}: its scans are prepared already; give it to nodule-prepare",
                    "argument-conflict",
                )
            require_settings(path, self.settings.to_dict())
            there: Sequence[str] = list_entries(path)
        else:
            # SimpleITK is needed for raw scans alone.
            from nodule_lightning.io.scan_folders import find_scans

            self.raw = find_scans(path)
            there = list(self.raw)
        self.scan_ids = tuple(there if wanted is None else _chosen(there, path, wanted))

    def __len__(self) -> int:
        return len(self.scan_ids)

    @contextmanager
    def entries(self, workers: int = 0, scan_ids: Sequence[str] | None = None) -> Iterator[Iterator[Entry | Failure]]:
        """Open or prepare scans in order; an error becomes the failure of its scan and does not stop the others.

        The processes end with the context, also when the search is interrupted.

        Args:
            workers: processes that do it ahead of the consumer, each holding one scan in memory; 0 does it in this
                process, when the entry is asked for.
            scan_ids: some of the scans; all of them if left out.

        Raises:
            InputError: there are fewer than 0 workers.
        """
        if workers < 0:
            raise InputError(f"workers must be at least 0, not {workers}", "argument-invalid")
        chosen = self.scan_ids if scan_ids is None else scan_ids
        tasks = [(scan_id, self.raw.get(scan_id, self.path)) for scan_id in chosen]
        work: Callable[[tuple[str, Path]], Entry | Failure]
        work = partial(_prepared, settings=self.settings, reading=self.reading) if self.raw else _opened
        if not workers or len(tasks) < 2:
            yield map(work, tasks)
            return
        with closing(run_ahead(work, tasks, min(workers, len(tasks) - 1), _killed)) as entries:
            yield entries


def _prepared(task: tuple[str, Path], settings: PreparationSettings, reading: ReadingSettings) -> Entry | Failure:
    scan_id, path = task
    try:
        from nodule_lightning.io.readers import read_scan

        return prepare_scan(replace(read_scan(path, reading, scan_id), scan_id=scan_id), settings)
    except Exception as error:
        return Failure.of(scan_id, error)


def _opened(task: tuple[str, Path]) -> Entry | Failure:
    scan_id, cache = task
    try:
        entry = open_entry(cache, scan_id)
        # Read the memory maps here, ahead of the search, and not while the network waits.
        return replace(entry, ct=np.array(entry.ct), lung=np.array(entry.lung))
    except Exception as error:
        return Failure.of(scan_id, error)


def _killed(task: tuple[str, Path]) -> Entry | Failure:
    return Failure(task[0], KILLED)


def _chosen(there: Sequence[str], path: Path, wanted: Path) -> list[str]:
    chosen = read_scan_ids(wanted)
    if unknown := sorted(set(chosen) - set(there)):
        raise InputError(f"{path} has no scan {unknown[0]}, which {wanted} names ({len(unknown)} such)", "scan-unknown")
    return chosen
