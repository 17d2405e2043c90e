"""Filling a cache: only missing or outdated scans, in shards, beside other runs, and from given lung masks."""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from nodule_lightning.cache.entries import list_entries, open_entry
from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.io.settings import ReadingSettings
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.preparation.filling import PreparedScan, Task, fill_cache, prepare_task, shard_of
from nodule_lightning.preparation.layouts import Folder, Luna16
from nodule_lightning.preparation.page import check_cache, write_preparation_page
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.preparation.summary import summarise
from nodule_lightning.structures import Failure, Labels
from tests.cache.runs import COARSE, FILL, digest, finish, start, write_scans
from tests.chest import (
    CENTRE_XYZ_MM,
    GRID,
    LUNG_RADII_XYZ_MM,
    ball,
    draw_chest,
    lung_centre,
    world_of,
    write_dicom,
    write_image,
)


@pytest.mark.slow
def test_two_runs_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    raw = write_scans(tmp_path / "raw", 6)
    runs = [start(FILL, str(raw), str(tmp_path / "both")) for _ in range(2)]
    for run in runs:
        finish(run)
    finish(start(FILL, str(raw), str(tmp_path / "one")))
    assert digest(tmp_path / "both") == digest(tmp_path / "one")


def skipped(results: Iterable[PreparedScan | Failure]) -> list[bool]:
    """Return which scans were up to date already; none may have failed."""
    done = []
    for result in results:
        assert isinstance(result, PreparedScan), result
        done.append(result.skipped)
    return done


def test_only_outdated_entries_are_prepared_again(tmp_path: Path) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 3))
    assert skipped(fill_cache(raw, tmp_path / "cache", COARSE)) == [False] * 3
    before = digest(tmp_path / "cache")
    chest = draw_chest()
    write_image(tmp_path / "raw/scan-1.mhd", chest.hu, chest.grid)
    (tmp_path / "cache/scans/scan-2/scan.json").write_text('{"format": 2}')
    assert list(fill_cache(raw, tmp_path / "cache", COARSE)) == [
        PreparedScan("scan-0", skipped=True),
        PreparedScan("scan-1"),
        PreparedScan("scan-2"),
    ]
    after = digest(tmp_path / "cache")
    assert {name.split("/")[1] for name in after if after[name] != before[name]} == {"scan-1"}


def test_an_entry_that_was_read_otherwise_is_prepared_again(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 1)), tmp_path / "cache"
    assert skipped(fill_cache(raw, cache, COARSE)) == [False]
    # Entries of earlier versions do not say how they were read: strictly.
    path = cache / "scans/scan-0/scan.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    for key in ("reading", "doubts"):
        del description["record"][key]
    path.write_text(json.dumps(description), encoding="utf-8")
    assert skipped(fill_cache(raw, cache, COARSE)) == [True]
    before = open_entry(cache, "scan-0").ct.max()
    for reading in (ReadingSettings(offset_hu=-200), ReadingSettings(lenient=True), ReadingSettings()):
        assert skipped(fill_cache(raw, cache, COARSE, reading=reading)) == [False]
        assert skipped(fill_cache(raw, cache, COARSE, reading=reading)) == [True]
        assert (open_entry(cache, "scan-0").ct.max() < before) == (reading.offset_hu is not None)


@pytest.mark.parametrize(("count", "shards"), [(7, 3), (2, 4), (6, 1)])
def test_shards_share_the_scans_out(tmp_path: Path, count: int, shards: int) -> None:
    raw = Folder(write_scans(tmp_path / "raw", count))
    parts = [shard_of(raw, shard, shards) for shard in range(shards)]
    assert sorted(scan_id for part in parts for scan_id in part) == sorted(raw.scans)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("shard", "shards"), [(4, 4), (-1, 2), (0, 0)])
def test_a_shard_that_is_not_there_is_refused(tmp_path: Path, shard: int, shards: int) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 1))
    with pytest.raises(InputError) as error:
        shard_of(raw, shard, shards)
    assert error.value.key == "argument-invalid"
    assert f"shard={shard} " in str(error.value)


def test_shards_of_other_settings_do_not_stand_in_each_other_s_way(tmp_path: Path) -> None:
    raw = Folder(write_scans(tmp_path / "raw", 2))
    list(fill_cache(raw, tmp_path / "cache", COARSE))
    other = PreparationSettings(spacing_mm=4.0)
    for shard in range(2):
        results = fill_cache(raw, tmp_path / "cache", other, shard_of(raw, shard, 2), overwrite=True)
        assert skipped(results) == [False]


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
    assert skipped(fill_cache(Folder(root), tmp_path / "cache", COARSE)) == [False]
    assert open_entry(tmp_path / "cache", "scan-0").original_grid != before


