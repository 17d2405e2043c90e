"""The record of a training in its folder: `run.json`, with one section for each start of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isclose, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.evaluate import METRICS
from nodule_lightning.evaluation.provenance import describe_network, fingerprint_data, fingerprint_file
from nodule_lightning.evaluation.record import Clock, describe_software, read_record, write_record
from nodule_lightning.io.run_folder import TRAINING
from nodule_lightning.training.callbacks.validation_report import BEST, ValidationReport
from nodule_lightning.training.checkpoint import read_checkpoint
from nodule_lightning.training.configuration import write_configuration
from nodule_lightning.training.plan import TrainingPlan

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.training.module import ScoredModule


@contextmanager
def record_of_training(
    plan: TrainingPlan,
    trainer: "pl.Trainer",
    module: "ScoredModule",
    datamodule: "ScanDataModule",
    resumed: Path | None,
) -> Iterator[None]:
    """Write `run.json` at the start of a training and again at its end, in the first process only.

    Each start of the run, the first and each resumption, has its own configuration, steps, versions, code and machine.
    A start that is still `running` although its process is gone was killed, or the disk was too full to note its end.

    Args:
        plan: of this start.
        trainer: about to fit.
        module: about to be fitted.
        datamodule: after its `setup`.
        resumed: the checkpoint that this start resumes from; None where it begins with the first step.
    """
    if not trainer.is_global_zero:
        yield
        return
    path, data = plan.folder / TRAINING, fingerprint_data(datamodule.cache)
    before = read_record(path)
    if before and before.get("data") != data:
        print(f"note: {datamodule.cache} has changed since the run began, so its results cannot be reproduced")
    record = {
        "command": "nodule-train",
        "data": data,
        "candidates": fingerprint_candidates(datamodule),
        "network": describe_network(module.network),
        "validation": before.get("validation"),
    }
    earlier = [start for start in before.get("starts", ()) if isinstance(start, dict)]
    used = {
        "precision": str(trainer.precision),
        "processes": trainer.world_size,
        "device": str(trainer.strategy.root_device),
    }
    begun = _steps(resumed)
    start = {
        "status": "running",
        "configuration": write_configuration(plan.folder, plan.configuration),
        "from_step": begun,
        "to_step": None,
        **describe_software(),
        **used,
    }
    clock = Clock()
    write_record(path, {**record, "starts": [*earlier, {**start, **clock.read()}]})
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
        # A run that ends before its checkpoint is restored has no score and no step yet.
        record["validation"] = best_validation(trainer) or record["validation"]
        start["to_step"] = max(begun, trainer.global_step)
        try:
            write_record(path, {**record, "starts": [*earlier, {**start, **clock.read(ended=True)}]})
        except InputError:
            # The error that ended the run must not be hidden by a disk too full for its record.
            if start["status"] == "finished":
                raise


def _steps(checkpoint: Path | None) -> int:
    """Read how many optimizer steps a checkpoint has behind it."""
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
