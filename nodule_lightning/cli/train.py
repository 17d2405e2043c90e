"""`nodule-train`: train a detector, or a second stage, on a prepared cache."""

import logging
import logging.config
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._sweep import is_swept
from nodule_lightning.config.instantiate import as_written, members, plain
from nodule_lightning.config.quoting import as_typed, quoted
from nodule_lightning.config.values import flag, seed
from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import LAST
from nodule_lightning.training.launch import (
    count_devices,
    global_rank,
    is_first_process,
    is_launched,
    is_slurm,
    launch,
    runs_alone,
)
from nodule_lightning.training.logged_settings import settings_to_log
from nodule_lightning.training.plan import TrainingPlan
from nodule_lightning.training.stopping import explain_stop, stopped_once

PATH_KEYS = ("cache", "candidates", "paths.output", "paths.run", "paths.sweep")
# Processes of torchrun and srun other than the first write no log file, and, outside a sweep, create no folder.
_WITHOUT_LOG: Final = ("hydra/job_logging=console",)
_WITHOUT_FILES: Final = (*_WITHOUT_LOG, "hydra/output=none")


def main() -> None:
    """Run the command."""
    overrides: tuple[str, ...] = ()
    if not is_first_process():
        overrides = _WITHOUT_LOG if {"-m", "--multirun"} & set(sys.argv) else _WITHOUT_FILES
    # Only a second stage has candidates.
    run_application(train, "train", PATH_KEYS, optional_paths=("candidates",), overrides=overrides)


def train(config: DictConfig) -> float:
    """Train in one process for each device, print the best checkpoint and return its validation FROC."""
    plan, on_stop = plan_of(config), ExitStack()
    with stopped_once(), on_stop:
        if is_first_process():
            on_stop.enter_context(explain_stop(plan.folder / LAST, lambda: continue_command(plan.folder)))
        processes = processes_to_start(plan.trainer)
        if processes == 1:
            from nodule_lightning.training.run import fit

            _close_log_files()
            return fit(plan)
        from nodule_lightning.training.record import failure_recorded

        settings = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
        with failure_recorded(plan.folder):
            return launch(train_in_process, processes, plan, settings)[0]


def train_in_process(plan: TrainingPlan, logging_settings: dict[str, Any]) -> float:
    """Run one process of a training; the first process writes the log file."""
    if not global_rank():
        # Must precede the import of Lightning, which adds its own console handler if logging is not configured.
        logging.config.dictConfig(logging_settings)
    from nodule_lightning.training.run import fit

    with stopped_once():
        return fit(plan)


def plan_of(config: DictConfig) -> TrainingPlan:
    """Turn a composed configuration into a plan of plain values.

    Raises:
        InputError: a value is invalid, or a setting would have no effect.
    """
    from nodule_lightning.training.checks import require_in_use
    from nodule_lightning.training.resuming import is_requeued

    hydra = HydraConfig.get()
    overrides = as_written(hydra.overrides.task)
    require_in_use(overrides, config)
    trainer = plain(config.trainer)
    names_folder = any(text.lstrip("+").startswith("paths.run=") for text in overrides)
    return TrainingPlan(
        # Only the first process has Hydra's output folder.
        folder=Path(
            config.paths.run if not (is_first_process() or is_swept()) else hydra.runtime.output_dir
        ).absolute(),
        seed=seed(config),
        resume=flag(config, "resume") or is_requeued(),
        rehearsal=flag(config, "rehearsal"),
        datamodule=plain(config.datamodule),
        module=plain(config.module),
        trainer=trainer,
        callbacks=tuple(members(config.callbacks)),
        loggers=tuple(members(config.logger)),
        recipe=plain(config.recipe),
        settings=settings_to_log(config, hydra.runtime.choices, trainer),
        configuration={
            "config.yaml": OmegaConf.to_yaml(config),
            "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
            "overrides.yaml": OmegaConf.to_yaml(OmegaConf.create(overrides)),
        },
        is_swept=is_swept(),
        names_folder=names_folder,
    )


def processes_to_start(trainer: Mapping[str, Any]) -> int:
    """Return how many processes this command must start: 1 if torchrun or a cluster already started them.

    Raises:
        InputError: the machine lacks the devices, several nodes are requested without a launcher, or SLURM has started
            another number of tasks.
    """
    if is_launched() and not (is_slurm() and runs_alone(_wanted(trainer))):
        return 1
    if trainer.get("num_nodes", 1) != 1:
        raise InputError(
            f"trainer.num_nodes={trainer['num_nodes']}: this command starts processes on one machine only; start it on "
            "each by torchrun or srun",
            "argument-conflict",
        )
    count = _count(trainer)
    if count < 1:
        raise InputError(f"trainer.devices={trainer['devices']} are no devices; name one at least", "argument-invalid")
    if count > 1:
        _require_own_launcher(count)
    return count


def _wanted(trainer: Mapping[str, Any]) -> int:
    return _count(trainer) * int(trainer.get("num_nodes", 1))


def _count(trainer: Mapping[str, Any]) -> int:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        return count_devices(str(trainer["accelerator"]), trainer["devices"])
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"the trainer cannot be made: {error}", "device-unavailable") from None


def _require_own_launcher(processes: int) -> None:
    """Refuse more processes in a job that another launcher than Hydra's own runs in a process of that launcher."""
    hydra = HydraConfig.get()
    if is_swept() and not str(hydra.launcher["_target_"]).endswith(".BasicLauncher"):
        raise InputError(
            f"hydra/launcher={hydra.runtime.choices['hydra/launcher']} runs each job in one process, and this one "
            f"needs {processes}: leave the launcher out, so that the jobs come one after the other, or set "
            "trainer.devices=1",
            "argument-conflict",
        )


def continue_command(folder: Path) -> str:
    """Return the running command for a shell, with its run folder, and `resume=true` if the run has started."""
    from nodule_lightning.training.resuming import has_begun

    if "SUBMITIT_EXECUTOR" in os.environ:
        return "the command of the sweep and resume=true"
    key, place = ("paths.sweep", HydraConfig.get().sweep.dir) if is_swept() else ("paths.run", str(folder))
    named = f"{key}={quoted(os.path.relpath(place))}"
    given = [text for text in sys.argv[1:] if not text.lstrip("+").startswith((f"{key}=", "resume="))]
    resume = ["resume=true"] if is_swept() or has_begun(folder) else []
    command = shlex.join([*as_typed([*given, named], PATH_KEYS), *resume])
    return f"the same launcher and {command}" if is_launched() else f"{Path(sys.argv[0]).name} {command}"


def _close_log_files() -> None:
    """Close the log file that Hydra opened in this process, unless it is the first of its job."""
    if is_first_process():
        return
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)
            handler.close()


if __name__ == "__main__":
    main()