def test_a_file_that_is_older_than_another_of_its_scan_counts_too(tmp_path: Path) -> None:
    root = write_scans(tmp_path / "raw", 1)
    list(fill_cache(Folder(root), tmp_path / "cache", COARSE))
    os.utime(root / "scan-0.mhd", ns=(0, 10**9))
    assert skipped(fill_cache(Folder(root), tmp_path / "cache", COARSE)) == [False]


def test_an_entry_that_another_run_is_replacing_is_waited_for(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 1)), tmp_path / "cache"
    results = list(fill_cache(raw, cache, COARSE))
    entry = cache / "scans/scan-0"

    def swap(begun: Event) -> None:
        with lock(cache):
            entry.rename(entry.with_name(".old-scan-0"))
            begun.set()
            time.sleep(0.3)
            entry.with_name(".old-scan-0").rename(entry)

    task = Task("scan-0", raw.scans["scan-0"], Labels())
    reads: list[Callable[[], bool]] = [
        lambda: prepare_task(task, cache, COARSE) == PreparedScan("scan-0", skipped=True),
        lambda: summarise(cache, raw, results).notes == raw.notes,
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
    assert skipped(fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)) == [False, False]
    masked, ruled = (open_entry(tmp_path / "cache", name) for name in ("1.2.1", "1.2.2"))
    smaller = np.prod((LUNG_RADII_XYZ_MM - 15) / LUNG_RADII_XYZ_MM)
    assert masked.record["lungs"]["left_l"] == pytest.approx(0.394 * smaller, rel=0.1)
    assert masked.record["lungs"]["right_l"] == pytest.approx(0.394 * smaller, rel=0.1)
    assert masked.grid.corners_xyz_mm()[-1, 2] < CENTRE_XYZ_MM[2] + 55
    assert ruled.record["lungs"]["left_l"] == pytest.approx(0.394, rel=0.1)
    assert "LUNA16 has no mask of it" in ruled.record["notes"][0]
    assert skipped(fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)) == [True, True]
    write_mask(luna16 / "seg-lungs-LUNA16/1.2.1.mhd", 10)
    assert skipped(fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)) == [False, True]


def test_lung_masks_that_the_settings_ask_for_must_exist_and_fit(luna16: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)
    assert error.value.key == "file-missing"
    assert "seg-lungs-LUNA16" in str(error.value)
    write_image(luna16 / "seg-lungs-LUNA16/1.2.1.mhd", np.zeros((5, 6, 7), np.uint8))
    first, second = fill_cache(Luna16(luna16), tmp_path / "cache", MASKED)
    assert isinstance(first, Failure)
    assert first.scan_id == "1.2.1"
    assert first.reason.startswith("its lung mask ")
    assert "(5, 6, 7)" in first.reason
    assert second == PreparedScan("1.2.2")


def test_labels_are_updated_with_their_counts_in_the_record(tmp_path: Path) -> None:
    path = write_scans(tmp_path / "raw", 1) / "scan-0.mhd"
    task = Task("scan-0", path, Labels())
    assert prepare_task(task, tmp_path, COARSE) == PreparedScan("scan-0")
    assert open_entry(tmp_path, "scan-0").record["nodules"] == {"annotated": 0, "in_crop": 0, "in_mask": 0}
    outside, between = CENTRE_XYZ_MM + np.array([0, 0, 900.0]), CENTRE_XYZ_MM + np.array([0, 41.0, 50.0])
    table = tmp_path / "nodules.csv"
    rows = [f"scan-0,{x},{y},{z},5" for x, y, z in (lung_centre(1), outside, between)]
    table.write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *rows, ""]))
    dataset = Folder(tmp_path / "raw", annotations=table)
    assert skipped(fill_cache(dataset, tmp_path, COARSE)) == [True]
    assert open_entry(tmp_path, "scan-0").record["nodules"] == {"annotated": 3, "in_crop": 2, "in_mask": 1}


def test_a_failure_names_no_file_of_its_folder(tmp_path: Path) -> None:
    write_dicom(tmp_path / "raw", draw_chest().hu[:9, :20, :20], "1.2.3.4", prefix="Secret-Name-")
    damaged = min((tmp_path / "raw").glob("*.dcm"))
    os.truncate(damaged, 0)
    (failure,) = fill_cache(Folder(tmp_path / "raw"), tmp_path / "cache", PreparationSettings())
    assert isinstance(failure, Failure)
    assert "1 of 9" in failure.reason
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not any("Secret" in text for text in (failure.reason, *(path.read_text(errors="replace") for path in kept)))
