from pathlib import Path

import pytest

from tests.cli.commands import Runner, write_cache, write_checkpoint, write_reducer_checkpoint


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
