"""Load checkpoints as a detector or a second stage, without running code that the file names."""

import errno
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from hydra.errors import HydraException
from torch import nn

from nodule_lightning.cache.entries import settings_differences
from nodule_lightning.config.instantiate import instantiate_trusted
from nodule_lightning.errors import ErrorKey, InputError
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.search.memory import is_out_of_memory
from nodule_lightning.search.predict import Detector, Reducer
from nodule_lightning.search.rescoring import RescoringSettings

CHECKPOINT_KEY: Final = "nodule_lightning"
"""Key of the package's own part of a checkpoint: version, network recipe, preparation settings."""

# Checkpoints of version 0.1.0 name classes by their old modules.
_MOVED: Final = {
    "nodule_lightning.detection.inference.InferenceSettings": "nodule_lightning.search.inference.InferenceSettings",
    "nodule_lightning.detection.rescoring.RescoringSettings": "nodule_lightning.search.rescoring.RescoringSettings",
    "nodule_lightning.curriculum.Curriculum": "nodule_lightning.data.curriculum.Curriculum",
    "nodule_lightning.curriculum.Stage": "nodule_lightning.data.curriculum.Stage",
    "nodule_lightning.schedule.Steps": "nodule_lightning.training.schedule.Steps",
    "nodule_lightning.schedule.WarmUpAndDecay": "nodule_lightning.training.schedule.WarmUpAndDecay",
}

_NETWORK = "network."
# Enough of a SHA-256 to compare by eye.
_DIGITS = 12


class DamagedCheckpointError(InputError):
    """The file is damaged, or was never a checkpoint."""


def load_detector(path: Path) -> Detector:
    """Build the detector that a checkpoint describes and load its weights.

    Raises:
        InputError: the file is missing, is not a checkpoint of this package, holds more than tensors and plain values,
            or its weights do not fit the model that it describes.
    """
    network, inference, preparation = _built(path, "inference", "detector")
    if not isinstance(network, DetectionNetwork) or not isinstance(inference, InferenceSettings):
        raise InputError(f"{path} describes no detector; give a checkpoint that nodule-train wrote", "checkpoint-unfit")
    return Detector(network.eval(), inference, preparation)


def load_reducer(path: Path, detector: Detector, combine: str | None = None) -> Reducer:
    """Build the second stage that a checkpoint describes and load its weights.

    Args:
        path: the checkpoint.
        detector: produces the candidates; both must be trained with the same preparation settings.
        combine: rule that combines both probabilities; None takes the rule that the checkpoint was validated with.

    Raises:
        InputError: as `load_detector`, or its scans were prepared with other settings than the detector's.
    """
    network, rescoring, preparation = _built(path, "rescoring", "second stage (nodule-train experiment=reducer)")
    if not isinstance(network, CandidateClassifier) or not isinstance(rescoring, RescoringSettings):
        raise InputError(
            f"{path} describes no second stage; give a checkpoint that nodule-train wrote", "checkpoint-unfit"
        )
    if differing := settings_differences(detector.preparation.to_dict(), preparation.to_dict()):
        raise InputError(
            f"{path} was trained on scans with other preparation settings than the detector's (there and here): "
            f"{'; '.join(differing)}; train it on the detector's cache",
            "cache-settings-differ",
        )
    return Reducer(network.eval(), rescoring if combine is None else replace(rescoring, combine=combine))


def require_usable(path: Path) -> None:
    """Check that a checkpoint of either stage can be read and built.

    Raises:
        InputError: as `load_detector`.
    """
    is_reducer = "rescoring" in read_checkpoint(path)[CHECKPOINT_KEY]["model"]
    _built(path, *(("rescoring", "second stage") if is_reducer else ("inference", "detector")))


