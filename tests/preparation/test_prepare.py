"""Preparation: the same anatomy from any grid, window and crop; reruns, failures and notes of a data set."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.cache.entries import list_entries, open_entry, read_settings
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.tables import join_findings, read_findings
from nodule_lightning.lungs.segmentation import FALLBACK_NOTE
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.preparation.filling import fill_cache
from nodule_lightning.preparation.layouts import Luna16, RawDataset
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.preparation.summary import Summary, summarise
from nodule_lightning.structures import Findings, Scan, Table
from tests.chest import CENTRE_XYZ_MM, GRID, NODULE_XYZ_MM, draw_chest, lung_centre, write_image

COARSE = PreparationSettings(spacing_mm=2.0)
TILT = Rotation.from_euler("xyz", [4, -5, 6], degrees=True).as_matrix()
TILTED_ORIGIN = CENTRE_XYZ_MM - TILT @ np.array([139.0, 109.0, 80.0])
GRIDS = {
    "plain": GRID,
    "flipped": Grid(GRID.shape, GRID.spacing_zyx_mm, (147.2, 103.4, -228.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": replace(GRID, origin_xyz_mm=tuple(TILTED_ORIGIN.tolist()), direction=tuple(TILT.ravel().tolist())),
    "feet first": replace(GRID, origin_xyz_mm=(-130.0, -115.0, -69.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, -1)),
}


def grey(hu: float) -> float:
    return (hu + 1200) / 1800 * 255


@pytest.mark.parametrize("name", GRIDS)
def test_the_same_chest_from_any_grid(name: str) -> None:
    entry = prepare_scan(draw_chest(GRIDS[name]), COARSE)
    assert entry.original_grid == GRIDS[name]
    assert entry.grid.spacing_zyx_mm == (2.0, 2.0, 2.0)
    assert entry.grid.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert entry.ct.shape == entry.lung.shape == entry.grid.shape
    assert entry.ct.dtype == entry.lung.dtype == np.uint8
    assert set(np.unique(entry.lung)) == {0, 1}
    places = np.stack([lung_centre(1), lung_centre(-1), NODULE_XYZ_MM, CENTRE_XYZ_MM])
    index = np.rint(entry.grid.to_index(places)).astype(int)
    seen = [int(entry.ct[tuple(place)]) for place in index]
    assert np.allclose(seen, [grey(-850), grey(-850), grey(30), grey(40)], atol=2)
    assert [int(entry.lung[tuple(place)]) for place in index[:3]] == [1, 1, 1]
    assert entry.record["notes"] == []
    assert entry.record["lungs"]["right_l"] == pytest.approx(0.394, abs=0.03)
    assert entry.record["lungs"]["ratio"] == pytest.approx(1, abs=0.02)
    size = (entry.grid.corners_xyz_mm()[-1] - entry.grid.corners_xyz_mm()[0]).round()
    assert np.abs(size - (192, 106, 126)).max() < 16


def test_margin_widens_the_crop_but_not_beyond_the_scan() -> None:
    narrow, wide, all_of_it = (prepare_scan(draw_chest(), replace(COARSE, margin_mm=size)) for size in (0, 10, 999))
    gained = np.subtract(wide.grid.shape, narrow.grid.shape)
    assert (gained >= 9).all()
    assert (gained <= 10).all()
    assert np.abs(all_of_it.grid.corners_xyz_mm() - GRID.corners_xyz_mm()).max() < 2


def test_window() -> None:
    scan = draw_chest(lungs=False)
    for row, hu in enumerate((-1024, -750, -300, 0, 200, 600, 3000)):
        scan.hu[10 + 2 * row : 12 + 2 * row, 30:40, 45:55] = hu
    lungs = LungSettings(source="none")
    entry = prepare_scan(scan, PreparationSettings(window_hu=(-1000, 600), spacing_mm=1.5, lungs=lungs))
    middles = GRID.to_world(np.array([[10.5 + 2 * row, 35, 50] for row in range(7)], dtype=np.float64))
    seen = [int(entry.ct[tuple(place)]) for place in np.rint(entry.grid.to_index(middles)).astype(int)]
    assert np.allclose(seen, [0, 40, 112, 159, 191, 255, 255], atol=1)


def test_much_coarser_grids_average() -> None:
    scan = draw_chest()
    noise = np.random.default_rng(0).normal(0, 200, scan.hu.shape)
    noisy = replace(scan, hu=(scan.hu + noise).astype(np.int16))
    settings = PreparationSettings(spacing_mm=9.0, margin_mm=999)
    difference = prepare_scan(noisy, settings).ct.astype(int) - prepare_scan(scan, settings).ct
    assert difference.std() < 200 / 1800 * 255 / 3


def test_no_lung_is_noted() -> None:
    entry = prepare_scan(draw_chest(lungs=False), COARSE)
    assert entry.record["notes"] == [f"{FALLBACK_NOTE} (no lung found)"]
    assert entry.lung.mean() > 0.5


def test_settings_there_and_back() -> None:
    settings = PreparationSettings(spacing_mm=1.5, window_hu=[-1000, 400], lungs=LungSettings(closing_mm=5.0))
    assert PreparationSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert settings.differences(settings) == []
    assert settings.differences(PreparationSettings()) == [
        "lungs.closing_mm 5.0 and 10.0",
        "spacing_mm 1.5 and 1.0",
        "window_hu [-1000.0, 400.0] and [-1200.0, 600.0]",
    ]
    with pytest.raises(InputError) as error:
        PreparationSettings.from_dict({**settings.to_dict(), "colour": 1})
    assert error.value.key == "file-foreign"
    assert "colour" in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        *({"window_hu": value} for value in ((0.0, 0.0), (-math.inf, 600.0), (-1200.0, math.nan))),
        *({"spacing_mm": value} for value in (0, 1e-5, 0.24, 10.5, math.inf, math.nan)),
        *({"margin_mm": value} for value in (-1.0, math.inf, math.nan)),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        PreparationSettings(**values)
    ((name, value),) = values.items()
    numbers = value if isinstance(value, tuple) else (value,)
    assert error.value.key == "argument-invalid"
    assert all(word in str(error.value) for word in (name, *map(str, numbers)))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "原始 (raw)"
    chest = draw_chest()
    write_image(root / "subset0/1.2.1.mhd", chest.hu, chest.grid)
    write_image(root / "subset1/1.2.2.mhd", chest.hu, chest.grid)
    (root / "subset1/1.2.2.raw").unlink()
    nodule, far = NODULE_XYZ_MM, CENTRE_XYZ_MM + np.array([0, 0, 900])
    rows = [("1.2.1", nodule), ("1.2.1", far), ("1.2.8", nodule), ("1.2.9", nodule)]
    lines = [f"{scan_id},{x},{y},{z},12" for scan_id, (x, y, z) in rows]
    (root / "annotations.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *lines, ""]))
    return root


def prepare(raw: Path, cache: Path, settings: PreparationSettings = COARSE, workers: int = 1) -> Summary:
    return fill(Luna16(raw), cache, settings, workers)


def fill(dataset: RawDataset, cache: Path, settings: PreparationSettings = COARSE, workers: int = 1) -> Summary:
    return summarise(cache, dataset, fill_cache(dataset, cache, settings, workers=workers))


def test_data_set(raw: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache, 1"
    summary = prepare(raw, cache)
    assert summary.prepared == ("1.2.1",)
    assert summary.skipped == ()
    assert list(summary.failed) == ["1.2.2"]
    assert summary.failed["1.2.2"].startswith("its file: ")
    assert len(summary.notes) == 3
    assert "annotations_excluded.csv" in summary.notes[0]
    assert all(value in summary.notes[1] for value in ("2 scans", "1.2.8"))
    assert all(value in summary.notes[2] for value in ("1.2.1: ", "(10.0, -20.0, 750.0) mm"))
    catalog = Catalog.open(cache)
    assert catalog.scan_ids == ("1.2.1",)
    assert catalog.subset("1.2.1") == "0"
    assert catalog.nodules("1.2.1").diameter_mm.tolist() == [12, 12]
    assert read_settings(cache) == COARSE.to_dict()
    record = open_entry(cache, "1.2.1").record
    assert "原始" not in json.dumps(record, ensure_ascii=False)


def test_reruns_do_only_what_changed(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "cache")
    written = (tmp_path / "cache/scans/1.2.1/ct.npy").stat().st_mtime_ns
    again = prepare(raw, tmp_path / "cache")
    assert (again.prepared, again.skipped, list(again.failed)) == ((), ("1.2.1",), ["1.2.2"])
    assert len(again.notes) == 3
    assert (tmp_path / "cache/scans/1.2.1/ct.npy").stat().st_mtime_ns == written
    corrected = (raw / "annotations.csv").read_text(encoding="utf-8").replace(",12", ",13")
    (raw / "annotations.csv").write_text(corrected)
    assert prepare(raw, tmp_path / "cache").skipped == ("1.2.1",)
    assert Catalog.open(tmp_path / "cache").nodules("1.2.1").diameter_mm.tolist() == [13, 13]
    assert (tmp_path / "cache/scans/1.2.1/ct.npy").stat().st_mtime_ns == written
    moved = raw.rename(raw.with_name("moved"))
    assert prepare(moved, tmp_path / "cache").skipped == ("1.2.1",)
    chest = draw_chest()
    write_image(moved / "subset0/1.2.1.mhd", chest.hu, chest.grid)
    assert prepare(moved, tmp_path / "cache").prepared == ("1.2.1",)
    other = replace(COARSE, margin_mm=20.0)
    before = open_entry(tmp_path / "cache", "1.2.1").grid
    with pytest.raises(InputError) as error:
        prepare(moved, tmp_path / "cache", other)
    assert error.value.key == "cache-settings-differ"
    assert all(value in str(error.value) for value in ("1.2.1", "margin_mm 8.0 and 20.0", "overwrite=true"))
    assert open_entry(tmp_path / "cache", "1.2.1").grid == before
    results = fill_cache(Luna16(moved), tmp_path / "cache", other, overwrite=True)
    assert summarise(tmp_path / "cache", Luna16(moved), results).prepared == ("1.2.1",)
    assert read_settings(tmp_path / "cache") == other.to_dict()


def test_scans_with_other_settings_are_not_mixed_in(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "cache")
    chest = draw_chest()
    path = write_image(tmp_path / "other.nii.gz", chest.hu, chest.grid)
    none = join_findings([])
    dataset = RawDataset({"other": path}, none, none, {"other": ""})
    with pytest.raises(InputError) as error:
        # This data set lacks the scan, so it cannot be prepared again.
        fill_cache(dataset, tmp_path / "cache", PreparationSettings(spacing_mm=1.5), overwrite=True)
    assert error.value.key == "cache-settings-differ"
    assert all(value in str(error.value) for value in ("1.2.1", "spacing_mm 2.0 and 1.5"))
    assert "overwrite" not in str(error.value)
    assert list_entries(tmp_path / "cache") == ["1.2.1"]
    fill(dataset, tmp_path / "cache")
    catalog = Catalog.open(tmp_path / "cache")
    assert (catalog.subset("1.2.1"), catalog.subset("other")) == ("0", "")


def test_an_unexpected_error_loses_one_scan(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("nodule_lightning.preparation.filling.prepare_scan", trip)
    assert "ZeroDivisionError: by zero" in prepare(raw, tmp_path / "cache").failed["1.2.1"]


def test_processes_give_the_same(raw: Path, tmp_path: Path) -> None:
    alone, together = prepare(raw, tmp_path / "one"), prepare(raw, tmp_path / "two", workers=2)
    assert alone == together
    one, two = (open_entry(tmp_path / name, "1.2.1") for name in ("one", "two"))
    assert np.array_equal(one.ct, two.ct)
    assert np.array_equal(one.lung, two.lung)


def nodule_of(real_data: Path) -> tuple[Scan, Findings]:
    table: Table[Findings] = read_findings(real_data / "lidc/annotations.csv")
    scan_id = str(table.scan_id[0])
    return read_scan(next((real_data / "lidc").glob(f"*/{scan_id}.mhd"))), table.rows


@pytest.mark.real_data
def test_real_nodule_is_soft_tissue_in_the_lung_and_in_the_crop(real_data: Path) -> None:
    scan, nodule = nodule_of(real_data)
    centre, radius = nodule.centre_xyz_mm[0], nodule.diameter_mm[0] / 2
    index = scan.grid.to_index(centre[None])
    assert np.abs(scan.grid.to_world(index) - centre).max() < 0.01
    z, y, x = np.rint(index[0]).astype(int)
    assert -100 < np.median(scan.hu[z - 1 : z + 2, y - 3 : y + 4, x - 3 : x + 4]) < 150
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = centre + (radius + 6) * np.stack([np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    around = scan.hu[tuple(np.rint(scan.grid.to_index(ring)).astype(int).T)]
    assert np.median(around) < -600
    entry = prepare_scan(scan, PreparationSettings())
    place = entry.grid.to_index(centre[None])[0]
    assert (place > radius).all()
    assert (place < np.array(entry.grid.shape) - radius).all()
    z, y, x = np.rint(place).astype(int)
    assert entry.lung[z, y, x] == 1
    assert grey(-100) < np.median(entry.ct[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3]) < grey(150)
