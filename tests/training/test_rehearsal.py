"""The rehearsal goes through all that a training does, stops it where something would break, and leaves no trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from nodule_lightning.cli import train
from nodule_lightning.training import rehearsal
from nodule_lightning.training.checkpoint_io import WholeCheckpointIO
from nodule_lightning.training.module import NoduleDetector
from tests.balls import write_balls
from tests.commands import Ended, Runner

# Where SLURM is installed, Lightning says that it could be used.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The `srun` command is available")]

TRAIN = (
    "data=folder", "data.validation_fraction=0.4", "model=res_unet_narrow", "model.backbone.dropout=0.5",
    "callbacks=averaged", "augment=moderate", "optim=adamw", "trainer=debug", "trainer.limit_train_batches=4",
    "sampler.patches_per_epoch=8", "datamodule.batch_size=2", "datamodule.patch_voxels=32", "datamodule.workers=1",
    "logger=csv", "callbacks.progress=null", "++trainer.enable_progress_bar=false",
)  # fmt: skip
Go = Callable[..., Ended]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


@pytest.fixture
def go(run: Runner, cache: Path) -> Go:
    return lambda *arguments: run(train.main, f"cache={cache}", *TRAIN, *arguments)


def checkpoint(folder: str) -> dict[str, Any]:
    values: dict[str, Any] = torch.load(Path(folder, "checkpoints", "last.ckpt"), weights_only=True)
    return values


def files(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}


def test_a_run_is_the_same_to_the_bit_without_it(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[torch.Tensor] = []
    rehearse = rehearsal.rehearse

    def watched(*arguments: Any) -> float:  # noqa: ANN401 - whatever it takes
        states.append(torch.get_rng_state())
        seconds = rehearse(*arguments)
        states.append(torch.get_rng_state())
        return seconds

    monkeypatch.setattr(rehearsal, "rehearse", watched)
    Path("with/rehearsal-killed").mkdir(parents=True)
    Path("with/rehearsal-killed/left").touch()
    rehearsed = go("paths.run=with")
    assert rehearsed.code == 0, rehearsed.error
    assert "rehearsal: " in rehearsed.out
    assert torch.equal(*states)
    plain = go("paths.run=without", "rehearsal=false")
    assert plain.code == 0, plain.error
    assert "rehearsal" not in plain.out
    assert files("with") == files("without")
    one, two = checkpoint("with"), checkpoint("without")
    for part in ("state_dict", "current_model_state"):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    assert str(one["optimizer_states"]) == str(two["optimizer_states"])
    assert one["global_step"] == 4
    assert "rehearsal" not in go("paths.run=with", "trainer.max_epochs=2", "resume=true").out


def test_what_would_break_late_breaks_before_the_first_step(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenError(Exception):
        pass

    def break_off(*_: object, **__: object) -> None:
        raise BrokenError

    for owner, name in (
        (NoduleDetector, "validation_step"),
        (pl.Trainer, "save_checkpoint"),
        (WholeCheckpointIO, "save_checkpoint"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, break_off)
            with pytest.raises(BrokenError):
                go("paths.run=run")
        assert files("run") == {"train.log"}


def test_a_checkpoint_that_cannot_be_read_back_is_found_out(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    save = pl.Trainer.save_checkpoint

    def cut_short(self: pl.Trainer, filepath: str, *arguments: object) -> None:
        save(self, filepath, *arguments)  # type: ignore[arg-type]
        Path(filepath).write_bytes(Path(filepath).read_bytes()[:1000])

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", cut_short)
    ended = go("paths.run=run")
    assert ended.code == 2
    assert ended.error.splitlines()[-1].endswith("[file-damaged]")
    assert list(Path.cwd().iterdir()) == []
