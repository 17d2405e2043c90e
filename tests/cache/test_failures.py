"""Killed runs, dead workers, full disks and unreadable scans: each affects only its own scan, which is named."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cache.completeness import LIST
from nodule_lightning.cache.entries import list_entries, open_entry
from nodule_lightning.cache.failures import keep_failure
from nodule_lightning.cache.replacing import LOCK
from nodule_lightning.errors import InputError
from nodule_lightning.io.processes import run_in_processes
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.preparation.filling import KILLED, Task, fill_cache, prepare_task, shard_of
from nodule_lightning.preparation.layouts import Folder
from nodule_lightning.preparation.page import write_preparation_page
from nodule_lightning.preparation.summary import summarise
from nodule_lightning.structures import Failure, Labels
from tests.cache.runs import COARSE, FILL, digest, finish, names, start, write_scans

# Each line of its input names a step; a process forked for it begins the write, and dies there.
WRITE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from nodule_lightning.cache.entries import Labels, open_entry, update_labels, write_entry
from nodule_lightning.cache.completeness import note_scans
from nodule_lightning.cache.failures import forget_failure, keep_failure
from nodule_lightning.preparation.page import write_preparation_page
from dataclasses import replace
cache, what = Path(sys.argv[1]), sys.argv[2]
calls = 0
def write_until(step):
    def die():
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
    def dying(function):
        return lambda *arguments, **named: (die(), function(*arguments, **named), die())[1]
    entry = open_entry(cache, "a")
    entry = replace(entry, ct=np.zeros_like(entry.ct))
    np.save, Path.write_text, Path.replace = dying(np.save), dying(Path.write_text), dying(Path.replace)
    Path.write_bytes, Path.mkdir, Path.unlink = dying(Path.write_bytes), dying(Path.mkdir), dying(Path.unlink)
    match what:
        case "entry":
            write_entry(cache, entry, b"a picture")
        case "labels":
            update_labels(cache, "a", Labels(str(step)))
        case "page":
            write_preparation_page(cache, {})
        case "failure":
            keep_failure(cache, "b", "cut short")
        case "forget":
            forget_failure(cache, "b")
        case "list":
            note_scans(cache, [str(step)])
for line in sys.stdin:
    child = os.fork()
    if not child:
        write_until(int(line))
        print(calls, flush=True)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        print(code if code < 0 else "failed", flush=True)
"""


@pytest.mark.parametrize(
    ("write", "steps"), [("entry", 14), ("labels", 5), ("page", 5), ("failure", 5), ("forget", 4), ("list", 5)]
)
def test_a_write_killed_at_any_step_leaves_the_old_or_the_new_and_nothing_else(
    tmp_path: Path, write: str, steps: int
) -> None:
    cache = tmp_path / "cache"
    write_scans(tmp_path / "raw", 1)
    (result,) = fill_cache(Folder(tmp_path / "raw"), cache, COARSE)
    (cache / "scans" / result.scan_id).rename(cache / "scans/a")
    old = open_entry(cache, "a").ct.sum()
    assert old > 0
    if write == "forget":
        keep_failure(cache, "b", "cut short")
    seen = set()
    writer = start(WRITE, str(cache), write)
    assert writer.stdin is not None
    assert writer.stdout is not None
    for step in range(1, 99):
        print(step, file=writer.stdin, flush=True)
        ended = int(writer.stdout.readline())
        list(fill_cache(Folder(tmp_path / "raw"), cache, COARSE, scan_ids=()))
        assert list_entries(cache) == ["a"] == names(cache / "scans")
        assert [path.name for path in cache.rglob(".*") if path.name != LOCK] == []
        entry, page = open_entry(cache, "a"), cache / "preparation.html"
        is_old = {
            "entry": entry.ct.any(),
            "labels": entry.labels.subset != str(step),
            "page": not page.exists(),
            "failure": not (cache / "failures/b.txt").exists(),
            "forget": (cache / "failures/b.txt").exists(),
            "list": str(step) not in read_scan_ids(cache / LIST),
        }
        seen.add(bool(is_old[write]))
        if ended >= 0:
            assert ended == step - 1
            break
        assert ended == -signal.SIGKILL
    finish(writer)
    assert seen == {True, False}
    assert step > steps


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    raw = write_scans(tmp_path / "raw", 8)
    whole = start(FILL, str(raw), str(tmp_path / "whole"))
    begun = time.monotonic()
    finish(whole)
    usual_s = time.monotonic() - begun
    chance = random.Random(0)
    kills = 0
    for _ in range(6):
        run = start(FILL, str(raw), str(tmp_path / "killed"))
        try:
            run.communicate(timeout=usual_s * chance.uniform(0.2, 0.6))
        except subprocess.TimeoutExpired:
            run.kill()
            kills += 1
            # Returns only when the worker processes of the killed run have ended too.
            run.communicate(timeout=60)
    assert kills >= 3
    finish(start(FILL, str(raw), str(tmp_path / "killed")))
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert len(list_entries(tmp_path / "whole")) == 8


