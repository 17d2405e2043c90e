"""What Ctrl-C and SIGTERM do to a command, and when."""

import errno
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodule_lightning.errors import IncompleteError
from nodule_lightning.training.stopping import explain_stop, stopped_once


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, KeyboardInterrupt()), (signal.SIGTERM, SystemExit(143))], ids=["INT", "TERM"]
)
def test_the_first_stops_and_the_second_does_not_disturb_the_clean_up(
    number: signal.Signals, end: BaseException
) -> None:
    order = []

    def work() -> None:
        try:
            signal.raise_signal(number)
            order.append("worked on")
        finally:
            signal.raise_signal(number)
            order.append("put in order")

    with pytest.raises(type(end)) as raised, stopped_once():
        work()
    assert raised.value.args == end.args
    assert order == ["put in order"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_holds_a_signal_keeps_it(number: signal.Signals) -> None:
    heard: list[int] = []
    signal.signal(number, lambda number, frame: heard.append(number))
    with stopped_once():
        signal.raise_signal(number)
    assert heard == [number]
    signal.signal(number, signal.SIG_IGN)
    with stopped_once():
        signal.raise_signal(number)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_job_of_submitit_is_in_the_queue_again_after_sigterm_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")

    def end_as_lightning_does_on_ctrl_c() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(SystemExit), explain_stop(tmp_path / "checkpoints" / "last.ckpt", lambda: "again"):
        end_as_lightning_does_on_ctrl_c()
    assert capsys.readouterr().err.endswith("  again\n")
    with pytest.raises(SystemExit), explain_stop(tmp_path / "checkpoints" / "last.ckpt", lambda: "again"):
        sys.exit(143)
    assert capsys.readouterr().err.endswith("SLURM requeues the job, which continues from there\n")


@pytest.mark.parametrize("place", [None, "/elsewhere/full"])
def test_the_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str | None) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    said = f"^nothing more can be written to {place or tmp_path}: no space; .* again$"
    with (
        pytest.raises(IncompleteError, match=said),
        explain_stop(tmp_path / "checkpoints" / "last.ckpt", lambda: "again"),
    ):
        raise OSError(errno.ENOSPC, "no space", place)
