import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.commands import Runner, write_cache, write_checkpoint, write_reducer_checkpoint


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = Path(__file__).parent.parent
    folder = root / os.environ.get("NODULE_REAL_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; NODULE_REAL_DATA names the folder of the real CT")
    return folder.resolve()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute in one thread: networks this small gain nothing from more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Runner:
    """Run a command in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Runner(monkeypatch, capfd)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run (1) 训练") / "best, [1]=.ckpt")


@pytest.fixture(scope="session")
def reducer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reducer_checkpoint(tmp_path_factory.mktemp("second run") / "best (2).ckpt")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache [a,b] = 肺"), ["one", "three", "two"])
