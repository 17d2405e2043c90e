"""A process of several that dies takes the others with it, and its error is seen."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodule_lightning.evaluation.record import read_record
from tests import warm
from tests.balls import write_balls
from tests.operations.test_ddp import SMALL, TWO_PROCESSES
from tests.ranks import ENVIRONMENT

pytestmark = pytest.mark.ddp

FAILING = "+callbacks.failing._target_=tests.operations.failing_rank.FailingRank"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    said: str
    seconds_after_failure: float


def run_to_the_end(folder: Path, *arguments: str) -> tuple[int, str]:
    """Train until the last process is gone; give the code of the first, and what all have said."""
    given = (*arguments, "rehearsal=false", *SMALL, *TWO_PROCESSES)
    ended = warm.run("train", *given, folder=folder, environment=ENVIRONMENT, before=warm.FORKED_RANKS, timeout_s=240)
    return ended.returncode, ended.stdout + ended.stderr


def end(folder: Path, *arguments: str) -> Ended:
    code, said = run_to_the_end(folder, *arguments)
    return Ended(code, said, time.time() - float((folder / "failed").read_text(encoding="utf-8")))


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_all_and_is_shown(cache: Path, tmp_path: Path, rank: int) -> None:
    how = (FAILING, f"+callbacks.failing.rank={rank}", "+callbacks.failing.how=raise")
    ended = end(tmp_path, f"cache={cache}", "paths.run=run", *how)
    assert ended.code not in {0, -signal.SIGKILL}
    assert f"ZeroDivisionError: nothing is left on rank {rank}" in ended.said
    assert ended.seconds_after_failure < 60


def test_a_killed_process_ends_all_and_is_named(cache: Path, tmp_path: Path) -> None:
    how = (FAILING, "+callbacks.failing.rank=1", "+callbacks.failing.how=kill")
    ended = end(tmp_path, f"cache={cache}", "paths.run=run", *how)
    assert ended.code not in {0, -signal.SIGKILL}
    assert "error: process 1 of this job ended with code -9" in ended.said
    assert ended.seconds_after_failure < 60


@pytest.mark.parametrize(
    "lost",
    [
        (FAILING, "+callbacks.failing.rank=1", "+callbacks.failing.how=busy", "+callbacks.failing.step=1,99"),
        (FAILING, "+callbacks.failing.rank=1", "+callbacks.failing.how=deaf", "+callbacks.failing.step=1,99"),
        ("+callbacks.failing._target_=tests.operations.failing_rank.FailingStart", "+callbacks.failing.rank=1,99"),
    ],
    ids=["while the first is busy", "while the first waits in C", "before it has started"],
)
def test_a_sweep_goes_on_past_a_job_that_has_lost_a_process(cache: Path, tmp_path: Path, lost: tuple[str, ...]) -> None:
    code, said = run_to_the_end(tmp_path, "-m", f"cache={cache}", "paths.sweep=sweep", *lost)
    assert code == 1, said
    headline, line = said.splitlines()[-2:]
    assert headline == "error: 1 of the sweep's jobs failed:"
    assert line.startswith("  job 0 (")
    assert "failed: process 1 of this job ended with code -9 (killed from outside" in line
    assert "Traceback" not in said
    assert read_record(tmp_path / "sweep" / "1" / "run.json")["starts"][-1]["status"] == "finished"
    assert (tmp_path / "sweep" / "1" / "checkpoints" / "best.ckpt").exists()