def work_or_die(name: str) -> str:
    if "die" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} is done"


def test_a_killed_worker_loses_only_its_own_task() -> None:
    tasks = ["a", "die 1", "b", "c", "die 2", "d", "e", "f", "die 3"]
    results = list(run_in_processes(work_or_die, tasks, 2, lambda name: f"{name} was killed"))
    assert sorted(results) == sorted(f"{name} {'was killed' if 'die' in name else 'is done'}" for name in tasks)


def test_a_killed_worker_is_reported_by_the_id_of_its_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_killed(work: object, tasks: list[Task], workers: int, killed: object) -> Iterator[Failure]:
        assert callable(killed)
        return map(killed, tasks)

    monkeypatch.setattr("nodule_lightning.preparation.filling.run_in_processes", all_killed)
    raw = Folder(write_scans(tmp_path / "raw", 2))
    summary = summarise(tmp_path / "cache", raw, fill_cache(raw, tmp_path / "cache", COARSE, workers=2))
    assert summary.failed == {"scan-0": KILLED, "scan-1": KILLED}


def test_a_full_disk_loses_only_the_scans_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 3))
    save = np.save

    def full(path: Path, values: np.ndarray) -> None:
        if "scan-1" in str(path):
            raise OSError(28, "No space left on device")
        save(path, values)

    monkeypatch.setattr(np, "save", full)
    summary = summarise(tmp_path / "cache", raw, fill_cache(raw, tmp_path / "cache", COARSE))
    assert summary.prepared == ("scan-0", "scan-2")
    assert list(summary.failed) == ["scan-1"]
    assert "No space left" in summary.failed["scan-1"]
    assert names(tmp_path / "cache/scans") == ["scan-0", "scan-2"]


def test_failures_stay_in_the_cache_until_the_scan_is_prepared(tmp_path: Path) -> None:
    root = write_scans(tmp_path / "raw", 4)
    whole = (root / "scan-1.raw").read_bytes()
    for index in (0, 1):
        (root / f"scan-{index}.raw").write_bytes(b"cut short")
    raw, cache = Folder(root), tmp_path / "cache"
    for shard in range(2):
        summary = summarise(cache, raw, fill_cache(raw, cache, COARSE, shard_of(raw, shard, 2)))
        assert list(summary.failed) == [f"scan-{shard}"]
        page = write_preparation_page(cache, summary.failed)
    shown = page.read_text(encoding="utf-8")
    assert [f"<li>scan-{index}: its file " in shown for index in (0, 1)] == [True, True]
    (root / "scan-1.raw").write_bytes(whole)
    list(fill_cache(raw, cache, COARSE, ["scan-1"]))
    shown = write_preparation_page(cache, {}).read_text(encoding="utf-8")
    assert [f"<li>scan-{index}:" in shown for index in (0, 1)] == [True, False]
    assert names(cache / "failures") == ["scan-0.txt"]


def test_the_reason_of_a_failure_has_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scans(tmp_path / "Secret^Name", 1) / "scan-0.mhd"
    task = Task("scan-0", path, Labels())

    def reason() -> str:
        result = prepare_task(task, tmp_path / "cache", COARSE)
        assert isinstance(result, Failure)
        return result.reason

    def fail_with(error: Exception) -> str:
        def fail(*_: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr("nodule_lightning.io.readers.read_scan", fail)
            return reason()

    assert fail_with(InputError(f"{path}: three axes are needed", "file-damaged")) == "its file: three axes are needed"
    assert fail_with(PermissionError(13, "Permission denied", str(path))) == "PermissionError: Permission denied"
    assert fail_with(RuntimeError(f"ITK: in {path}")) == "RuntimeError"
    assert fail_with(RuntimeError("out of\nmemory")) == "RuntimeError: out of memory"
    (path.with_suffix(".raw")).unlink()
    assert reason().startswith("its file: ")
    assert str(tmp_path) not in reason()


def test_a_cache_that_cannot_be_written_is_refused_before_the_first_scan(tmp_path: Path) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        fill_cache(raw, tmp_path / "file", COARSE)
    assert error.value.key == "output-refused"
    assert str(tmp_path / "file") in str(error.value)
