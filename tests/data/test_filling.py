"""Filling a cache: killed runs, two runs at once, dead workers, full disks, shards; nothing is lost."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from nodule_lightning.data.cache import Labels, list_entries, open_entry
from nodule_lightning.data.filling import KILLED, Outcome, State, Task, fill_cache, prepare_task, shard_of
from nodule_lightning.data.layouts import Folder, Luna16
from nodule_lightning.data.processes import run_in_processes
from nodule_lightning.data.replacing import LOCK, lock
from nodule_lightning.data.summary import summarise
from nodule_lightning.errors import InputError
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.prepare import PreparationSettings
from nodule_lightning.report.preparation_page import check_cache, write_preparation_page
from tests.chest import CENTRE_XYZ_MM, GRID, LUNG_RADII_XYZ_MM, ball, draw_chest, lung_centre, world_of, write_image

COARSE = PreparationSettings(spacing_mm=3.0)
FILL = """
import sys
from pathlib import Path
from nodule_lightning.data.filling import fill_cache
from nodule_lightning.data.layouts import Folder
from nodule_lightning.data.summary import summarise
from nodule_lightning.prepare import PreparationSettings
from nodule_lightning.report.preparation_page import write_preparation_page
if __name__ == "__main__":
    dataset, cache = Folder(sys.argv[1]), Path(sys.argv[2])
    outcomes = fill_cache(dataset, cache, PreparationSettings(spacing_mm=3.0), workers=2)
    write_preparation_page(cache, summarise(cache, dataset, outcomes).failed)
"""
WRITE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from nodule_lightning.data.cache import Labels, open_entry, update_labels, write_entry
from nodule_lightning.data.failures import keep_failure
from nodule_lightning.report.preparation_page import write_preparation_page
from dataclasses import replace
calls = 0
def die(*arguments, **named):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
def dying(function):
    return lambda *arguments, **named: (die(), function(*arguments, **named), die())[1]
cache = Path(sys.argv[1])
entry = open_entry(cache, "a")
entry = replace(entry, ct=np.zeros_like(entry.ct))
np.save, Path.write_text, Path.replace = dying(np.save), dying(Path.write_text), dying(Path.replace)
Path.write_bytes, Path.mkdir, Path.unlink = dying(Path.write_bytes), dying(Path.mkdir), dying(Path.unlink)
match sys.argv[3]:
    case "entry":
        write_entry(cache, entry, b"a picture")
    case "labels":
        update_labels(cache, "a", Labels(sys.argv[2]))
    case "page":
        write_preparation_page(cache, {})
    case "failure":
        keep_failure(cache, "b", "cut short")
print(calls)
"""


def write_scans(root: Path, count: int) -> Path:
    chest = draw_chest()
    for index in range(count):
        hu = chest.hu + np.random.default_rng(index).integers(-9, 9, chest.hu.shape).astype(np.int16)
        write_image(root / f"scan-{index}.mhd", hu, GRID)
    return root


def digest(cache: Path) -> dict[str, str]:
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    return {path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def finish(run: "subprocess.Popen[str]") -> None:
    out, error = run.communicate(timeout=200)
    assert run.returncode == 0, out + error


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("deed", "steps"), [("entry", 14), ("labels", 5), ("page", 5), ("failure", 5)])
def test_a_write_killed_at_any_step_leaves_the_old_or_the_new_and_nothing_else(
    tmp_path: Path, deed: str, steps: int
) -> None:
    cache = tmp_path / "cache"
    write_scans(tmp_path / "raw", 1)
    (outcome,) = fill_cache(Folder(tmp_path / "raw"), cache, COARSE)
    (cache / "scans" / outcome.scan_id).rename(cache / "scans/a")
    old = open_entry(cache, "a").ct.sum()
    assert old > 0
    seen = set()
    for step in range(1, 99):
        ended = start(WRITE, str(cache), str(step), deed)
        out, error = ended.communicate(timeout=60)
        list(fill_cache(Folder(tmp_path / "raw"), cache, COARSE, scan_ids=()))
        assert list_entries(cache) == ["a"] == names(cache / "scans")
        assert [path.name for path in cache.rglob(".*") if path.name != LOCK] == []
        entry, page = open_entry(cache, "a"), cache / "preparation.html"
        there = {
            "entry": entry.ct.any(),
            "labels": entry.labels.subset != str(step),
            "page": not page.exists(),
            "failure": not (cache / "failures/b.txt").exists(),
        }
        seen.add(bool(there[deed]))
        if ended.returncode == 0:
            assert int(out) == step - 1, error
            break
        assert ended.returncode == -signal.SIGKILL
    assert seen == {True, False}
    assert step > steps


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    raw = write_scans(tmp_path / "raw", 8)
    whole = start(FILL, str(raw), str(tmp_path / "whole"))
    begun = time.monotonic()
    finish(whole)
    usual_s = time.monotonic() - begun
    lot = random.Random(0)
    kills = 0
    for _ in range(6):
        run = start(FILL, str(raw), str(tmp_path / "killed"))
        try:
            run.communicate(timeout=usual_s * lot.uniform(0.2, 0.6))
        except subprocess.TimeoutExpired:
            run.kill()
            kills += 1
            # This ends only when the processes of the killed run have ended too.
            run.communicate(timeout=60)
    assert kills >= 3
    finish(start(FILL, str(raw), str(tmp_path / "killed")))
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert len(list_entries(tmp_path / "whole")) == 8


