"""What a sweep notes of its jobs that fail."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._sweep import FAILED, note_failure
from tests.commands import Runner


def note(folder: Path, number: int) -> Path:
    return folder / FAILED / f"{number}.txt"


def test_of_what_a_jobs_processes_note_the_first_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    for why in ("out of\nmemory", "connection closed"):
        note_failure(tmp_path, 3, ["seed=1"], why)
    assert note(tmp_path, 3).read_text(encoding="utf-8") == "job 3 (seed=1) failed: out of memory\n"


def test_where_nothing_can_be_noted_the_line_is_returned(tmp_path: Path) -> None:
    (tmp_path / FAILED).write_text("")
    assert note_failure(tmp_path, 3, [], "out of memory") == "job 3 () failed: out of memory"


@pytest.mark.parametrize("sweep", [True, False])
def test_a_job_that_begins_anew_forgets_its_own_note_alone(run: Runner, sweep: bool) -> None:
    """A job of SLURM that is queued again runs a second time; its note is from before."""

    def lose_machines(config: DictConfig) -> None:
        if config.seed == 1:
            for number in (0, 1, 2):
                note_failure(Path("s"), number, [], "lost its machine")

    flags, seeds = (("-m",), "1,2") if sweep else ((), "1")
    run(
        lambda: run_application(lose_machines, "train", ("cache",)), *flags, "cache=c", f"seed={seeds}", "paths.sweep=s"
    )
    assert [note(Path("s"), number).exists() for number in (0, 1, 2)] == [True, not sweep, True]
