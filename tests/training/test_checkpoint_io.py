"""A checkpoint is whole, or it is the one before."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import drafts_of
from nodule_lightning.training import checkpoint_io
from nodule_lightning.training.checkpoint_io import WholeCheckpointIO
from tests.operations.full_disk import fill_disk

WRITE_UNTIL_THE_KERNEL_KILLS = """
import resource, signal, sys, torch
from nodule_lightning.training.checkpoint_io import WholeCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
WholeCheckpointIO().save_checkpoint({"weights": torch.ones(500_000)}, sys.argv[1])
"""


def test_killed_while_it_is_written_it_is_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = WholeCheckpointIO()
    writer.save_checkpoint({"weights": torch.zeros(500_000)}, path)
    command = [sys.executable, "-c", WRITE_UNTIL_THE_KERNEL_KILLS, str(path)]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.load(path, weights_only=True)["weights"].any()
    # The next one clears up.
    writer.save_checkpoint({"weights": torch.ones(2)}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True)["weights"].tolist() == [1, 1]


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as error:
        WholeCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")
    assert error.value.key == "output-refused"
    assert str(tmp_path / "file" / "last.ckpt") in str(error.value)


def test_on_a_full_disk_it_is_the_one_before_and_torch_says_what_the_disk_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"weights": torch.zeros(2)}, path)
    monkeypatch.setitem(vars(checkpoint_io), "drafts_of", drafts_of)
    fill_disk()
    with pytest.raises(InputError, match="No space left on device") as raised:
        WholeCheckpointIO().save_checkpoint({"weights": torch.ones(500_000)}, path)
    assert raised.value.key == "disk-full"
    assert isinstance(raised.value.__cause__, OSError)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True)["weights"].tolist() == [0, 0]
