"""Quality checks: gaps, repeated slices, values and borders; nodules inside and outside the crop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.boxes import check_nodules
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.preparation.quality import check_scan, find_gaps
from nodule_lightning.structures import Findings, Scan
from tests.chest import GRID, draw_chest


def noisy_chest() -> Scan:
    chest = draw_chest()
    noise = np.random.default_rng(0).normal(0, 25, chest.hu.shape)
    return replace(chest, hu=(chest.hu + noise).clip(-1024, 3000).astype(np.int16))


def test_a_whole_scan_has_nothing_to_note() -> None:
    scan = noisy_chest()
    checks = check_scan(scan)
    assert (checks["gaps"], checks["repeated_slices"]) == ([], [])
    assert checks["spacing_zyx_mm"] == [3.0, 2.8, 2.8]
    assert checks["hu_range"] == [int(scan.hu.min()), int(scan.hu.max())]
    assert prepare_scan(scan, PreparationSettings(spacing_mm=3)).record["notes"] == []


def test_repeated_slices_are_numbered_as_in_the_file() -> None:
    scan = noisy_chest()
    scan.hu[21] = scan.hu[20]
    assert check_scan(scan)["repeated_slices"] == [21]
    notes = prepare_scan(scan, PreparationSettings(spacing_mm=3)).record["notes"]
    assert len(notes) == 1
    assert notes[0].endswith("slice 21")


def test_gaps_are_jumps_among_even_steps() -> None:
    step = np.random.default_rng(0).uniform(16, 20, 60)
    assert find_gaps(step) == []
    step[[30, 45]] = 45
    assert find_gaps(step) == [31, 46]
    assert find_gaps(step[:3]) == []


def test_values_that_are_not_hounsfield_units_are_noted() -> None:
    scan = noisy_chest()
    entry = prepare_scan(replace(scan, hu=(scan.hu + 700).astype(np.int16)), PreparationSettings(spacing_mm=3))
    assert any(f"{entry.record['scan']['hu_range'][0]} HU" in note for note in entry.record["notes"])


def test_lungs_at_the_border_are_noted() -> None:
    scan = noisy_chest()
    slab = Scan("slab", scan.hu[20:], scan.grid.crop((20, 0, 0), GRID.shape))
    record = prepare_scan(slab, PreparationSettings(spacing_mm=3)).record
    assert record["lungs"]["touching"] == ["feet"]
    assert len(record["notes"]) == 1
    assert "(feet)" in record["notes"][0]


def test_the_notes_of_the_reader_come_first() -> None:
    scan = replace(noisy_chest(), notes=("2 duplicate slices were left out",))
    assert prepare_scan(scan, PreparationSettings(spacing_mm=3)).record["notes"] == list(scan.notes)


def test_nodules_are_counted_in_the_crop_and_in_the_mask() -> None:
    grid = Grid((10, 10, 10), (1.0, 1.0, 1.0))
    lung = np.zeros(grid.shape, np.uint8)
    lung[:, :, :5] = 1
    nodules = Findings(np.array([[2.0, 5, 5], [7.0, 5, 5], [12.0, 5, 5], [9.4, 9.4, 9.4]]), np.full(4, 5.0))
    assert check_nodules(nodules, grid, lung) == {"annotated": 4, "in_crop": 3, "in_mask": 1}
    assert check_nodules(Findings.empty(), grid, lung) == {"annotated": 0, "in_crop": 0, "in_mask": 0}


@pytest.mark.real_data
def test_missing_slices_of_a_real_scan_are_found(real_data: Path) -> None:
    scan = read_scan(next((real_data / "lidc/subset1").glob("*.mhd")))
    assert check_scan(scan)["gaps"] == []
    kept = np.r_[:60, 63 : len(scan.hu)]
    assert check_scan(replace(scan, hu=scan.hu[kept]))["gaps"] == [60]


@pytest.mark.parametrize("size", [3, 4])
def test_a_nodule_on_the_outer_face_of_the_crop_is_counted(size: int) -> None:
    grid = Grid((size, size, size), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    faces = np.full((6, 3), 1.0)
    faces[[0, 1, 2], [0, 1, 2]], faces[[3, 4, 5], [0, 1, 2]] = -0.5, size - 0.5
    counted = check_nodules(Findings(faces, np.full(6, 5.0)), grid, np.ones(grid.shape, np.uint8))
    assert counted["in_crop"] == counted["in_mask"] >= 3
    beyond = Findings(faces + np.sign(faces - 0.6) * 0.01 * (faces != 1), np.full(6, 5.0))
    assert check_nodules(beyond, grid, np.ones(grid.shape, np.uint8))["in_crop"] == 0
