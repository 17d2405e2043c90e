"""Two processes learn what one learns from the same patches."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import warm
from tests.balls import write_balls
from tests.operations.test_ddp import SMALL, TWO_PROCESSES
from tests.ranks import ENVIRONMENT

# Group norm knows nothing of the batch; changed patches and pools of negatives are drawn for each process by itself.
COMPARABLE = (
    *SMALL,
    "model.backbone.norm=group",
    "model.backbone.dropout=0",
    "augment=none",
    "loss.pool=100000",
    "sampler.patches_per_epoch=40",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "data.test_subsets=[2]",
)


def weights(folder: Path, *arguments: str) -> dict[str, Any]:
    given = ("cache=cache", "paths.run=run", *COMPARABLE, *arguments)
    ended = warm.run("train", *given, folder=folder, environment=ENVIRONMENT, before=warm.FORKED_RANKS)
    assert ended.returncode == 0, ended.stderr
    checkpoint = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 10
    values: dict[str, Any] = checkpoint["state_dict"]
    return values


@pytest.mark.ddp
def test_ten_steps_of_two_processes_are_those_of_one_with_both_batches(tmp_path: Path) -> None:
    write_balls(tmp_path / "cache", 9)
    two = weights(tmp_path, *TWO_PROCESSES, "datamodule.batch_size=2")
    (tmp_path / "run").rename(tmp_path / "of two")
    one = weights(tmp_path, "trainer.devices=1", "datamodule.batch_size=4")
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert (two[name] - value).abs().max() < 1e-5, name
