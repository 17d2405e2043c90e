"""Run a command as a Hydra app that accepts any path and reports an error as one line and an exit code."""

import functools
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nodule_lightning.cli._errors import explain, one_line, user_message
from nodule_lightning.cli._output import SweptOutputs
from nodule_lightning.cli._sweep import fail_job, failures, is_swept, sweep_folder
from nodule_lightning.config.quoting import quote_path_arguments
from nodule_lightning.errors import ErrorKey, IncompleteError, InputError, full_disk

Task = Callable[[DictConfig], Any]
INCOMPLETE = 1
INPUT_ERROR = 2
INTERRUPTED = 130
# Hydra's flags, and whether a value follows each.
_FLAGS: Final = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--multirun", "-m", "--run", "-r"), False),
    **dict.fromkeys(("--resolve", "--shell-completion", "-sc", "--info", "-i"), False),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"), True),
    **dict.fromkeys(("--config-dir", "-cd", "--experimental-rerun"), True),
}
_INFO: Final = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# The first words of Hydra's errors about conflicting flags.
_FLAGS_REFUSED = ("Only one of --run", "The --resolve flag", "Expecting one subcommand")


def run_application(
    task: Task,
    config_name: str,
    path_keys: Sequence[str],
    argv: Sequence[str] | None = None,
    optional_paths: Sequence[str] = (),
    list_paths: Sequence[str] = (),
    output_key: str = "output",
    overrides: Sequence[str] = (),
) -> None:
    """Compose the configuration from the command line and call the task with it.

    Exit codes: 2 for wrong user input, after one line on stderr; 1 when the task could not do all of its work; 130
    after Ctrl-C. Any other exception is a bug and keeps its traceback. A sweep continues past a failed job, lists all
    failed jobs at the end, and exits with 1.

    Args:
        task: takes the composed configuration; a sweeper optimises its return value.
        config_name: the primary configuration in `conf/`.
        path_keys: keys whose values are paths.
        argv: the command line without the program's name; defaults to that of the process.
        optional_paths: those of the keys that may be null.
        list_paths: those of the keys that may hold several paths, `[a.csv,b.csv]`.
        output_key: the key of the results' location, if the command has one; two jobs of a sweep must not share it.
        overrides: further overrides, after those of the command line.
    """
    arguments = _flags_first(sys.argv[1:] if argv is None else argv)
    given, sys.argv = sys.argv, [sys.argv[0], *quote_path_arguments(arguments, path_keys, list_paths), *overrides]
    # Otherwise Hydra prints errors and exits before this function sees them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # The user's own ./conf is on the search path, and most users have none.
    warnings.filterwarnings("ignore", message="provider=hydra.searchpath.* is not available")
    guarded = _Guard(task, path_keys, optional_paths, output_key)
    main = hydra.main(version_base="1.3", config_path="pkg://nodule_lightning.conf", config_name=config_name)
    try:
        main(functools.wraps(task)(guarded))()
        _list_failed_jobs()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        # Lightning turns Ctrl-C into an exit with code 1.
        sys.exit(INTERRUPTED if isinstance(end.__context__, KeyboardInterrupt) else end.code)
    except Exception as error:
        # Listing the failed jobs forgets the sweep.
        sweep = sweep_folder()
        # A sweeper re-raises the error of its first failed job, or complains that it has no best job.
        _list_failed_jobs()
        if guarded.has_failed:
            # On a full disk the failure could not be noted for the list.
            sys.exit(INCOMPLETE)
        if not guarded.inside:
            _refuse_composition(error, config_name, sweep)
        raise
    finally:
        sys.argv = given


