"""Read a checkpoint back as a detector or as a second stage, without running anything that the file asks for."""

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
"""Under which a checkpoint holds its version, the recipe of its network and the preparation of its scans."""

# Where classes of checkpoints from before the present layout of the package have gone.
_MOVED: Final = {
    "nodule_lightning.detection.inference.InferenceSettings": "nodule_lightning.search.inference.InferenceSettings",
    "nodule_lightning.detection.rescoring.RescoringSettings": "nodule_lightning.search.rescoring.RescoringSettings",
    "nodule_lightning.curriculum.Curriculum": "nodule_lightning.data.curriculum.Curriculum",
    "nodule_lightning.curriculum.Stage": "nodule_lightning.data.curriculum.Stage",
    "nodule_lightning.schedule.Steps": "nodule_lightning.training.schedule.Steps",
    "nodule_lightning.schedule.WarmUpAndDecay": "nodule_lightning.training.schedule.WarmUpAndDecay",
}

_NETWORK = "network."
# As many digits of a file's SHA-256 as a person compares.
_DIGITS = 12


class DamagedCheckpointError(InputError):
    """A file is no checkpoint any more, if it ever was one."""


def load_detector(path: Path) -> Detector:
    """Build the detector that a checkpoint describes, and give it its weights.

    Raises:
        InputError: the file is missing, is no checkpoint of this package, holds more than tensors and plain values,
            or its weights do not fit the model it describes.
    """
    network, inference, preparation = _built(path, "inference", "detector")
    if not isinstance(network, DetectionNetwork) or not isinstance(inference, InferenceSettings):
        raise InputError(f"{path} describes no detector; give a checkpoint that nodule-train wrote", "checkpoint-unfit")
    return Detector(network.eval(), inference, preparation)


def load_reducer(path: Path, detector: Detector, combine: str | None = None) -> Reducer:
    """Build the second stage that a checkpoint describes, and give it its weights.

    Args:
        path: the checkpoint.
        detector: whose candidates it is for; both must know scans that were prepared alike.
        combine: name of the rule that joins both probabilities; None takes the one that it was validated with.

    Raises:
        InputError: as `load_detector`, or the scans that it learnt from were prepared otherwise than the detector's.
    """
    network, rescoring, preparation = _built(path, "rescoring", "second stage (nodule-train experiment=reducer)")
    if not isinstance(network, CandidateClassifier) or not isinstance(rescoring, RescoringSettings):
        raise InputError(
            f"{path} describes no second stage; give a checkpoint that nodule-train wrote", "checkpoint-unfit"
        )
    if differing := settings_differences(detector.preparation.to_dict(), preparation.to_dict()):
        raise InputError(
            f"{path} learnt from scans that were prepared otherwise than the detector's (there and here): "
            f"{'; '.join(differing)}; train it on the detector's cache",
            "cache-settings-differ",
        )
    return Reducer(network.eval(), rescoring if combine is None else replace(rescoring, combine=combine))


def require_usable(path: Path) -> None:
    """See that a checkpoint can be read back and built, whichever stage it is of.

    Raises:
        InputError: as `load_detector`.
    """
    is_reducer = "rescoring" in read_checkpoint(path)[CHECKPOINT_KEY]["model"]
    _built(path, *(("rescoring", "second stage") if is_reducer else ("inference", "detector")))


def _built(path: Path, settings: str, what: str) -> tuple[nn.Module, object, PreparationSettings]:
    """Build the network, the named settings beside it that `what` has, and how its scans were prepared."""
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
        InputError: as for `load_detector`, but for the weights.
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
        # What torch raises depends on where in the foreign bytes it stumbles: KeyError, EOFError, EINVAL, ...
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
    about["model"] = _in_present_places(about["model"])
    return checkpoint


def _in_present_places(values: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(values, dict):
        return {
            key: _MOVED.get(value, value) if key == "_target_" else _in_present_places(value)
            for key, value in values.items()
        }
    return [_in_present_places(value) for value in values] if isinstance(values, list) else values


def _require_finite(network: torch.nn.Module) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"its weights {name} are not finite: the training had failed", "file-damaged")


def _check_bytes(path: Path) -> None:
    """Refuse weights that were damaged on the way: torch reads them without a look at their check sums."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise EOFError(f"{damaged} is damaged")


def require_recipe(path: Path, recipe: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a checkpoint of another network, optimizer or training than the one to go on with.

    Args:
        path: the checkpoint.
        recipe: the plain values that `network` and `optim` are to be built from, and those of `training`.

    Raises:
        InputError: as for `read_checkpoint`, or some settings differ; it names each with both values.
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
    """Refuse other candidates than the run began with: `best.ckpt` is chosen by what becomes of them.

    Args:
        path: the checkpoint.
        recipe: of the run to go on with; its `candidates` has the SHA-256 of the file.
        file: of the candidates; None for a detector, which has none.

    Raises:
        InputError: as for `read_checkpoint`, or the file is another one, or has changed.
    """
    there = read_checkpoint(path)[CHECKPOINT_KEY]["model"].get("candidates")
    # A checkpoint of an earlier version does not tell.
    if file is None or there is None or there == recipe["candidates"]:
        return
    before, now = (str(found["sha256"])[:_DIGITS] for found in (there, recipe["candidates"]))
    raise InputError(
        f"candidates={file} (SHA-256 {now}...) is not the file that {path} has learnt from (SHA-256 {before}...): "
        "scores on other candidates cannot be compared; resume with that file, or start a new run",
        "run-changed",
    )