@pytest.mark.slow
def test_two_runs_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    raw = write_scans(tmp_path / "raw", 6)
    runs = [start(FILL, str(raw), str(tmp_path / "both")) for _ in range(2)]
    for run in runs:
        finish(run)
    finish(start(FILL, str(raw), str(tmp_path / "one")))
    assert digest(tmp_path / "both") == digest(tmp_path / "one")


def work_or_die(name: str) -> str:
    if "die" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} is done"


def test_a_killed_worker_costs_only_its_own_task() -> None:
    tasks = ["a", "die 1", "b", "c", "die 2", "d", "e", "f", "die 3"]
    results = list(run_in_processes(work_or_die, tasks, 2, lambda name: f"{name} was killed"))
    assert sorted(results) == sorted(f"{name} {'was killed' if 'die' in name else 'is done'}" for name in tasks)


def test_a_killed_worker_is_told_by_the_id_of_its_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_killed(work: object, tasks: list[Task], workers: int, killed: object) -> Iterator[Outcome]:
        assert callable(killed)
        return map(killed, tasks)

    monkeypatch.setattr("nodule_lightning.data.filling.run_in_processes", all_killed)
    raw = Folder(write_scans(tmp_path / "raw", 2))
    summary = summarise(tmp_path / "cache", raw, fill_cache(raw, tmp_path / "cache", COARSE, workers=2))
    assert summary.failed == {"scan-0": KILLED, "scan-1": KILLED}


def test_a_full_disk_costs_the_scans_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_only_outdated_entries_are_made_again(tmp_path: Path) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 3))
    assert {outcome.state for outcome in fill_cache(raw, tmp_path / "cache", COARSE)} == {State.PREPARED}
    before = digest(tmp_path / "cache")
    chest = draw_chest()
    write_image(tmp_path / "raw/scan-1.mhd", chest.hu, chest.grid)
    (tmp_path / "cache/scans/scan-2/scan.json").write_text('{"format": 2}')
    states = {outcome.scan_id: outcome.state for outcome in fill_cache(raw, tmp_path / "cache", COARSE)}
    assert states == {"scan-0": State.SKIPPED, "scan-1": State.PREPARED, "scan-2": State.PREPARED}
    after = digest(tmp_path / "cache")
    assert {name.split("/")[1] for name in after if after[name] != before[name]} == {"scan-1"}


@pytest.mark.parametrize(("count", "shards"), [(7, 3), (2, 4), (6, 1)])
def test_shards_share_the_scans_out(tmp_path: Path, count: int, shards: int) -> None:
    raw = Folder(write_scans(tmp_path / "raw", count))
    parts = [shard_of(raw, shard, shards) for shard in range(shards)]
    assert sorted(scan_id for part in parts for scan_id in part) == sorted(raw.scans)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("shard", "shards"), [(4, 4), (-1, 2), (0, 0)])
def test_a_shard_that_is_not_there_is_refused(tmp_path: Path, shard: int, shards: int) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 1))
    with pytest.raises(InputError, match=f"shard={shard} is not among the {shards} shards"):
        shard_of(raw, shard, shards)


