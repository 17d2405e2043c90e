"""Search scans with a trained detector: raw scans, which are prepared first, or the entries of a cache."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Int64

from nodule_lightning.cache.entries import settings_differences
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.models.folding import folded
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.search.device import choose_device
from nodule_lightning.search.inference import InferenceSettings, detect
from nodule_lightning.search.precision import Precision, computing_in, parse_precision
from nodule_lightning.search.rescoring import RescoringSettings, rescore
from nodule_lightning.search.scan_source import Source
from nodule_lightning.structures import Candidates, Entry, Failure, Scan, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reducer:
    """The second stage, trained on scans that were prepared as the detector's.

    Attributes:
        network: with its trained weights, in evaluation mode.
        settings: how candidates are scored again.
    """

    network: CandidateClassifier
    settings: RescoringSettings


@dataclass(frozen=True, slots=True)
class Detector:
    """A trained detector: everything that it takes to find nodules in a scan.

    Attributes:
        network: with its trained weights, in evaluation mode.
        inference: how whole scans are searched.
        preparation: how the training scans were prepared, and how a raw scan is prepared for the search.
        reducer: the second stage, which scores each candidate again; None for one stage only.
    """

    network: DetectionNetwork
    inference: InferenceSettings
    preparation: PreparationSettings
    reducer: Reducer | None = None

    @property
    def device(self) -> torch.device:
        """The device that holds the weights, on which scans are searched."""
        return next(self.network.parameters()).device

    def on(self, device: str | torch.device = "auto", *, compiled: bool = False) -> Self:
        """Return a copy for fast search on a device: batch norm folded into the convolutions, compiled on request.

        Args:
            device: `auto` (the GPU, or the CPU where there is none), `cpu`, `cuda` or `cuda:N`.
            compiled: compile the network with `torch.compile`; it pays off over many scans.

        Raises:
            InputError: this machine has no such device, or the network cannot be compiled here.
        """
        chosen = choose_device(device)
        network = folded(self.network).to(chosen)
        if compiled:
            _compile(network, chosen)
        reducer = self.reducer
        if reducer is not None:
            # Modules move in place; the detector that is copied stays where it is.
            reducer = replace(reducer, network=copy.deepcopy(reducer.network).to(chosen))
        return replace(self, network=network, reducer=reducer)

    def search(
        self,
        scan: Scan | Entry | str | PathLike[str],
        *,
        device: str | torch.device | None = None,
        precision: str = Precision.AUTO,
        reading: ReadingSettings = STRICT,
    ) -> Candidates:
        """Find the nodules of one scan, as `nodule-predict` does.

        What preparing the scan had to note, for example that no lung was found, is logged as a warning.

        Args:
            scan: a CT in Hounsfield units, an entry of a cache, or the path of a scan file or DICOM folder.
            device: where to search; None for the device that the detector is on. For many scans, move the detector
                once with `on`: a device given here costs a copy of the weights with each call.
            precision: `bf16`, `fp32`, or `auto` for bf16 where the device is fast in it.
            reading: what to do where the files at a path leave doubt; a scan or an entry is read already.

        Returns:
            The candidates, best first, with centres in world mm (x, y, z; LPS). No candidate gives empty arrays.

        Raises:
            InputError: the scan cannot be read, the entry was prepared with other settings than the detector's, the
                device cannot be used, or its memory does not suffice.
        """
        detector = self if device is None else self.on(device)
        entry = self._prepared(scan, reading)
        for note in entry.record.get("notes", ()):
            log.warning("%s: %s", entry.scan_id, note)
        return find_candidates(detector, entry, parse_precision(precision))

    def _prepared(self, scan: Scan | Entry | str | PathLike[str], reading: ReadingSettings) -> Entry:
        if isinstance(scan, Entry):
            if differing := settings_differences(self.preparation.to_dict(), scan.settings):
                raise InputError(
                    f"{scan.scan_id} was prepared with other settings than the detector's (detector and scan): "
                    f"{'; '.join(differing)}; prepare it with detector.preparation",
                    "cache-settings-differ",
                )
            return scan
        if not isinstance(scan, Scan):
            # SimpleITK is needed for raw scans alone.
            from nodule_lightning.io.readers import read_scan

            scan = read_scan(Path(scan), reading)
        return prepare_scan(scan, self.preparation)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The candidates of one scan.

    Attributes:
        scan_id: the scan.
        candidates: best first.
        grid: of the original scan.
        notes: remarks on the scan, for example that no lung was found, or that its picture could not be drawn.
        doubts: those of the notes that say with what doubts it was read.
    """

    scan_id: str
    candidates: Candidates
    grid: Grid
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def voxels_zyx(self) -> Int64[np.ndarray, "n 3"]:
        """Return the voxel of the original scan that holds each candidate's centre.

        The isotropic grid that is searched may reach a little past the scan's border: such a centre gets the nearest
        voxel.
        """
        index = np.rint(self.grid.to_index(self.candidates.centre_xyz_mm)).astype(np.int64)
        return np.asarray(index.clip(0, np.array(self.grid.shape) - 1))


