"""Keep the record of a run in its folder: `run.json` of a training, `prediction.json` of a search."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isclose, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.evaluate import METRICS
from nodule_lightning.evaluation.provenance import (
    describe_code,
    describe_machine,
    describe_network,
    describe_versions,
    fingerprint_data,
    fingerprint_file,
)
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.run_folder import PREDICTION, TRAINING
from nodule_lightning.training.callbacks.validation_report import BEST, ValidationReport
from nodule_lightning.training.configuration import write_configuration

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.search.predict import Detector
    from nodule_lightning.training.module import ScoredModule


@contextmanager
def record_of_training(
    folder: Path,
    config: DictConfig,
    trainer: "pl.Trainer",
    module: "ScoredModule",
    datamodule: "ScanDataModule",
    resumed: Path | None,
) -> Iterator[None]:
    """Write `run.json` at the start and again at the end, by the first process alone.

    Each start of the run, the first and each that resumed it, is told with its own configuration, steps, versions, code
    and machine. One that is still `running` when its process is gone was killed, or met a disk too full to say how it
    ended.

    Args:
        folder: of the run.
        config: of this start.
        trainer: about to fit.
        module: about to be fitted.
        datamodule: after its `setup`.
        resumed: the checkpoint that this start goes on from; None where it begins with the first step.
    """
    if not trainer.is_global_zero:
        yield
        return
    path, data = folder / TRAINING, fingerprint_data(datamodule.cache)
    before = read_record(path)
    if before and before.get("data") != data:
        print(f"note: {datamodule.cache} has changed since the run began, so what it gives cannot be had again")
    record = {
        "command": "nodule-train",
        "data": data,
        "candidates": fingerprint_candidates(datamodule),
        "network": describe_network(module.network),
        "validation": before.get("validation"),
    }
    earlier = [start for start in before.get("starts", ()) if isinstance(start, dict)]
    used = {"precision": str(trainer.precision), "processes": trainer.world_size, "device": _device(trainer)}
    begun = _steps(resumed)
    start = {
        "status": "running",
        "configuration": write_configuration(folder, config),
        "from_step": begun,
        "to_step": None,
        **_made_of(),
        **used,
    }
    clock = _Clock()
    _write(path, {**record, "starts": [*earlier, {**start, **clock.told()}]})
    try:
        yield
        start["status"] = "finished"
    # Lightning turns Ctrl-C and SIGTERM into an exit.
    except (KeyboardInterrupt, SystemExit):
        start["status"] = "stopped"
        raise
    except BaseException:
        start["status"] = "failed"
        raise
    finally:
        # Where it ends before the checkpoint is restored, the trainer knows of no score and no step.
        record["validation"] = best_validation(trainer) or record["validation"]
        start["to_step"] = max(begun, trainer.global_step)
        try:
            _write(path, {**record, "starts": [*earlier, {**start, **clock.told(ended=True)}]})
        except InputError:
            # What ended the run is told even where the disk is too full for this.
            if start["status"] == "finished":
                raise


def _steps(checkpoint: Path | None) -> int:
    """Give the optimizer's steps that a checkpoint has behind it."""
    from nodule_lightning.training.checkpoint import read_checkpoint

    return 0 if checkpoint is None else int(read_checkpoint(checkpoint)["global_step"])


def fingerprint_candidates(datamodule: "ScanDataModule") -> dict[str, str] | None:
    """Give the SHA-256 of the file of candidates that a second stage learns from; None for a detector, without one.

    Raises:
        InputError: the file cannot be read.
    """
    from nodule_lightning.data.candidate_datamodule import CandidateDataModule

    if not isinstance(datamodule, CandidateDataModule):
        return None
    return {"sha256": fingerprint_file(datamodule.candidates)}


def record_of_search(
    folder: Path, checkpoint: Path, reducer: Path | None, detector: "Detector", how: Mapping[str, Any]
) -> Callable[[int, int], None]:
    """Start the clock of a search; gives the function that writes `prediction.json` at its end.

    That function takes the number of scans that were searched and of those that failed.

    Args:
        folder: of the submission.
        checkpoint: what the detector was read from, perhaps in the folder of its training.
        reducer: checkpoint of the second stage, if there is one.
        detector: as the checkpoints have it, both stages.
        how: the options of the search, in plain values.
    """
    clock = _Clock()
    rule = None if detector.reducer is None else detector.reducer.settings.combine
    # Now: a training that goes on may have written others before the search has ended.
    digests = {
        "checkpoint": {"sha256": fingerprint_file(checkpoint)},
        "reducer": None if reducer is None else {"sha256": fingerprint_file(reducer), "combine": rule},
    }

    def write(searched: int, failed: int) -> None:
        training = read_record(checkpoint.parent.parent / TRAINING).get("validation")
        record = {
            "command": "nodule-predict",
            **digests,
            "training": training if isinstance(training, dict) else None,
            "network": describe_network(detector.network),
            "scans": searched,
            "failed": failed,
            **how,
            **clock.told(ended=True),
            **_made_of(),
        }
        _write(folder / PREDICTION, record)

    return write


class _Clock:
    """Tell when something started and ended, and how long it took by a clock that nobody sets."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._ticks = time.monotonic()

    def told(self, *, ended: bool = False) -> dict[str, Any]:
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds") if ended else None,
            "seconds": round(time.monotonic() - self._ticks, 1) if ended else None,
        }


def _made_of() -> dict[str, Any]:
    return {"versions": describe_versions(), "code": describe_code(), "machine": describe_machine()}


def _device(trainer: "pl.Trainer") -> str:
    return str(trainer.strategy.root_device)


def best_validation(trainer: "pl.Trainer") -> dict[str, Any] | None:
    """Give the score of `best.ckpt`, with its interval where the report of the validation has one."""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if score is None or not isfinite(score):
        return None
    reports = [callback for callback in trainer.callbacks if isinstance(callback, ValidationReport)]  # type: ignore[attr-defined]
    metrics = read_record(reports[0].folder / BEST / METRICS) if reports else {}
    # A report that could not be written, or whose `best.ckpt` was left behind, is of another epoch.
    mean = metrics.get("mean")
    if mean is None or not isclose(mean, score, abs_tol=1e-6):
        metrics = {}
    return {
        "froc": float(score),
        "interval_95_percent": metrics.get("interval_95_percent"),
        "scans": metrics.get("counts", {}).get("scans"),
        "nodules": metrics.get("counts", {}).get("nodules"),
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read what is there of a record; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, record: Mapping[str, Any]) -> None:
    write_whole(path, (json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())
