"""Run a function in one process for each device, by torch's own launcher, which is the one behind `torchrun`."""

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from uuid import uuid4

from nodule_lightning.errors import IncompleteError, InputError, full_disk

Result = TypeVar("Result")

# The agent takes all of them, and does not give them back.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class LostProcessError(IncompleteError):
    """A process of the job was killed, or has ended without an error of its own."""


def is_launched() -> bool:
    """Tell whether torchrun, SLURM or another cluster has started this process as one of several."""
    from lightning_fabric.plugins.environments.lsf import LSFEnvironment
    from lightning_fabric.plugins.environments.mpi import MPIEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    environments = (
        TorchElasticEnvironment,
        SLURMEnvironment,
        LSFEnvironment,
        MPIEnvironment,
    )
    return any(environment.detect() for environment in environments)


def global_rank() -> int:
    """Read this process's rank from what its launcher has set; 0 where there is one process."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def count_devices(accelerator: str, devices: int | str | Sequence[int]) -> int:
    """Count the devices that a Trainer with these arguments would use, without touching any of them.

    Raises:
        MisconfigurationException: Lightning's own, where the machine has no such devices.
    """
    from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator

    kind: type[CPUAccelerator] | type[CUDAAccelerator]
    if accelerator == "cpu" or (accelerator == "auto" and not CUDAAccelerator.is_available()):
        kind = CPUAccelerator
    elif accelerator in {"auto", "gpu", "cuda"}:
        kind = CUDAAccelerator
    else:
        return 1
    if devices == "auto":
        return int(kind.auto_device_count())
    found: Any = kind.parse_devices(devices)  # type: ignore[arg-type]
    return found if isinstance(found, int) else len(found or ())


def launch(work: Callable[..., Result], processes: int, *arguments: object) -> list[Result]:
    """Run a function in several processes of this machine, with the environment that torchrun sets.

    None of them outlives the others or this process.

    Args:
        work: an importable function.
        processes: how many run it.
        arguments: of the function, the same in each process; picklable.

    Returns:
        What each process has returned, by rank.

    Raises:
        LostProcessError: one was killed, or ended without an error; names its rank.
        KeyboardInterrupt: after Ctrl-C, once all have ended.
        SystemExit: after SIGTERM, likewise, with the code 143.
        InputError, IncompleteError, OSError: as a process has raised it, with its traceback as a note; the last where a
            disk is full.
        RuntimeError: a process has raised something else; names it, and has its traceback as a note.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory(prefix="nodule-launch-", ignore_cleanup_errors=True) as folder, _signals_given_back():
        launcher = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            with _quiet_agent(), _threads_shared_among(processes):
                found = elastic_launch(launcher, _run_in_process)(work, folder, arguments)
        except SignalException as stopped:
            if stopped.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + stopped.sigval)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise _cause(Path(folder), rank, failure.exitcode) from None
    return [found[rank] for rank in range(processes)]


def _run_in_process(work: Callable[..., Result], folder: str, arguments: Sequence[object]) -> Result:
    try:
        return work(*arguments)
    except Exception as error:
        # With the disk full the process ends with its code alone.
        with suppress(OSError):
            _error_file(Path(folder), global_rank()).write_text(json.dumps(_described(error)), encoding="utf-8")
        raise


def _described(error: Exception) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error))
    if (full := full_disk(error)) is not None:
        return {"full": [full.errno, full.strerror, full.filename and str(full.filename)], "trace": trace}
    if isinstance(error, InputError):
        return {"message": str(error), "key": error.key, "trace": trace}
    if isinstance(error, IncompleteError):
        return {"incomplete": str(error), "trace": trace}
    return {"message": f"{type(error).__name__}: {error}", "trace": trace}


def _rebuilt(described: dict[str, Any]) -> Exception:
    error: Exception
    if "full" in described:
        error = OSError(*described["full"])
    elif "incomplete" in described:
        error = IncompleteError(described["incomplete"])
    elif "key" in described:
        error = InputError(described["message"], described["key"])
    else:
        error = RuntimeError(described["message"])
    error.add_note(described["trace"])
    return error


def _error_file(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank}.json"


def _cause(folder: Path, rank: int, code: int) -> Exception:
    file = _error_file(folder, rank)
    if code >= 0 and file.exists():
        return _rebuilt(json.loads(file.read_text(encoding="utf-8")))
    killed = " (killed from outside, for want of memory perhaps)" if code == -signal.SIGKILL else ""
    return LostProcessError(f"process {rank} of this job has ended with code {code}{killed}")


@contextmanager
def _threads_shared_among(processes: int) -> Iterator[None]:
    """Give each process its share of the cores, unless the user has chosen: all threads would wait for each other."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _signals_given_back() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """Keep the agent's log out of the terminal: what it says of a failure, the error says in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