def test_shards_of_other_settings_do_not_stand_in_each_other_s_way(tmp_path: Path) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 2))
    list(fill_cache(raw, tmp_path / "cache", COARSE))
    other = PreparationSettings(spacing_mm=4.0)
    for shard in range(2):
        outcomes = list(fill_cache(raw, tmp_path / "cache", other, shard_of(raw, shard, 2), overwrite=True))
        assert [outcome.state for outcome in outcomes] == [State.PREPARED]


def test_an_edited_header_is_noticed_however_old_it_is(tmp_path: Path) -> None:
    root = write_scans(tmp_path / "raw", 1)
    list(fill_cache(Folder(root), tmp_path / "cache", COARSE))
    before = open_entry(tmp_path / "cache", "scan-0").original_grid
    header = root / "scan-0.mhd"
    stat, text = header.stat(), header.read_text(encoding="utf-8")
    header.write_text(text.replace("2.799", "2.699").replace("2.8 ", "2.7 "))
    assert header.read_text(encoding="utf-8") != text
    os.utime(header, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert header.stat().st_size == stat.st_size
    assert [outcome.state for outcome in fill_cache(Folder(root), tmp_path / "cache", COARSE)] == [State.PREPARED]
    assert open_entry(tmp_path / "cache", "scan-0").original_grid != before


def test_a_file_that_is_older_than_another_of_its_scan_counts_too(tmp_path: Path) -> None:
    root = write_scans(tmp_path / "raw", 1)
    list(fill_cache(Folder(root), tmp_path / "cache", COARSE))
    os.utime(root / "scan-0.mhd", ns=(0, 10**9))
    assert [outcome.state for outcome in fill_cache(Folder(root), tmp_path / "cache", COARSE)] == [State.PREPARED]


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
    assert [f"<li>scan-{index}: its file cannot be read" in page.read_text(encoding="utf-8") for index in (0, 1)] == [
        True,
        True,
    ]
    (root / "scan-1.raw").write_bytes(whole)
    list(fill_cache(raw, cache, COARSE, ["scan-1"]))
    shown = write_preparation_page(cache, {}).read_text(encoding="utf-8")
    assert [f"<li>scan-{index}:" in shown for index in (0, 1)] == [True, False]
    assert names(cache / "failures") == ["scan-0.txt"]


def test_an_entry_that_another_run_is_replacing_is_waited_for(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 1)), tmp_path / "cache"
    outcomes = list(fill_cache(raw, cache, COARSE))
    entry = cache / "scans/scan-0"

    def swap(begun: Event) -> None:
        with lock(cache):
            entry.rename(entry.with_name(".old-scan-0"))
            begun.set()
            time.sleep(0.3)
            entry.with_name(".old-scan-0").rename(entry)

    task = Task("scan-0", raw.scans["scan-0"], Labels())
    reads: list[Callable[[], bool]] = [
        lambda: prepare_task(task, cache, COARSE).state == State.SKIPPED,
        lambda: summarise(cache, raw, outcomes).notes == raw.notes,
        lambda: [check.how for check in check_cache(cache)] == ["lungs"],
        lambda: "<td>scans</td><td>1</td>" in write_preparation_page(cache, {}).read_text(encoding="utf-8"),
    ]
    for read in reads:
        begun = Event()
        other = Thread(target=swap, args=(begun,))
        other.start()
        begun.wait()
        assert read()
        other.join()


def test_preparing_does_without_torch(tmp_path: Path) -> None:
    write_scans(tmp_path / "raw", 1)
    program = "import sys; sys.modules |= dict.fromkeys(['torch', 'matplotlib', 'wandb'])\n" + FILL.replace(
        "=2)", "=1)"
    )
    finish(start(program, str(tmp_path / "raw"), str(tmp_path / "cache")))
    assert list_entries(tmp_path / "cache") == ["scan-0"]


