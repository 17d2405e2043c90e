"""Search scans with a trained detector: raw ones, prepared on the way, or a cache's."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nodule_lightning.data.cache import Entry, list_entries, open_entry, require_settings
from nodule_lightning.detection.inference import InferenceSettings, detect
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.prepare import PreparationSettings, prepare_scan
from nodule_lightning.structures import Candidates, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Detector:
    """What it takes to find nodules in a scan.

    Attributes:
        network: with its trained weights, in evaluation mode.
        inference: how whole scans are searched.
        preparation: how the scans were prepared that it learnt from.
    """

    network: DetectionNetwork
    inference: InferenceSettings
    preparation: PreparationSettings


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found in one scan.

    Attributes:
        scan_id: the scan.
        candidates: best first.
        grid: of the original scan.
        notes: what preparing the scan noted, say that no lung was found.
    """

    scan_id: str
    candidates: Candidates
    grid: Grid
    notes: tuple[str, ...] = ()

    def voxels_zyx(self) -> Int64[np.ndarray, "n 3"]:
        """Give the voxel of the original scan that each candidate's centre lies in, or the nearest one.

        The isotropic grid that is searched may reach a little past the scan's first and last voxel.
        """
        index = np.rint(self.grid.to_index(self.candidates.centre_xyz_mm)).astype(np.int64)
        return np.asarray(index.clip(0, np.array(self.grid.shape) - 1))


@dataclass(frozen=True, slots=True)
class Failure:
    """A scan that could not be searched.

    Attributes:
        scan_id: the scan.
        reason: in one line.
    """

    scan_id: str
    reason: str


class Source:
    """The scans of a path: a prepared cache, or raw scans that are prepared as the detector says.

    Args:
        path: a scan file, a DICOM folder, a folder of scans, or a cache.
        detector: what they are for.
        wanted: csv whose column `seriesuid` names the scans to take; None takes all.

    Raises:
        InputError: the path holds no scan, lacks a wanted one, or is a cache that was prepared otherwise.
    """

    def __init__(self, path: Path, detector: Detector, wanted: Path | None = None) -> None:
        self.path = path
        self.settings = detector.preparation
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

    def open(self, scan_id: str) -> Entry:
        """Open or prepare one of the scans.

        Raises:
            InputError: it cannot be read.
        """
        if not self.raw:
            return open_entry(self.path, scan_id)
        from nodule_lightning.io.readers import read_scan

        return prepare_scan(replace(read_scan(self.raw[scan_id]), scan_id=scan_id), self.settings)


def predict(
    detector: Detector, source: Source, look: Callable[[Entry, Prediction], None] | None = None
) -> Iterator[Prediction | Failure]:
    """Search one scan after the other, on the device where the detector's weights are.

    One that cannot be read or searched does not stop the others.

    Args:
        detector: what searches.
        source: of the scans.
        look: is shown each scan with what was found in it, while the scan is at hand.
    """
    for scan_id in source.scan_ids:
        try:
            entry = source.open(scan_id)
            candidates = detect(detector.network, entry, detector.inference)
            notes = tuple(entry.record.get("notes", ()))
            prediction = Prediction(scan_id, candidates.best_first(), entry.original_grid, notes)
            if look is not None:
                look(entry, prediction)
        except InputError as error:
            yield Failure(scan_id, str(error))
        except Exception as error:
            # One scan that trips something unforeseen, or is too large for the device, must not cost the others.
            log.exception("%s cannot be searched", scan_id)
            yield Failure(scan_id, f"{type(error).__name__}: {error}")
        else:
            yield prediction


def submission(predictions: Sequence[Prediction]) -> Table[Candidates]:
    """Join what was found into one table, as the leaderboard takes it."""
    ids = [prediction.scan_id for prediction in predictions for _ in range(len(prediction.candidates))]
    rows = Candidates.concatenate(prediction.candidates for prediction in predictions)
    return Table(np.array(ids, dtype=np.str_), rows)


def _chosen(there: Sequence[str], path: Path, wanted: Path) -> list[str]:
    chosen = read_scan_ids(wanted)
    if unknown := sorted(set(chosen) - set(there)):
        raise InputError(f"{path} has no scan {unknown[0]}, which {wanted} names ({len(unknown)} such)")
    return chosen
