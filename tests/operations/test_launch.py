"""Processes that torch's launcher starts: what they return and raise, and that none outlives the others."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.training.launch import LostProcessError, count_devices, launch, runs_alone
from tests.operations import launched
from tests.ranks import ENVIRONMENT

pytestmark = pytest.mark.ddp

SLEEPS = """
import signal
import sys
from pathlib import Path
from nodule_lightning.training.launch import launch
from tests.operations.launched import note_and_sleep

if __name__ == "__main__":
    # As nohup does it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    launch(note_and_sleep, 2, Path(sys.argv[1]))
"""


def test_each_process_returns_its_own_and_shares_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    before = signal.getsignal(signal.SIGTERM)
    assert launch(launched.give, 2, "text") == [("text", "0", "2", "3"), ("text", "1", "2", "3")]
    assert signal.getsignal(signal.SIGTERM) is before
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_input_error_keeps_its_key() -> None:
    with pytest.raises(InputError, match=r"rank \d takes no such file") as error:
        launch(launched.refuse, 2)
    assert error.value.key == "file-foreign"
    assert "in refuse" in error.value.__notes__[0]


def test_a_bug_keeps_its_name_and_traceback() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero") as error:
        launch(launched.divide, 2)
    assert "in divide" in error.value.__notes__[0]


def test_a_full_disk_is_found_among_the_causes() -> None:
    with pytest.raises(OSError, match="no space") as error:
        launch(launched.fill_the_disk, 2)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, "/full")


@pytest.mark.parametrize("how", ["asleep", "busy", "deaf", "joined"])
def test_a_killed_process_is_named_and_ends_the_others(how: str) -> None:
    began = time.monotonic()
    with pytest.raises(LostProcessError, match=r"process 1 of this job ended with code -9 \(killed from outside"):
        launch(launched.kill, 2, how)
    assert time.monotonic() - began < 100


def test_a_process_that_leaves_without_an_error_is_lost() -> None:
    with pytest.raises(LostProcessError, match="process 1 of this job ended with code 3"):
        launch(launched.leave, 2)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_no_process_outlives_the_one_that_has_launched_them(tmp_path: Path, number: signal.Signals, code: int) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text(SLEEPS)
    process = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, script, tmp_path],
        env=ENVIRONMENT, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
        process.send_signal(signal.SIGHUP)
        process.send_signal(number)
        # The pipe stays open as long as one process lives.
        _, said = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # Python itself ends a Ctrl-C that nobody has caught by the signal.
    assert process.returncode in {code, -signal.SIGINT if number == signal.SIGINT else code}, said
    for rank in ("0", "1"):
        pid = int((tmp_path / rank).read_text())
        assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        # A process whose parent was killed may wait for someone to ask for its exit code.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_devices_are_counted_as_lightning_counts_them() -> None:
    assert [count_devices("cpu", devices) for devices in (1, 3, "2", "auto")] == [1, 3, 2, 1]
    assert count_devices("tpu", 8) == 1


@pytest.mark.parametrize(
    ("tasks", "rank", "wanted", "alone"), [("4", "0", 1, True), ("1", "0", 1, False), ("2", "1", 2, False)]
)
def test_one_process_may_run_in_a_larger_slurm_job(
    monkeypatch: pytest.MonkeyPatch, tasks: str, rank: str, wanted: int, alone: bool
) -> None:
    as_in_slurm(monkeypatch, tasks, rank)
    assert runs_alone(wanted) == alone


@pytest.mark.parametrize(("rank", "wanted"), [("0", 2), ("3", 1)])
def test_other_numbers_of_slurm_tasks_are_refused(monkeypatch: pytest.MonkeyPatch, rank: str, wanted: int) -> None:
    as_in_slurm(monkeypatch, "4", rank)
    with pytest.raises(InputError) as error:
        runs_alone(wanted)
    assert error.value.key == "argument-conflict"


def test_torchrun_in_a_slurm_job_counts_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    as_in_slurm(monkeypatch, "2", "0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert not runs_alone(8)


def as_in_slurm(monkeypatch: pytest.MonkeyPatch, tasks: str, rank: str) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "spawner-jupyterhub")
    monkeypatch.setenv("SLURM_NTASKS", tasks)
    monkeypatch.setenv("SLURM_PROCID", rank)