class _Guard:
    """Wrap a task: check its configuration first, and turn errors that a user can fix into exit codes.

    Attributes:
        inside: whether the task is running, or has failed.
        has_failed: whether it failed as a job of a sweep, which continues.
    """

    def __init__(self, task: Task, path_keys: Sequence[str], optional_paths: Sequence[str], output_key: str) -> None:
        self.task = task
        self.path_keys = path_keys
        self.optional_paths = optional_paths
        self.output_key = output_key
        self.outputs = SweptOutputs()
        self.inside = False
        self.has_failed = False

    def __call__(self, config: DictConfig) -> Any:  # noqa: ANN401 - the task's value for a sweeper
        self.inside = True
        try:
            _require_values(config, self.path_keys, self.optional_paths)
            self._require_own_output(config)
            result = self.task(config)
        except Exception as error:
            if is_swept():
                self.has_failed = True
                fail_job(error)
            else:
                # Hydra would print a line of its own before re-raising; SystemExit passes silently.
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
    """Move flags to the front: Hydra accepts overrides only as one contiguous group."""
    flags: list[str] = []
    settings: list[str] = []
    words = iter(arguments)
    for word in words:
        name = word.partition("=")[0]
        if not word.startswith("-"):
            settings.append(word)
        elif name not in _FLAGS:
            _refuse(f"there is no flag {name}; --help says what there is", "argument-unknown")
        else:
            flags.append(word)
            if _FLAGS[name] and "=" not in word:
                if (value := next(words, None)) is None:
                    _refuse(f"a value must follow {name}; --help says what there is", "argument-missing")
                flags.append(value)
    # The value of --info is optional.
    if settings and settings[0] in _INFO and {"--info", "-i"} & set(flags):
        flags.append(settings.pop(0))
    return [*flags, *settings]


def _refuse_composition(error: Exception, config_name: str, sweep: Path | None) -> None:
    """Exit with one line if Hydra could not compose the configuration, or if one of its plugins failed to start."""
    if isinstance(error, InputError):
        _refuse(str(error), error.key)
    if (full := full_disk(error)) is not None:
        place = sweep or full.filename or Path.cwd()
        message = f"nothing more can be written to {place}: {full.strerror}; make room, and run the command again"
        print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(INCOMPLETE)
    if isinstance(error, (HydraException, OmegaConfBaseException, OSError)):
        _refuse(*explain(error, config_name))
    if str(error).startswith(_FLAGS_REFUSED):
        _refuse(str(error), "argument-conflict")
    if "Config group override" in str(error):
        _refuse("a group cannot be null: name one of its options, or leave it out", "argument-invalid")
    if type(error).__module__.startswith("submitit.") or 'Could not detect "srun"' in str(error):
        _refuse(f"SLURM does not take the job: {error}", "argument-invalid")


def _require_values(config: DictConfig, path_keys: Sequence[str], optional_paths: Sequence[str]) -> None:
    missing = sorted(_missing(OmegaConf.to_container(config)))
    if missing:
        raise InputError(
            f"missing: {' '.join(f'{key}=VALUE' for key in missing)} (--help says what each one means)",
            "argument-missing",
        )
    for key in path_keys:
        value = OmegaConf.select(config, key)
        # An unset shell variable must not stand for the current folder.
        if value == "" or (isinstance(value, ListConfig) and (not value or "" in value)):
            raise InputError(f"{key} is empty; give a path, . for this folder", "argument-invalid")
        if value is None and key not in optional_paths:
            raise InputError(f"{key} is null; give a path", "argument-missing")


def _missing(values: object, prefix: str = "") -> Iterator[str]:
    # OmegaConf.missing_keys resolves interpolations and raises at the first that refers to a missing value.
    if isinstance(values, dict):
        for name, value in values.items():
            if value == MISSING:
                yield f"{prefix}{name}"
            yield from _missing(value, f"{prefix}{name}.")


def _end(error: Exception) -> None:
    """Exit with one line, unless the error is a bug."""
    if isinstance(error, IncompleteError):
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        sys.exit(INCOMPLETE)
    if (why := user_message(error)) is not None:
        _remove_empty_run_folder()
        other: ErrorKey = "output-refused" if isinstance(error, OSError) else "argument-invalid"
        _refuse(why, error.key if isinstance(error, InputError) else other)


def _remove_empty_run_folder() -> None:
    """Remove the folder of a refused run if it holds nothing but its log."""
    settings = HydraConfig.get()
    folder, log = Path(settings.runtime.output_dir), f"{settings.job.name}.log"
    if settings.runtime.choices["hydra/output"] != "run_folder" or {path.name for path in folder.iterdir()} - {log}:
        return
    shutil.rmtree(folder)
    for parent in folder.parents:
        if Path.cwd() not in parent.parents or any(parent.iterdir()):
            break
        parent.rmdir()


def _list_failed_jobs() -> None:
    if failed := failures():
        print(f"error: {len(failed)} of the sweep's jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(INCOMPLETE)


def _refuse(message: str, key: ErrorKey) -> NoReturn:
    print(f"error: {one_line(message)} [{key}]", file=sys.stderr)
    sys.exit(INPUT_ERROR)
