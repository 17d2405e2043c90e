"""Run one command as a Hydra app: any path is accepted, and an error is one line and an exit code."""

import errno
import functools
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from nodule_lightning.cli._errors import explain, one_line
from nodule_lightning.cli._output import SweptOutputs
from nodule_lightning.cli._sweep import (
    JobError,
    begun_sweep,
    failures,
    is_one_of_several_tasks,
    is_swept,
    note_failure,
)
from nodule_lightning.config.quoting import quote_path_arguments
from nodule_lightning.errors import ErrorKey, IncompleteError, InputError, full_disk

Task = Callable[[DictConfig], Any]
INCOMPLETE = 1
INPUT_ERROR = 2
INTERRUPTED = 130
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
# How Hydra begins what it says of flags that do not go together.
_FLAGS_REFUSED = ("Only one of --run", "The --resolve flag", "Expecting one subcommand")


def run_application(
    task: Task,
    config_name: str,
    path_keys: Sequence[str],
    argv: Sequence[str] | None = None,
    optional_paths: Sequence[str] = (),
    list_paths: Sequence[str] = (),
    output_key: str = "output",
) -> None:
    """Compose the configuration from the command line and hand it to the task.

    Ends the process with code 2 after one line on stderr where the user's input is wrong, with 1 where the task could
    not do all of its work, with 130 after Ctrl-C.
    Any other exception is a bug and keeps its traceback.
    A sweep goes on past a job that fails; its end lists them, with code 1.

    Args:
        task: takes the composed configuration; what it returns is what a sweeper optimises.
        config_name: the primary configuration in `conf/`.
        path_keys: keys whose values are paths.
        argv: the command line without the program's name; the process's own if left out.
        optional_paths: those of the keys that may be null.
        list_paths: those of the keys that may hold several paths, `[a.csv,b.csv]`.
        output_key: the key that says where the results go, if the command has one; two jobs of a sweep may not
            share it.
    """
    arguments = _flags_first(sys.argv[1:] if argv is None else argv)
    # Lightning starts its child processes from sys.argv, so they must find the quoted form there.
    sys.argv = [sys.argv[0], *quote_path_arguments(arguments, path_keys, list_paths)]
    # Without it Hydra prints and swallows what this function has to see.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    application = hydra.main(version_base="1.3", config_path="pkg://nodule_lightning.conf", config_name=config_name)
    guard = _Guard(task, path_keys, optional_paths, output_key)
    # The user's own ./conf is on the search path, and most users have none.
    warnings.filterwarnings("ignore", message="provider=hydra.searchpath.* is not available")
    try:
        application(functools.wraps(task)(guard))()
        _list_failed_jobs()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except JobError:
        _list_failed_jobs()
        # On a full disk nothing could be noted for that list.
        sys.exit(INCOMPLETE)
    except SystemExit as end:
        # Lightning turns Ctrl-C into an exit with code 1.
        sys.exit(INTERRUPTED if isinstance(end.__context__, KeyboardInterrupt) else end.code)
    except (HydraException, OmegaConfBaseException, OSError) as error:
        if guard.inside:
            raise
        _stop_on_full_disk(error)
        _refuse(explain(error, config_name))
    except (ValueError, RuntimeError) as error:
        # A sweeper that looks for the best job has found none.
        _list_failed_jobs()
        why = _wrong_choice(error)
        if guard.inside or why is None:
            raise
        _refuse(why)


class _Guard:
    """The task, with an end for wrong input that goes through Hydra's job runner without a word: SystemExit."""

    def __init__(self, task: Task, path_keys: Sequence[str], optional_paths: Sequence[str], output_key: str) -> None:
        self.task = task
        self.path_keys = path_keys
        self.optional_paths = optional_paths
        self.output_key = output_key
        self.outputs = SweptOutputs()
        self.inside = False

    def __call__(self, config: DictConfig) -> Any:  # noqa: ANN401 - whatever the task gives to a sweeper
        try:
            _require_values(config, self.path_keys, self.optional_paths)
            self._require_own_output(config)
            self.inside = True
            result = self.task(config)
        except Exception as error:
            if is_swept():
                self.inside = False
                failure = _failed_job(error)
                if is_one_of_several_tasks():
                    # Hydra would end it well, and the others would wait for it.
                    sys.exit(INCOMPLETE)
                raise failure from None
            _end(error)
            raise
        self.inside = False
        return result

    def _require_own_output(self, config: DictConfig) -> None:
        output = OmegaConf.select(config, self.output_key)
        if output is None or not is_swept():
            return
        job = OmegaConf.to_container(config)
        assert isinstance(job, dict)
        self.outputs.require_own(self.output_key, Path(output), {str(name): value for name, value in job.items()})


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """Let flags stand anywhere: Hydra takes the settings in one piece alone."""
    parser = get_args_parser()
    parser.error = lambda message: _refuse(f"{message}; --help says what there is")  # type: ignore[method-assign]
    settings: list[str] = parser.parse_intermixed_args(arguments).overrides
    flags = list(arguments)
    for setting in settings:
        flags.remove(setting)
    return [*flags, *settings]


