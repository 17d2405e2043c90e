"""What a sweep notes of its jobs that fail."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._sweep import FAILED, forget_failure, note_failure_of
from tests.commands import Runner


def note(folder: Path, number: int) -> Path:
    return folder / FAILED / f"{number}.txt"


def test_the_first_note_holds_also_where_no_process_has_seen_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    for why in ("out of memory", "connection closed"):
        note_failure_of(tmp_path, 3, ["seed=1"], why)
    assert note(tmp_path, 3).read_text(encoding="utf-8") == "job 3 (seed=1) failed: out of memory\n"


def test_where_nothing_can_be_noted_the_error_holds(tmp_path: Path) -> None:
    (tmp_path / FAILED).write_text("")
    assert str(note_failure_of(tmp_path, 3, [], "out of memory")) == "job 3 () failed: out of memory"


@pytest.mark.parametrize("sweep", [True, False])
def test_a_job_forgets_what_it_has_noted_itself_alone(run: Runner, sweep: bool) -> None:
    for number in (0, 1):
        note_failure_of(Path("s"), number, [], "lost its machine")

    def forget(config: DictConfig) -> None:
        for number in (0, 1):
            note_failure_of(Path("s"), number, [], "lost its machine")
        forget_failure()
        # Nothing is there any more.
        forget_failure()

    flags = ("-m",) if sweep else ()
    run(lambda: run_application(forget, "train", ("cache",)), *flags, "cache=c", "seed=1", "paths.sweep=s")
    assert note(Path("s"), 0).exists() is not sweep
    assert note(Path("s"), 1).exists()