OnPrediction = Callable[[Entry, Prediction], None]
"""Called with each searched scan and its prediction, while the scan is in memory; its errors become notes."""


def predict(
    detector: Detector,
    source: Source,
    workers: int = 0,
    precision: Precision = Precision.FP32,
    on_prediction: OnPrediction | None = None,
) -> Iterator[Prediction | Failure]:
    """Search one scan after the other, on the device that holds the detector's weights.

    A scan that cannot be read or searched does not stop the others.

    Args:
        detector: the detector, best moved with `Detector.on`.
        source: the scans.
        workers: processes that read and prepare scans ahead, see `Source.entries`.
        precision: of the network.
        on_prediction: called after each scan.
    """
    with source.entries(workers) as entries:
        for entry in entries:
            yield search_entry(detector, entry, precision, on_prediction)


def search_entry(
    detector: Detector, entry: Entry | Failure, precision: Precision, on_prediction: OnPrediction | None = None
) -> Prediction | Failure:
    """Search one scan; every error becomes the scan's failure, and a scan that failed to open stays one."""
    outcome = entry if isinstance(entry, Failure) else _search(detector, entry, precision, on_prediction)
    if isinstance(outcome, Failure) and outcome.trace:
        log.error("%s cannot be searched\n%s", outcome.scan_id, outcome.trace)
    return outcome


def find_candidates(detector: Detector, entry: Entry, precision: Precision) -> Candidates:
    """Run the detector, and the second stage if there is one, over one prepared scan; best first.

    Raises:
        InputError: the voxels have another size than the network's, or the device's memory does not suffice.
    """
    with computing_in(detector.device, precision):
        candidates = detect(detector.network, entry, detector.inference)
        if detector.reducer is not None:
            candidates = rescore(detector.reducer.network, entry, candidates, detector.reducer.settings)
    return candidates


def _search(
    detector: Detector, entry: Entry, precision: Precision, on_prediction: OnPrediction | None
) -> Prediction | Failure:
    try:
        candidates = find_candidates(detector, entry, precision)
        notes, doubts = (tuple(entry.record.get(kind, ())) for kind in ("notes", "doubts"))
        prediction = Prediction(entry.scan_id, candidates, entry.original_grid, notes, doubts)
    except Exception as error:
        # One scan that trips something unforeseen, or is too large for the device, must not cost the others.
        return Failure.of(entry.scan_id, error)
    return prediction if on_prediction is None else _reported(entry, prediction, on_prediction)


def _reported(entry: Entry, prediction: Prediction, on_prediction: OnPrediction) -> Prediction:
    """Call back with a prediction; return it, with a note if the call failed."""
    try:
        on_prediction(entry, prediction)
    except Exception as error:
        # A full disk, for example: a picture can be drawn again, but the candidates cost a search.
        failure = Failure.of(entry.scan_id, error)
        if failure.trace:
            log.error("%s has no picture\n%s", entry.scan_id, failure.trace)
        return replace(prediction, notes=(*prediction.notes, f"it has no picture: {failure.reason}"))
    return prediction


def _compile(network: DetectionNetwork, device: torch.device) -> None:
    """Compile a network, and run it once on a tiny volume so that a compiler that is missing shows now."""
    network.compile(dynamic=True)
    side = 2 * network.stride_total
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 1, side, side, side, device=device), torch.zeros(1, 3, 2, device=device))
    except Exception as error:
        # What the compiler raises depends on what this machine lacks.
        raise InputError(
            f"compile=true: the network cannot be compiled here: {error}; leave it out", "device-unavailable"
        ) from None


def submission(predictions: Sequence[Prediction]) -> Table[Candidates]:
    """Join predictions into one table, the submission of the leaderboard."""
    ids = [prediction.scan_id for prediction in predictions for _ in range(len(prediction.candidates))]
    rows = Candidates.concatenate(prediction.candidates for prediction in predictions)
    return Table(np.array(ids, dtype=np.str_), rows)
