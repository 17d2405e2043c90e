"""Search scans with a trained detector: raw ones, prepared on the way, or a cache's."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.models.folding import folded
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings, detect
from nodule_lightning.search.precision import Precision, computing_in
from nodule_lightning.search.rescoring import RescoringSettings, rescore
from nodule_lightning.search.scan_source import Failure, Source
from nodule_lightning.structures import Candidates, Entry, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reducer:
    """The second stage, for a detector whose scans are prepared as its own.

    Attributes:
        network: with its trained weights, in evaluation mode.
        settings: how candidates are looked at again.
    """

    network: CandidateClassifier
    settings: RescoringSettings


@dataclass(frozen=True, slots=True)
class Detector:
    """What it takes to find nodules in a scan.

    Attributes:
        network: with its trained weights, in evaluation mode.
        inference: how whole scans are searched.
        preparation: how the scans were prepared that it learnt from.
        reducer: the second stage, which looks at each candidate again and combines both probabilities.
    """

    network: DetectionNetwork
    inference: InferenceSettings
    preparation: PreparationSettings
    reducer: Reducer | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found in one scan.

    Attributes:
        scan_id: the scan.
        candidates: best first.
        grid: of the original scan.
        notes: what preparing the scan noted, say that no lung was found, and that it could not be shown.
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


Look = Callable[[Entry, Prediction], None]
"""Is shown a scan with what was found in it, while the scan is at hand; where it fails, what was found stands."""


def readied(detector: Detector, device: torch.device, *, compiled: bool = False) -> Detector:
    """Give a copy of a detector that is as quick as can be: on the device, batch norm folded, compiled on request.

    Raises:
        InputError: the network cannot be compiled here.
    """
    network = folded(detector.network).to(device)
    if compiled:
        network.compile(dynamic=True)
        side = 2 * network.stride_total
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 1, side, side, side, device=device), torch.zeros(1, 3, 2, device=device))
        except Exception as error:
            # What the compiler raises depends on what this machine lacks.
            raise InputError(f"compile=true: the network cannot be compiled here: {error}; leave it out") from None
    reducer = detector.reducer
    if reducer is not None:
        reducer = replace(reducer, network=reducer.network.to(device))
    return replace(detector, network=network, reducer=reducer)


def predict(
    detector: Detector,
    source: Source,
    workers: int = 0,
    precision: Precision = Precision.FP32,
    look: Look | None = None,
) -> Iterator[Prediction | Failure]:
    """Search one scan after the other, on the device where the detector's weights are.

    One that cannot be read or searched does not stop the others.

    Args:
        detector: what searches.
        source: the scans.
        workers: processes that read and prepare scans ahead, see `Source.entries`.
        precision: of the network.
        look: if it is to be shown the scans.
    """
    with source.entries(workers) as entries:
        for entry in entries:
            yield search_entry(detector, entry, precision, look)


def search_entry(
    detector: Detector, entry: Entry | Failure, precision: Precision, look: Look | None = None
) -> Prediction | Failure:
    """Search one scan, if it could be opened; whatever goes wrong is its own failure."""
    outcome = entry if isinstance(entry, Failure) else _search(detector, entry, precision, look)
    if isinstance(outcome, Failure) and outcome.trace:
        log.error("%s cannot be searched\n%s", outcome.scan_id, outcome.trace)
    return outcome


def _search(detector: Detector, entry: Entry, precision: Precision, look: Look | None) -> Prediction | Failure:
    try:
        with computing_in(next(detector.network.parameters()).device, precision):
            candidates = detect(detector.network, entry, detector.inference)
            if detector.reducer is not None:
                candidates = rescore(detector.reducer.network, entry, candidates, detector.reducer.settings)
        notes = tuple(entry.record.get("notes", ()))
        prediction = Prediction(entry.scan_id, candidates, entry.original_grid, notes)
    except Exception as error:
        # One scan that trips something unforeseen, or is too large for the device, must not cost the others.
        return Failure.of(entry.scan_id, error)
    return prediction if look is None else _shown(entry, prediction, look)


def _shown(entry: Entry, prediction: Prediction, look: Look) -> Prediction:
    """Show a scan; give the prediction, with a note where that went wrong."""
    try:
        look(entry, prediction)
    except Exception as error:
        # Say a full disk: a picture can be drawn again, but the candidates cost a search.
        failure = Failure.of(entry.scan_id, error)
        if failure.trace:
            log.error("%s has no picture\n%s", entry.scan_id, failure.trace)
        return replace(prediction, notes=(*prediction.notes, f"it has no picture: {failure.reason}"))
    return prediction


def submission(predictions: Sequence[Prediction]) -> Table[Candidates]:
    """Join what was found into one table, as the leaderboard takes it."""
    ids = [prediction.scan_id for prediction in predictions for _ in range(len(prediction.candidates))]
    rows = Candidates.concatenate(prediction.candidates for prediction in predictions)
    return Table(np.array(ids, dtype=np.str_), rows)
