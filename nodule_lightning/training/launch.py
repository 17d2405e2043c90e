"""Run a function in one process per device with torch's elastic launcher, which also drives `torchrun`."""

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn, TypeVar
from uuid import uuid4

from nodule_lightning.errors import IncompleteError, InputError, full_disk

Result = TypeVar("Result")

# torch's elastic agent replaces the handlers of all of these and does not restore them.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


# Many times the interval at which the agent looks at its processes.
_LATER_THAN_THE_CAUSE_S: Final = 2.0


class LostProcessError(IncompleteError):
    """A process of the job was killed, or exited without reporting an error."""


def is_launched() -> bool:
    """Check whether torchrun, SLURM or another cluster launcher started this process as one of several."""
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
    """Read this process's rank from its launcher's environment variables; 0 for a single process."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def is_slurm() -> bool:
    """Check whether this process is a task of a SLURM job, or what a notebook server in such a job has started."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    # torchrun in a SLURM job counts its own processes.
    return SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()


def runs_alone(wanted: int) -> bool:
    """Check whether one process is wanted in a larger SLURM job, as in a notebook that a server has started there.

    Args:
        wanted: number of processes of the training.

    Raises:
        InputError: SLURM has started another number of tasks than is wanted.
    """
    tasks = int(os.environ.get("SLURM_NTASKS") or 1)
    if not is_slurm() or tasks == wanted:
        return False
    if wanted == 1 and not global_rank():
        return True
    raise InputError(
        f"SLURM has started {tasks} tasks, but the trainer wants {wanted} processes (devices x num_nodes); make them "
        "equal, or start one task",
        "argument-conflict",
    )


def is_first_process() -> bool:
    """Check whether this process is the one of its job that writes files."""
    # Whatever else has set a rank is no launcher.
    return not (global_rank() and is_launched())


def count_devices(accelerator: str, devices: int | str | Sequence[int]) -> int:
    """Count the devices that a Trainer with these arguments would use, without initialising any of them.

    Raises:
        MisconfigurationException: from Lightning, when the machine has no such devices.
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
    """Run a function in several processes on this machine, with the environment variables that torchrun sets.

    When one process fails or this one is stopped, the others are ended.

    Args:
        work: an importable function.
        processes: number of processes.
        arguments: positional arguments of `work`, the same in each process; picklable.

    Returns:
        The return values, in order of rank.

    Raises:
        LostProcessError: a process was killed or exited without an error; the message names its rank.
        KeyboardInterrupt: after Ctrl-C, once all processes have ended.
        SystemExit: after SIGTERM, likewise, with exit code 143.
        InputError, IncompleteError, OSError: the error of the process, with its traceback as a note; a full disk is an
            OSError, whatever wraps it.
        RuntimeError: any other error of a process; the message names it, and its traceback is a note.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory(prefix="nodule-launch-", ignore_cleanup_errors=True) as folder, _signal_handlers_restored():
        # A signal that is ignored stays ignored: SIGHUP under nohup, for example.
        heard = [number.name for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        # Earlier versions of torch take them from the environment alone.
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(heard)
        known: dict[str, Any] = (
            {"signals_to_handle": ",".join(heard)} if hasattr(LaunchConfig, "signals_to_handle") else {}
        )
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
            **known,
        )
        try:
            with _quiet_agent(), _threads_shared_among(processes):
                found = elastic_launch(launcher, _run_in_process)(work, folder, arguments)
        except SignalException as stopped:
            # A second signal breaks off the agent's own clean-up; a third must not break off this one.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            for process in multiprocessing.active_children():
                process.kill()
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
        # On a full disk only the exit code is left to report.
        with suppress(OSError):
            _error_file(Path(folder), global_rank()).write_text(json.dumps(_error_to_dict(error)), encoding="utf-8")
        # The error may follow from the loss of another process, which the agent is to see first.
        time.sleep(_LATER_THAN_THE_CAUSE_S)
        _exit_at_once(1)
    except (KeyboardInterrupt, SystemExit):
        _exit_at_once(1)


def _exit_at_once(code: int) -> NoReturn:
    """Exit without what usually happens at the end: leaving the process group, which over NCCL waits for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _error_to_dict(error: Exception) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error))
    of_system = full_disk(error) or error
    if isinstance(of_system, OSError) and of_system.errno is not None:
        name = of_system.filename and str(of_system.filename)
        return {"system": [of_system.errno, of_system.strerror, name], "trace": trace}
    if isinstance(error, InputError):
        return {"message": str(error), "key": error.key, "trace": trace}
    if isinstance(error, IncompleteError):
        return {"incomplete": str(error), "trace": trace}
    return {"message": f"{type(error).__name__}: {error}", "trace": trace}


def _error_from_dict(described: dict[str, Any]) -> Exception:
    error: Exception
    if "system" in described:
        error = OSError(*described["system"])
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
        return _error_from_dict(json.loads(file.read_text(encoding="utf-8")))
    killed = " (killed from outside, perhaps for lack of memory)" if code == -signal.SIGKILL else ""
    return LostProcessError(f"process {rank} of this job ended with code {code}{killed}")


@contextmanager
def _threads_shared_among(processes: int) -> Iterator[None]:
    """Divide the cores among the processes unless the user set OMP_NUM_THREADS: oversubscribed threads are slow."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _signal_handlers_restored() -> Iterator[None]:
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
    """Silence the agent's log: the raised error reports the same failure in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
