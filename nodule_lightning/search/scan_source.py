"""The scans to be searched: of a prepared cache, or raw ones that are prepared on the way, ahead of the search.

This module needs no torch, so that the processes that prepare begin at once.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from nodule_lightning.cache.entries import list_entries, open_entry, require_settings
from nodule_lightning.errors import InputError
from nodule_lightning.io.processes import run_ahead
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.structures import Entry

KILLED = "the process that prepared it was killed, perhaps for want of memory; run again with fewer workers"


@dataclass(frozen=True, slots=True)
class Failure:
    """A scan that could not be searched.

    Attributes:
        scan_id: the scan.
        reason: in one line.
        trace: where it went wrong, if nobody foresaw that it could.
    """

    scan_id: str
    reason: str
    trace: str = ""

    @classmethod
    def of(cls, scan_id: str, error: Exception) -> "Failure":
        """Say what an error is, in the words of the one who foresaw it, or with its place in the code."""
        if isinstance(error, InputError):
            return cls(scan_id, str(error))
        return cls(scan_id, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


class Source:
    """The scans of a path: a prepared cache, or raw scans that are prepared as a detector needs them.

    Args:
        path: a scan file, a DICOM folder, a folder of scans, or a cache.
        settings: how the scans were prepared that the detector learnt from.
        wanted: csv whose column `seriesuid` names the scans to take; None takes all.

    Raises:
        InputError: the path holds no scan, lacks a wanted one, or is a cache that was prepared otherwise.
    """

    def __init__(self, path: Path, settings: PreparationSettings, wanted: Path | None = None) -> None:
        self.path = path
        self.settings = settings
        self.raw: Mapping[str, Path] = {}
        if list_entries(path):
            require_settings(path, self.settings.to_dict())
            there: Sequence[str] = list_entries(path)
        else:
            # SimpleITK is needed for raw scans alone.
            from nodule_lightning.io.readers import find_scans

            self.raw = find_scans(path)
            there = list(self.raw)
        self.scan_ids = tuple(there if wanted is None else _chosen(there, path, wanted))

    def __len__(self) -> int:
        return len(self.scan_ids)

    @contextmanager
    def entries(self, workers: int = 0, scan_ids: Sequence[str] | None = None) -> Iterator[Iterator[Entry | Failure]]:
        """Open or prepare scans in order; one that cannot be is its own failure and does not stop the others.

        The processes end with the context, also where the search is broken off.

        Args:
            workers: processes that do it ahead of whoever takes the entries, each holding one scan in memory; 0 does
                it in this process, when the entry is asked for.
            scan_ids: some of the scans; all of them if left out.

        Raises:
            InputError: there are fewer than 0 workers.
        """
        if workers < 0:
            raise InputError(f"workers must be at least 0, not {workers}")
        chosen = self.scan_ids if scan_ids is None else scan_ids
        tasks = [(scan_id, self.raw.get(scan_id, self.path)) for scan_id in chosen]
        work: Callable[[tuple[str, Path]], Entry | Failure]
        work = partial(_prepared, settings=self.settings) if self.raw else _opened
        if not workers or len(tasks) < 2:
            yield map(work, tasks)
            return
        with closing(run_ahead(work, tasks, min(workers, len(tasks) - 1), _killed)) as entries:
            yield entries


def _prepared(task: tuple[str, Path], settings: PreparationSettings) -> Entry | Failure:
    scan_id, path = task
    try:
        from nodule_lightning.io.readers import read_scan

        return prepare_scan(replace(read_scan(path), scan_id=scan_id), settings)
    except Exception as error:
        return Failure.of(scan_id, error)


def _opened(task: tuple[str, Path]) -> Entry | Failure:
    scan_id, cache = task
    try:
        entry = open_entry(cache, scan_id)
        # Read now, and not when the network waits for it.
        return replace(entry, ct=np.array(entry.ct), lung=np.array(entry.lung))
    except Exception as error:
        return Failure.of(scan_id, error)


def _killed(task: tuple[str, Path]) -> Entry | Failure:
    return Failure(task[0], KILLED)


def _chosen(there: Sequence[str], path: Path, wanted: Path) -> list[str]:
    chosen = read_scan_ids(wanted)
    if unknown := sorted(set(chosen) - set(there)):
        raise InputError(f"{path} has no scan {unknown[0]}, which {wanted} names ({len(unknown)} such)")
    return chosen