def _wrong_choice(error: Exception) -> str | None:
    """Say what is wrong with a choice that Hydra or its plugins have refused; None where it is a bug."""
    if str(error).startswith(_FLAGS_REFUSED):
        return str(error)
    if "Config group override" in str(error):
        return "a group cannot be null: name one of its options, or leave it out"
    if type(error).__module__.startswith("submitit.") or 'Could not detect "srun"' in str(error):
        return f"SLURM does not take the job: {error}"
    return None


def _require_values(config: DictConfig, path_keys: Sequence[str], optional_paths: Sequence[str]) -> None:
    missing = sorted(_missing(OmegaConf.to_container(config)))
    if missing:
        raise InputError(f"missing: {' '.join(f'{key}=VALUE' for key in missing)} (--help says what each one means)")
    for key in path_keys:
        value = OmegaConf.select(config, key)
        # An unset shell variable must not become this folder.
        if value == "" or (isinstance(value, ListConfig) and (not value or "" in value)):
            raise InputError(f"{key} is empty; give a path, . for this folder")
        if value is None and key not in optional_paths:
            raise InputError(f"{key} is null; give a path")


def _missing(values: object, prefix: str = "") -> Iterator[str]:
    # OmegaConf.missing_keys follows interpolations and stumbles over the first that leads to a missing value.
    if isinstance(values, dict):
        for name, value in values.items():
            if value == MISSING:
                yield f"{prefix}{name}"
            yield from _missing(value, f"{prefix}{name}.")


def _remove_empty_run_folder() -> None:
    """Remove the folder of a run where nothing but its log lies in it."""
    settings = HydraConfig.get()
    folder, log = Path(settings.runtime.output_dir), f"{settings.job.name}.log"
    if settings.runtime.choices["hydra/output"] != "run_folder" or {path.name for path in folder.iterdir()} - {log}:
        return
    shutil.rmtree(folder)
    for parent in folder.parents:
        if Path.cwd() not in parent.parents or any(parent.iterdir()):
            break
        parent.rmdir()


def _end(error: Exception) -> None:
    """End the process, unless the error is a bug."""
    why = _explained(error)
    if why is None:
        return
    if isinstance(error, IncompleteError):
        print(f"error: {one_line(why)}", file=sys.stderr)
        sys.exit(INCOMPLETE)
    _remove_empty_run_folder()
    _refuse(why, error.key if isinstance(error, InputError) else None)


def _failed_job(error: Exception) -> JobError:
    """Tell and note why a job of a sweep fails; the sweeper raises what this gives when the other jobs are done."""
    why = _explained(error)
    if why is None:
        traceback.print_exception(error)
        why = f"{type(error).__name__}: {error}"
    failure = note_failure(why)
    print(f"error: {failure}", file=sys.stderr)
    return failure


def _explained(error: Exception) -> str | None:
    """Say what the user can do something about; None where it is a bug."""
    if isinstance(error, (IncompleteError, InputError, InterpolationResolutionError)):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None and error.errno in NOT_WRITABLE:
        return f"{error.filename} cannot be written: {error.strerror}"
    return None


def _list_failed_jobs() -> None:
    if failed := failures():
        print(f"error: {len(failed)} of the sweep's jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(INCOMPLETE)


def _stop_on_full_disk(error: Exception) -> None:
    """End the process where Hydra has met a full disk, before the task or between two jobs of a sweep."""
    if (full := full_disk(error)) is None:
        return
    place = begun_sweep() or full.filename or Path.cwd()
    message = f"nothing more can be written to {place}: {full.strerror}; make room, and give the command again"
    print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(INCOMPLETE)


def _refuse(message: str, key: ErrorKey | None = None) -> NoReturn:
    print(f"error: {one_line(message)}{f' [{key}]' if key else ''}", file=sys.stderr)
    sys.exit(INPUT_ERROR)
