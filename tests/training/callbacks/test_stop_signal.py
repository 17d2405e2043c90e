"""Who hears SIGTERM and SIGUSR2 while Lightning trains."""

import signal
from collections.abc import Callable, Iterator

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from nodule_lightning.training.callbacks.stop_signal import StopSignal

pytestmark = [
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class OneWeight(pl.LightningModule):
    """Fits one weight to one batch, and does something else in the middle of the step."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.act = act

    def training_step(self, batch: list[Tensor]) -> Tensor:
        self.act()
        loss: Tensor = self.layer(batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(act: Callable[[], None], callback: StopSignal | None = None) -> pl.Trainer:
    """Train for one step with the callback, and act in it."""
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[StopSignal() if callback is None else callback],
    )
    trainer.fit(OneWeight(act), DataLoader(TensorDataset(torch.ones(1, 1))))
    return trainer


def fail(callback: StopSignal, exception: BaseException) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    callback.on_exception(trainer, pl.LightningModule(), exception)


def test_sigterm_stops_at_once_and_is_given_back() -> None:
    after: list[str] = []

    def act() -> None:
        signal.raise_signal(signal.SIGTERM)
        after.append("Lightning's own handler would let the step end")

    with pytest.raises(SystemExit, match="143"):
        fit(act)
    assert after == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ignored_sigterm_stays_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    trainer = fit(lambda: signal.raise_signal(signal.SIGTERM))
    assert not trainer.received_sigterm
    assert trainer.global_step == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_an_owner_keeps_its_signal_and_a_failure_that_follows_is_none(
    capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    heard: list[int] = []
    signal.signal(number, lambda number, frame: heard.append(number))
    callback = StopSignal()

    def act() -> None:
        fail(callback, RuntimeError("of its own"))
        signal.raise_signal(number)
        assert heard == [number]
        fail(callback, KeyboardInterrupt())
        capsys.readouterr()
        raise RuntimeError("connection closed by peer")

    with pytest.raises(SystemExit, match="143"):
        fit(act, callback)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_owner_that_fails_has_told_nothing() -> None:
    def refuse(number: int, frame: object) -> None:
        raise ValueError("requeued too often")

    signal.signal(signal.SIGUSR2, refuse)
    callback = StopSignal()
    with pytest.raises(ValueError, match="too often"):
        fit(lambda: signal.raise_signal(signal.SIGUSR2), callback)
    fail(callback, RuntimeError("connection closed by peer"))
