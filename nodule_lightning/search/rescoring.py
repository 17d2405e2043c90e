"""The second stage on one prepared scan: score each candidate again, and combine both probabilities by a named rule."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from nodule_lightning.boxes import centred_start, cut_patch
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.errors import InputError
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.structures import Candidates, Entry

Probabilities = Float64[np.ndarray, "n"]


def product(detector: Probabilities, reducer: Probabilities) -> Probabilities:
    """Multiply the probabilities, as if the two stages erred independently.

    >>> product(np.array([0.9, 0.4]), np.array([0.4, 0.9])).round(2).tolist()
    [0.36, 0.36]
    """
    return np.asarray(detector * reducer)


def geometric(detector: Probabilities, reducer: Probabilities) -> Probabilities:
    """Take the geometric mean, which ranks candidates as the product does but stays on the scale of a probability.

    >>> geometric(np.array([0.9, 0.4]), np.array([0.4, 0.9])).round(2).tolist()
    [0.6, 0.6]
    """
    return np.asarray(np.sqrt(detector * reducer))


def mean(detector: Probabilities, reducer: Probabilities) -> Probabilities:
    """Take the arithmetic mean, in which one confident stage can outvote the other.

    >>> mean(np.array([0.9, 0.4]), np.array([0.4, 0.8])).round(2).tolist()
    [0.65, 0.6]
    """
    return np.asarray((detector + reducer) / 2)


def reducer_alone(detector: Probabilities, reducer: Probabilities) -> Probabilities:
    """Use the probability of the second stage alone.

    >>> reducer_alone(np.array([0.9, 0.4]), np.array([0.4, 0.8])).tolist()
    [0.4, 0.8]
    """
    return reducer


Rule = Callable[[Probabilities, Probabilities], Probabilities]

RULES: Final[Mapping[str, Rule]] = {
    "product": product,
    "geometric": geometric,
    "mean": mean,
    "reducer": reducer_alone,
}
"""The rules that `combine` may name; each takes the probabilities of detector and reducer."""


@dataclass(frozen=True, slots=True)
class RescoringSettings:
    """How candidates are scored again.

    Attributes:
        patch_voxels: side of the patch centred on a candidate, as in training.
        fill_outside_lungs: put the grey value 170 outside the lung mask, as in training.
        batch_size: candidates that go through the network together.
        combine: name of the rule in `RULES`.
    """

    patch_voxels: int = 32
    fill_outside_lungs: bool = True
    batch_size: int = 64
    combine: str = "product"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.patch_voxels < 1:
            raise InputError(
                f"rescoring needs patch_voxels and a batch_size of at least 1, "
                f"not {self.patch_voxels} and {self.batch_size}",
                "argument-invalid",
            )
        if self.combine not in RULES:
            raise InputError(f"combine must be {', '.join(RULES)}, not {self.combine!r}", "argument-invalid")


def reducer_probability(
    network: CandidateClassifier, entry: Entry, candidates: Candidates, settings: RescoringSettings
) -> Probabilities:
    """Return the second stage's own probability of each candidate, in the order of the candidates.

    The network runs in evaluation mode, on the device that holds its weights, and returns to its former mode.

    Raises:
        InputError: the entry has another voxel size than the network's.
    """
    if abs(network.spacing_mm - entry.grid.spacing_zyx_mm[0]) > 1e-3:
        raise InputError(
            f"{entry.scan_id} has voxels of {entry.grid.spacing_zyx_mm[0]} mm, the reducer needs "
            f"{network.spacing_mm} mm; prepare it again",
            "cache-settings-differ",
        )
    starts = centred_start(entry.grid.to_index(candidates.centre_xyz_mm), settings.patch_voxels)
    found = [np.zeros(0)]
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for first in range(0, len(starts), settings.batch_size):
                patches = _patches(entry, starts[first : first + settings.batch_size], settings)
                logit = network(normalise(torch.from_numpy(patches).to(device))[:, None])
                found.append(logit.float().sigmoid().double().cpu().numpy())
    finally:
        network.train(was_training)
    return np.concatenate(found)


def rescore(
    network: CandidateClassifier, entry: Entry, candidates: Candidates, settings: RescoringSettings
) -> Candidates:
    """Run the second stage and return the candidates with their combined probabilities, best first.

    Raises:
        InputError: as `reducer_probability`.
    """
    seen_again = reducer_probability(network, entry, candidates, settings)
    return combined(candidates, seen_again, settings.combine)


def combined(candidates: Candidates, reducer: Probabilities, rule: str) -> Candidates:
    """Combine both stages' probabilities by a rule of `RULES` and sort, best first; equal ones keep their order."""
    probability = RULES[rule](candidates.probability, reducer)
    return replace(candidates, probability=probability).best_first()


def _patches(entry: Entry, starts: np.ndarray, settings: RescoringSettings) -> UInt8[np.ndarray, "b z y x"]:
    side, fill = settings.patch_voxels, settings.fill_outside_lungs
    return np.stack([cut_patch(entry, start, side, fill_outside_lungs=fill) for start in starts])
