"""The record of a training, `run.json`, with one section for each start of the run."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Write `run.json` when a training starts and again when it ends, in the first process only.

    Each start, the first one and every resumption, records its own configuration, steps, versions, commit and machine.
    A section that stays `running` without a process belongs to a start that was killed, or that met a full disk.

    Args:
        plan: the plan of this start.
        trainer: the trainer of the fit.
        module: the module to be fitted.
        datamodule: the data module, after `setup`.
        resumed: the checkpoint that this start resumes from; None if it starts at step 0.
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
        # A run that ends before its checkpoint is restored has no score or step of its own yet.
        record["validation"] = best_validation(trainer) or record["validation"]
        start["to_step"] = max(begun, trainer.global_step)
        try:
            write_record(path, {**record, "starts": [*earlier, {**start, **clock.read(ended=True)}]})
        except InputError:
            # A failure to write the record must not hide the error that ended the run.
            if start["status"] == "finished":
                raise


@contextmanager
def failure_recorded(folder: Path) -> Iterator[None]:
    """Record a start as failed where one of its processes fails; the first one, which writes the record, is stopped.

    Args:
        folder: of the run.
    """
    earlier = len(read_record(folder / TRAINING).get("starts", ()))
    try:
        yield
    except Exception:
        record = read_record(folder / TRAINING)
        if len(starts := record.get("starts", ())) > earlier:
            starts[-1]["status"] = "failed"
            with suppress(InputError):
                write_record(folder / TRAINING, record)
        raise


def _steps(checkpoint: Path | None) -> int:
    """Return the number of optimizer steps at a checkpoint; 0 without one."""
    return 0 if checkpoint is None else int(read_checkpoint(checkpoint)["global_step"])


def fingerprint_candidates(datamodule: "ScanDataModule") -> dict[str, str] | None:
    """Return the SHA-256 of the candidates file of a second stage; None for a detector.

    Raises:
        InputError: the file cannot be read.
    """
    from nodule_lightning.data.candidate_datamodule import CandidateDataModule

    if not isinstance(datamodule, CandidateDataModule):
        return None
    return {"sha256": fingerprint_file(datamodule.candidates)}


def best_validation(trainer: "pl.Trainer") -> dict[str, Any] | None:
    """Return the score of `best.ckpt`, with its confidence interval if the validation report has one."""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if score is None or not isfinite(score):
        return None
    reports = [callback for callback in trainer.callbacks if isinstance(callback, ValidationReport)]  # type: ignore[attr-defined]
    metrics = read_record(reports[0].folder / BEST / METRICS) if reports else {}
    # The report is of another epoch if the latest could not be written, or if the run was moved without `best.ckpt`.
    mean = metrics.get("mean")
    if mean is None or not isclose(mean, score, abs_tol=1e-6):
        metrics = {}
    return {
        "froc": float(score),
        "interval_95_percent": metrics.get("interval_95_percent"),
        "scans": metrics.get("counts", {}).get("scans"),
        "nodules": metrics.get("counts", {}).get("nodules"),
    }
