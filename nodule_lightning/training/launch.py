"""Let Lightning start the other processes of a job, one for each device, also where the job is one of a sweep.

Lightning starts them by the command line of this process. In a sweep that is the whole sweep: each child would run
all jobs again, in another folder. Here the command line is that of the one job for as long as it trains, and
afterwards nothing is left that would make the next job take itself for a child.

None of them outlives the others: each process that Lightning has started ends with the one that started it, and that
one waits for all of them and ends its job where one of them is lost. Only the first writes files.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Final, NoReturn, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import Node, OmegaConf, read_write

from nodule_lightning.cli._sweep import is_one_of_several_tasks, is_swept, note_failure
from nodule_lightning.config.instantiate import as_written
from nodule_lightning.errors import IncompleteError, InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

# Which process has started this one.
_STARTED_BY: Final = "NODULE_TRAIN_STARTED_BY"
# Where that one sees that this one is about to join it.
_MEETING: Final = "NODULE_TRAIN_MEETING"
# What Lightning tells its children by, and finds again in the next job of this process.
_RENDEZVOUS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# A child that has failed needs this long to say so.
_PATIENCE_S: Final = 20.0
_WATCH_EVERY_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.1
# As long as torch waits for those that join.
_TO_START_S: Final = 1800.0
# Over gloo the first process fails by itself when another is gone.
_TO_FAIL_S: Final = 5.0
_TO_END_S: Final = 30.0
# Where nobody listens it does nothing.
_LOST: Final = signal.SIGURG
_KILLED: Final = " (killed from outside, for want of memory perhaps)"


class LostProcessError(IncompleteError):
    """Another process of the job has ended before its time."""


def follow_the_first_process() -> None:
    """End with the process that has started this one, where one has, and leave Ctrl-C to it."""
    # Whatever else inherits the variable is no child.
    if _STARTED_BY not in os.environ or not int(os.environ.get("LOCAL_RANK", "0")):
        return
    # A terminal sends it to all of them. That one ends the others, and waits for those that are about to join it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It may be gone before this one has come here.
    Thread(target=_end_with, args=(int(os.environ[_STARTED_BY]),), daemon=True).start()


def write_files_in_the_first_process_only() -> None:
    """Close the log file of each process but the first of a job, whoever has started them."""
    from pytorch_lightning.utilities import rank_zero_only

    # Lightning's decorator knows it from whatever has started the process.
    if not getattr(rank_zero_only, "rank", 0):
        return
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)
            handler.close()


def require_startable(trainer: "pl.Trainer") -> None:
    """Refuse a job of several processes where Lightning would start them by a command line that is not this command's.

    Raises:
        InputError: a launcher other than Hydra's own has begun the job, in a process of that launcher.
    """
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

    settings, launcher = HydraConfig.get(), trainer.strategy.launcher
    own = str(settings.launcher["_target_"]).endswith(".BasicLauncher")
    started_here = (
        isinstance(launcher, _SubprocessScriptLauncher)
        and launcher.num_processes > 1
        and not launcher.cluster_environment.creates_processes_externally
    )
    if is_swept() and started_here and not own:
        raise InputError(
            f"hydra/launcher={settings.runtime.choices['hydra/launcher']} runs each job in one process, and this one "
            f"needs {trainer.world_size}: leave the launcher out, so that the jobs come one after the other, or set "
            "trainer.devices=1"
        )


@contextmanager
def child_processes_of_this_job(trainer: "pl.Trainer") -> Iterator[None]:
    """Hold the command line of the running Hydra job; leave no process, no process group and no rank behind.

    Raises:
        LostProcessError: one of the processes was killed or has failed, and this one not by itself.
    """
    given = sys.argv
    # Set by torchrun or a cluster, they are not Lightning's and stay.
    own = [name for name in _RENDEZVOUS if name not in os.environ]
    sys.argv = [given[0], *_arguments()]
    _name_folder()
    if meeting := os.environ.pop(_MEETING, None):
        _come_to(Path(meeting))
    os.environ[_STARTED_BY] = str(os.getpid())
    children: list[subprocess.Popen[bytes]] = []
    _take_over(trainer.strategy.launcher, children)
    try:
        with _watched(children):
            yield
    finally:
        sys.argv = given
        for name in (*own, _STARTED_BY):
            os.environ.pop(name, None)
        error, was_killed = sys.exception(), any(child.poll() == -signal.SIGKILL for child in children)
        # It is what lets the others fail too, and the cause has to be noted first.
        if error is None or not is_one_of_several_tasks():
            _leave_process_group(failed=error is not None)
        failed = _see_the_end_of(children, error)
        if was_killed and isinstance(error, Exception):
            # What this one says is that it has lost the other.
            raise LostProcessError("; ".join(failed)) from error
        for line in failed:
            print(f"error: {line}", file=sys.stderr, flush=True)


def _arguments() -> list[str]:
    """Give the arguments that compose this job's configuration in a process of its own."""
    settings = HydraConfig.get()
    folders = [source.path for source in settings.runtime.config_sources if source.provider == "command-line"]
    flags = ["--config-name", str(settings.job.config_name)]
    for folder in folders:
        flags += ["--config-dir", str(folder)]
    replaced = ("hydra.mode=", "hydra.run.")
    others = [text for text in settings.overrides.hydra if not text.lstrip("+").startswith(replaced)]
    number = [] if OmegaConf.is_missing(settings.job, "num") else [f"hydra.job.num={settings.job.num}"]
    return [*flags, *others, *number, *as_written(settings.overrides.task)]