def _built(path: Path, settings: str, what: str) -> tuple[nn.Module, object, PreparationSettings]:
    """Build the network, load its weights, and return it with its search settings and preparation settings."""
    checkpoint = read_checkpoint(path)
    model = checkpoint[CHECKPOINT_KEY]["model"]
    if "network" in model and settings not in model:
        raise InputError(f"{path} describes no {what}; give a checkpoint that nodule-train wrote", "checkpoint-unfit")
    try:
        about = checkpoint[CHECKPOINT_KEY]
        network = instantiate_trusted(about["model"]["network"])
        beside = instantiate_trusted(about["model"][settings])
        preparation = PreparationSettings.from_dict(about["preparation"])
        weights = {
            name.removeprefix(_NETWORK): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(_NETWORK)
        }
        network.load_state_dict(weights)
        _require_finite(network)
    except InputError as error:
        key: ErrorKey = error.key if error.key.startswith("file-") else "checkpoint-unfit"
        raise InputError(f"{path}: {error}; give a checkpoint that nodule-train of this version wrote", key) from None
    except (KeyError, TypeError, AttributeError, RuntimeError, HydraException) as error:
        raise InputError(
            f"{path} is a checkpoint of another model or version; give one that nodule-train wrote ({error})",
            "checkpoint-unfit",
        ) from None
    return network, beside, preparation


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this package, on the CPU.

    Raises:
        InputError: as `load_detector`, but the weights are not checked against a model.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; give a checkpoint that nodule-train wrote", "file-missing")
    try:
        _check_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise InputError(
            f"{path} is no checkpoint, or holds more than tensors and plain values and is not opened for safety; "
            "give one that nodule-train wrote",
            "file-unsafe",
        ) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(f"{path} cannot be read: out of memory", "memory-exhausted") from None
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise InputError(f"{path} cannot be read: {error.strerror}", "file-unreadable") from None
        # torch raises KeyError, EOFError, EINVAL, ... depending on where the bytes stop making sense.
        raise DamagedCheckpointError(
            f"{path} cannot be read as a checkpoint: it is cut short, damaged or something else; give one that "
            "nodule-train wrote",
            "file-damaged",
        ) from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(CHECKPOINT_KEY), dict):
        raise InputError(f"{path} is a checkpoint of another program; give one that nodule-train wrote", "file-foreign")
    about = checkpoint[CHECKPOINT_KEY]
    if not all(isinstance(about.get(name), dict) for name in ("model", "preparation")):
        raise InputError(
            f"{path} is a checkpoint of another model or version; give one that nodule-train wrote", "checkpoint-unfit"
        )
    about["model"] = _with_current_targets(about["model"])
    return checkpoint


def _with_current_targets(values: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(values, dict):
        return {
            key: _MOVED.get(value, value) if key == "_target_" else _with_current_targets(value)
            for key, value in values.items()
        }
    return [_with_current_targets(value) for value in values] if isinstance(values, list) else values


def _require_finite(network: torch.nn.Module) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"its weights {name} are not finite: the training had failed", "file-damaged")


def _check_bytes(path: Path) -> None:
    """Check the CRC of each part of the file, which torch does not."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise EOFError(f"{damaged} is damaged")


def require_recipe(path: Path, recipe: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to resume from a checkpoint with another network, optimizer or training setup.

    Args:
        path: the checkpoint.
        recipe: plain values of `network`, `optim` and `training` of the run to resume.

    Raises:
        InputError: as `read_checkpoint`, or settings differ; the message lists each with both values.
    """
    there = read_checkpoint(path)[CHECKPOINT_KEY]["model"]
    for part, what in (("network", "model"), ("optim", "optimizer"), ("training", "training")):
        if differing := settings_differences(there.get(part, {}), recipe[part]):
            raise InputError(
                f"{path} is a checkpoint of another {what} (there and wanted): {'; '.join(differing)}; "
                "resume with the arguments that the run was started with",
                "run-changed",
            )


def require_candidates(path: Path, recipe: Mapping[str, Mapping[str, Any]], file: Path | None) -> None:
    """Refuse to resume with another candidates file: scores on different candidates are not comparable.

    Args:
        path: the checkpoint.
        recipe: of the run to resume; its `candidates` holds the SHA-256 of the file.
        file: the candidates; None for a detector.

    Raises:
        InputError: as `read_checkpoint`, or the file is another one or has changed.
    """
    there = read_checkpoint(path)[CHECKPOINT_KEY]["model"].get("candidates")
    # Checkpoints of earlier versions do not record it.
    if file is None or there is None or there == recipe["candidates"]:
        return
    before, now = (str(found["sha256"])[:_DIGITS] for found in (there, recipe["candidates"]))
    raise InputError(
        f"candidates={file} (SHA-256 {now}...) is not the file that {path} was trained on (SHA-256 {before}...): "
        "scores on other candidates cannot be compared; resume with that file, or start a new run",
        "run-changed",
    )
