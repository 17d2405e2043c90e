"""Run commands of the package in processes forked from one that has already imported everything.

The imports of a training take longer than a small training itself. The forked process differs from a console script
in its start alone: it has its own working folder, environment, output, signals, exit status and exit handlers.
"""

import atexit
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from hydra.core.plugins import Plugins

ROOT = Path(__file__).parent.parent
# What the commands import only once they run. wandb's own import is left to the runs that use it.
HEAVY = (
    "torch", "pytorch_lightning", "scipy.ndimage", "matplotlib.figure", "matplotlib.backends.backend_agg", "SimpleITK",
    "nodule_lightning.training.module", "nodule_lightning.data.datamodule", "nodule_lightning.report.page",
)  # fmt: skip
FORKED_RANKS = "tests.warm:fork_ranks"
COMMANDS = ("train", "predict", "prepare", "evaluate", "report")


class Warm:
    """The process that has imported everything. It ends with this one, whose end of the socket then closes."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            env=environment,
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    def run(
        self,
        command: list[str],
        folder: Path | None,
        environment: Mapping[str, str],
        before: str | None,
        timeout_s: float,
    ) -> subprocess.CompletedProcess[str]:
        request = {
            "command": command,
            "folder": str(folder or Path.cwd()),
            "environment": dict(environment),
            "before": before,
        }
        pipes = [os.pipe() for _ in range(2)]
        socket.send_fds(self.socket, [json.dumps(request).encode()], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        answers = self.socket.makefile("r", encoding="utf-8")
        pid = int(answers.readline())
        timer = threading.Timer(timeout_s, os.kill, (pid, signal.SIGKILL))
        timer.start()
        texts = ["", ""]

        def read(index: int) -> None:
            with open(pipes[index][0], encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
                texts[index] = stream.read()

        readers = [threading.Thread(target=read, args=(index,)) for index in range(2)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        code = int(answers.readline())
        timer.cancel()
        return subprocess.CompletedProcess(command, code, *texts)

    def close(self) -> None:
        self.socket.close()
        self.process.wait()


@cache
def warm() -> Warm:
    made = Warm()
    atexit.register(made.close)
    return made


def run(
    command: str,
    *arguments: str | Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    before: str | None = None,
    timeout_s: float = 500,
) -> subprocess.CompletedProcess[str]:
    """Run a command until it and all processes that it has started have ended.

    Args:
        command: name after `nodule-`.
        arguments: of the command.
        folder: in which it runs; the current one if not given.
        environment: in place of this process's.
        before: `module:function` to call in the new process first, as `preexec_fn` does.
        timeout_s: after which it is killed.
    """
    script = Path(sys.executable).with_name(f"nodule-{command}")
    words = [str(script), *map(str, arguments)]
    return warm().run(words, folder, os.environ if environment is None else environment, before, timeout_s)


def fork_ranks() -> None:
    """Let torch's launcher fork the processes of a training, so that they import nothing again.

    A process starts as a new Python would start it: with the usual signal handlers and with its log.
    """
    from torch.distributed.launcher import api

    class ForkingConfig(api.LaunchConfig):
        def __post_init__(self) -> None:
            self.start_method = "fork"
            super().__post_init__()  # type: ignore[no-untyped-call]

    def reset() -> None:
        logging.disable(logging.NOTSET)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

    api.LaunchConfig = ForkingConfig  # type: ignore[misc]
    os.register_at_fork(after_in_child=reset)


def _serve(connection: socket.socket) -> None:
    while True:
        text, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
        if not text:
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become(json.loads(text), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(f"{code}\n".encode())


def _become(request: dict[str, object], descriptors: list[int]) -> NoReturn:
    """Make this process one that runs the command, to its end."""
    for descriptor, number in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    environment, command, before = request["environment"], request["command"], request["before"]
    assert isinstance(environment, dict)
    assert isinstance(command, list)
    os.environ.update(environment)
    sys.argv = command
    if isinstance(before, str):
        module, _, function = before.partition(":")
        getattr(import_module(module), function)()
    name = Path(command[0]).name.removeprefix("nodule-")
    sys.exit(import_module(f"nodule_lightning.cli.{name}").main())


if __name__ == "__main__":
    # A shell lets what it runs in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As in a command, where Hydra configures the log first: Lightning would add a handler of its own.
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    for name in (*HEAVY, *(f"nodule_lightning.cli.{command}" for command in COMMANDS)):
        import_module(name)
    logging.root.removeHandler(handler)
    # Hydra imports its plugins, optuna among them, when it looks for them first.
    Plugins.instance()
    _serve(socket.socket(fileno=int(sys.argv[1])))