def _name_folder() -> None:
    """Say the job's own folder where Lightning looks for it, so that it is right between Lightning's double quotes."""
    settings = HydraConfig.get()
    # The node is declared as the dataclass that it was made from.
    with read_write(cast(Node, settings)):
        settings.run.dir = QuotedString(settings.runtime.output_dir, Quote.double).with_quotes()[1:-1]


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: over NCCL it would wait for that one for ever."""
    while os.getppid() == parent:
        time.sleep(_WATCH_EVERY_S)
    print("error: the first process of this job is gone, and this one ends with it", file=sys.stderr, flush=True)
    os._exit(1)


def _take_over(launcher: object, children: list[subprocess.Popen[bytes]]) -> None:
    """Take the children from Lightning once it has started them, and wait here until all are about to join this one.

    Lightning's own watch over them, which looks at its list, kills this process where one has failed, and with it the
    other jobs of a sweep. And nothing interrupts torch's own wait for those that join.
    """
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    start = launcher._call_children_scripts

    def start_and_wait() -> None:
        with TemporaryDirectory(prefix="nodule-train-", ignore_cleanup_errors=True) as meeting:
            os.environ[_MEETING] = meeting
            try:
                start()
            finally:
                del os.environ[_MEETING]
                children[:], launcher.procs = launcher.procs, []
            _wait_for(children, Path(meeting))

    launcher._call_children_scripts = start_and_wait  # type: ignore[method-assign]


def _come_to(meeting: Path) -> None:
    """Tell the first process that this one is about to join it; end where that one waits no more."""
    try:
        (meeting / os.environ["LOCAL_RANK"]).touch()
    except FileNotFoundError:
        # It has lost another process, and says so.
        sys.exit(0)


def _wait_for(children: Sequence[subprocess.Popen[bytes]], meeting: Path) -> None:
    until = time.monotonic() + _TO_START_S
    while len(list(meeting.iterdir())) < len(children):
        if any(child.poll() is not None for child in children) or time.monotonic() > until:
            raise LostProcessError("; ".join(_failures(children)) or "not all processes of this job have started")
        time.sleep(_LOOK_EVERY_S)


@contextmanager
def _watched(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Interrupt this process where one that it has started is lost while it is busy or waits for it."""
    if current_thread() is not main_thread():
        yield
        return
    over = Event()

    def interrupt(*_: object) -> None:
        if sys.exception() is not None:
            # What this process ends with by itself may be why the other has ended.
            over.set()
        if not over.is_set() and (lost := _failures(children)):
            raise LostProcessError("; ".join(lost))

    before = signal.signal(_LOST, interrupt)
    watch = Thread(target=_watch, args=(children, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
        signal.signal(_LOST, before)


def _watch(children: Sequence[subprocess.Popen[bytes]], over: Event) -> None:
    while not over.wait(_WATCH_EVERY_S):
        if _failures(children) and not over.wait(_TO_FAIL_S):
            # Only the handler of a signal raises in the main thread, and what that waits for in C does not let it.
            signal.pthread_kill(cast(int, main_thread().ident), _LOST)
            if not over.wait(_TO_END_S):
                _give_up(children)


def _give_up(children: Sequence[subprocess.Popen[bytes]]) -> NoReturn:
    why = f"{'; '.join(_failures(children))}, and the first waits for it"
    try:
        print(f"error: {why}", file=sys.stderr, flush=True)
        _kill(children)
        if is_swept():
            note_failure(why)
            print("error: the sweep ends with it; its command with resume=true goes on", file=sys.stderr, flush=True)
    finally:
        os._exit(1)


def _see_the_end_of(children: Sequence[subprocess.Popen[bytes]], error: BaseException | None) -> list[str]:
    """Wait for all of the children and tell which of them have failed; kill those that take too long.

    Args:
        children: that this process has started.
        error: that it ends with; where that is Ctrl-C or SIGTERM, none of them is waited for, nor has one failed.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        _kill(children)
        return []
    until = time.monotonic() + _PATIENCE_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(until - time.monotonic(), 0))
    failed = _failures(children)
    return [*failed, *_kill(children)]


def _failures(children: Sequence[subprocess.Popen[bytes]]) -> list[str]:
    codes = {rank: child.poll() for rank, child in enumerate(children, start=1)}
    return [
        f"process {rank} of this job has ended with code {code}{_KILLED if code == -signal.SIGKILL else ''}"
        for rank, code in codes.items()
        if code
    ]


def _kill(children: Sequence[subprocess.Popen[bytes]]) -> list[str]:
    rest = {rank: child for rank, child in enumerate(children, start=1) if child.poll() is None}
    for child in rest.values():
        child.kill()
        child.wait()
    return [f"process {rank} of this job does not end by itself, and is killed" for rank in rest]


def _leave_process_group(*, failed: bool) -> None:
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if failed and distributed.get_backend() == "nccl":
        # Destroying it would wait for what the others do not do any more.
        distributed.distributed_c10d._abort_process_group()
    else:
        distributed.destroy_process_group()
