"""Who hears SIGTERM and SIGUSR2 while Lightning trains."""

import signal
from collections.abc import Iterator

import pytest
import pytorch_lightning as pl

from nodule_lightning.training.callbacks.stop_signal import StopSignal


@pytest.fixture
def trainer() -> Iterator[pl.Trainer]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    for number, handler in before.items():
        signal.signal(number, handler)


def begun(trainer: pl.Trainer) -> StopSignal:
    """Go as far into a fit as Lightning's taking of the signals."""
    callback = StopSignal()
    callback.setup(trainer, pl.LightningModule(), "fit")
    trainer._signal_connector.register_signal_handlers()
    callback.on_train_start(trainer, pl.LightningModule())
    return callback


def fail(callback: StopSignal, trainer: pl.Trainer, exception: BaseException) -> None:
    callback.on_exception(trainer, pl.LightningModule(), exception)


def test_sigterm_stops_at_once_and_is_given_back(trainer: pl.Trainer) -> None:
    begun(trainer)
    with pytest.raises(SystemExit, match="143"):
        signal.raise_signal(signal.SIGTERM)
    assert not trainer.received_sigterm
    trainer._signal_connector.teardown()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ignored_sigterm_stays_ignored(trainer: pl.Trainer) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begun(trainer)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_an_owner_keeps_its_signal_and_a_failure_that_follows_is_none(
    trainer: pl.Trainer, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    heard: list[int] = []
    signal.signal(number, lambda number, frame: heard.append(number))
    callback = begun(trainer)
    fail(callback, trainer, RuntimeError("of its own"))
    signal.raise_signal(number)
    assert heard == [number]
    fail(callback, trainer, KeyboardInterrupt())
    with pytest.raises(SystemExit, match="143"):
        fail(callback, trainer, RuntimeError("connection closed by peer"))
    assert capsys.readouterr().err == "the job was told to stop, and another of its processes exited first\n"


def test_an_owner_that_fails_has_told_nothing(trainer: pl.Trainer) -> None:
    def refuse(number: int, frame: object) -> None:
        raise ValueError("requeued too often")

    signal.signal(signal.SIGUSR2, refuse)
    callback = begun(trainer)
    with pytest.raises(ValueError, match="too often"):
        signal.raise_signal(signal.SIGUSR2)
    fail(callback, trainer, RuntimeError("connection closed by peer"))