def test_why_a_scan_failed_is_said_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scans(tmp_path / "Secret^Name", 1) / "scan-0.mhd"
    task = Task("scan-0", path, Labels())

    def fail_with(error: Exception) -> str:
        def fail(_: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr("nodule_lightning.io.readers.read_scan", fail)
            return prepare_task(task, tmp_path / "cache", COARSE).reason

    assert fail_with(InputError(f"{path}: three axes are needed")) == "its file: three axes are needed"
    assert fail_with(PermissionError(13, "Permission denied", str(path))) == "PermissionError: Permission denied"
    assert fail_with(RuntimeError(f"ITK: in {path}")) == "RuntimeError"
    assert fail_with(RuntimeError("out of\nmemory")) == "RuntimeError: out of memory"
    (path.with_suffix(".raw")).unlink()
    missing = prepare_task(task, tmp_path / "cache", COARSE).reason
    assert missing == "its file: the data file that it names is missing; copy it too"


def test_a_cache_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written"):
        fill_cache(raw, tmp_path / "file", COARSE)


@pytest.fixture
def luna16(tmp_path: Path) -> Path:
    root = tmp_path / "luna16"
    chest = draw_chest()
    write_image(root / "subset0/1.2.1.mhd", chest.hu, chest.grid)
    write_image(root / "subset0/1.2.2.mhd", chest.hu, chest.grid)
    (root / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n")
    (root / "annotations_excluded.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n")
    return root


MASKED = replace(COARSE, lungs=LungSettings(source="luna16_masks"))


def write_mask(path: Path, radii_mm: float) -> None:
    world = world_of(GRID)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[ball(world, lung_centre(1), LUNG_RADII_XYZ_MM - radii_mm)] = 3
    labels[ball(world, lung_centre(-1), LUNG_RADII_XYZ_MM - radii_mm)] = 4
    labels[ball(world, CENTRE_XYZ_MM + np.array([0, 0, 70.0]), np.full(3, 8.0))] = 5
    write_image(path, labels, GRID)


def test_luna16_s_own_masks(luna16: Path, tmp_path: Path) -> None:
    write_mask(luna16 / "seg-lungs-LUNA16/1.2.1.mhd", 15)
    outcomes = list(fill_cache(Luna16(luna16), tmp_path / "cache", MASKED))
    assert [outcome.state for outcome in outcomes] == [State.PREPARED, State.PREPARED]
    masked, ruled = (open_entry(tmp_path / "cache", name) for name in ("1.2.1", "1.2.2"))
    smaller = np.prod((LUNG_RADII_XYZ_MM - 15) / LUNG_RADII_XYZ_MM)
    assert masked.record["lungs"]["left_l"] == pytest.approx(0.394 * smaller, rel=0.1)
    assert masked.record["lungs"]["right_l"] == pytest.approx(0.394 * smaller, rel=0.1)
    assert masked.grid.corners_xyz_mm()[-1, 2] < CENTRE_XYZ_MM[2] + 55
    assert ruled.record["lungs"]["left_l"] == pytest.approx(0.394, rel=0.1)
    assert "LUNA16 has no mask of it" in ruled.record["notes"][0]
    assert [outcome.state for outcome in fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)] == [State.SKIPPED] * 2
    write_mask(luna16 / "seg-lungs-LUNA16/1.2.1.mhd", 10)
    again = [outcome.state for outcome in fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)]
    assert again == [State.PREPARED, State.SKIPPED]


def test_masks_that_are_wanted_must_be_there_and_fit(luna16: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no seg-lungs-LUNA16 beside the subsets; take lungs=default"):
        fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)
    write_image(luna16 / "seg-lungs-LUNA16/1.2.1.mhd", np.zeros((5, 6, 7), np.uint8))
    failed = [outcome for outcome in fill_cache(Luna16(luna16), tmp_path / "cache", MASKED) if outcome.reason]
    assert [outcome.scan_id for outcome in failed] == ["1.2.1"]
    assert "does not lie where its scan lies" in failed[0].reason


def test_labels_are_brought_up_to_date_with_what_the_record_says_of_them(tmp_path: Path) -> None:
    path = write_scans(tmp_path / "raw", 1) / "scan-0.mhd"
    task = Task("scan-0", path, Labels())
    assert prepare_task(task, tmp_path, COARSE).state == State.PREPARED
    assert open_entry(tmp_path, "scan-0").record["nodules"] == {"annotated": 0, "in_crop": 0, "in_mask": 0}
    outside, between = CENTRE_XYZ_MM + np.array([0, 0, 900.0]), CENTRE_XYZ_MM + np.array([0, 41.0, 50.0])
    table = tmp_path / "nodules.csv"
    rows = [f"scan-0,{x},{y},{z},5" for x, y, z in (lung_centre(1), outside, between)]
    table.write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *rows, ""]))
    dataset = Folder(tmp_path / "raw", annotations=table)
    assert [outcome.state for outcome in fill_cache(dataset, tmp_path, COARSE)] == [State.SKIPPED]
    assert open_entry(tmp_path, "scan-0").record["nodules"] == {"annotated": 3, "in_crop": 2, "in_mask": 1}
