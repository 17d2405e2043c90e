"""A scan in any format and direction gives the same entry and the same candidates, at the same world position."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from jaxtyping import Float64

from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.search.inference import InferenceSettings, detect
from nodule_lightning.search.predict import Detector, Prediction, predict
from nodule_lightning.search.scan_source import Source
from nodule_lightning.structures import Candidates, Entry, Scan
from tests.blob_detector import blob_detector
from tests.chest import CENTRE_XYZ_MM, GRID, NODULE_XYZ_MM, ball, draw_chest, world_of, write_dicom, write_image

# The shape is not a multiple of the block size, so averaging from the wrong end would be noticed.
PLACED = Grid((107, 173, 199), (1.5, 1.3, 1.4), (-130.25, -115.5, -228.75))
FLIPS = {"right to left": (False, False, True), "all axes": (True, True, True), "head first": (True, False, False)}


@pytest.fixture(scope="module")
def scan() -> Scan:
    chest = draw_chest(PLACED)
    noise = np.random.default_rng(0).normal(0, 20, chest.hu.shape)
    return replace(chest, hu=(chest.hu + noise).clip(-1024).astype(np.int16))


@pytest.fixture(scope="module")
def plain(scan: Scan) -> Entry:
    return prepare_scan(scan, PreparationSettings())


def flipped(scan: Scan, flips: tuple[bool, bool, bool]) -> Scan:
    corner = scan.grid.to_world(np.where(flips, np.array(scan.grid.shape) - 1.0, 0.0)[None])[0]
    signs = np.diag(np.where(flips[::-1], -1.0, 1.0))
    grid = Grid(scan.hu.shape, scan.grid.spacing_zyx_mm, tuple(corner.tolist()), tuple(signs.ravel().tolist()))
    return Scan(scan.scan_id, np.ascontiguousarray(np.flip(scan.hu, tuple(np.flatnonzero(flips).tolist()))), grid)


def sagittal(scan: Scan) -> Scan:
    """Store sagittal slices, from right to left."""
    nz, ny, nx = scan.hu.shape
    z, y, x = scan.grid.spacing_zyx_mm
    # Index x runs along world y, index y along world z, index z along world x.
    grid = Grid((nx, nz, ny), (x, z, y), scan.grid.origin_xyz_mm, (0, 0, 1, 1, 0, 0, 0, 1, 0))
    return Scan(scan.scan_id, np.ascontiguousarray(scan.hu.transpose(2, 0, 1)), grid)


def nodule_place(entry: Entry) -> Float64[np.ndarray, "3"]:
    """Find the nodule as the centre of the bright voxels around its drawn position."""
    index = np.rint(entry.grid.to_index(NODULE_XYZ_MM[None]))[0].astype(int)
    window = tuple(slice(place - 9, place + 10) for place in index)
    bright = np.argwhere(entry.ct[window] > 120) + index - 9
    centre: Float64[np.ndarray, 3] = entry.grid.to_world(bright.astype(np.float64)).mean(axis=0)
    return centre


def assert_same(entry: Entry, plain: Entry, tolerance: int) -> None:
    assert np.abs(entry.grid.corners_xyz_mm() - plain.grid.corners_xyz_mm()).max() < 0.01
    assert np.abs(entry.ct.astype(int) - plain.ct).max() <= tolerance
    assert (entry.lung != plain.lung).mean() < 0.005
    assert np.abs(nodule_place(entry) - nodule_place(plain)).max() < 0.05


def test_the_nodule_lies_where_it_was_drawn(plain: Entry) -> None:
    assert np.abs(nodule_place(plain) - NODULE_XYZ_MM).max() < 0.5


@pytest.mark.parametrize("name", ["chest.mhd", "chest.nii.gz", "chest.nrrd"])
def test_file_formats(scan: Scan, plain: Entry, tmp_path: Path, name: str) -> None:
    assert_same(
        prepare_scan(read_scan(write_image(tmp_path / name, scan.hu, scan.grid)), PreparationSettings()), plain, 1
    )


@pytest.mark.parametrize("flips", FLIPS.values(), ids=FLIPS)
def test_flipped_mhd(scan: Scan, plain: Entry, tmp_path: Path, flips: tuple[bool, bool, bool]) -> None:
    turned = flipped(scan, flips)
    path = write_image(tmp_path / "flipped.mhd", turned.hu, turned.grid)
    read = read_scan(path)
    places = np.random.default_rng(1).uniform(0, 1, (50, 3)) * scan.grid.shape
    there = np.where(flips, np.array(scan.grid.shape) - 1 - places, places)
    assert np.abs(read.grid.to_world(there) - scan.grid.to_world(places)).max() < 0.01
    assert_same(prepare_scan(read, PreparationSettings()), plain, 1)


def test_sagittal_slices(scan: Scan, plain: Entry) -> None:
    assert_same(prepare_scan(sagittal(scan), PreparationSettings()), plain, 1)


def test_shuffled_dicom(scan: Scan, plain: Entry, tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", scan.hu, "1.2.3.4", grid=scan.grid)
    read = read_scan(tmp_path / "series")
    assert np.abs(read.grid.corners_xyz_mm() - scan.grid.corners_xyz_mm()).max() < 0.01
    assert_same(prepare_scan(read, PreparationSettings()), plain, 1)


def test_varying_distances_between_dicom_slices(scan: Scan, plain: Entry, tmp_path: Path) -> None:
    kept = [index for index in range(len(scan.hu)) if index % 7 != 3 or 50 < index < 60]
    z = [PLACED.origin_xyz_mm[2] + index * PLACED.spacing_zyx_mm[0] for index in kept]
    write_dicom(tmp_path / "series", scan.hu[kept], "1.2.3.4", grid=scan.grid, z_mm=z)
    entry = prepare_scan(read_scan(tmp_path / "series"), PreparationSettings())
    assert "slices are missing" in entry.record["notes"][0]
    assert np.abs(nodule_place(entry) - NODULE_XYZ_MM).max() < 0.5
    assert np.abs(entry.grid.corners_xyz_mm() - plain.grid.corners_xyz_mm()).max() < 3


def test_coarse_chest_is_the_fine_one(plain: Entry) -> None:
    coarse = prepare_scan(draw_chest(GRID), PreparationSettings())
    assert np.abs(nodule_place(coarse) - nodule_place(plain)).max() < 0.5


# Nowhere the mirror image of each other and of different density: neither a flip nor a mix-up goes unseen.
NODULES_XYZ_MM: Final = CENTRE_XYZ_MM + np.array(
    [[60.0, 10.0, 5.0], [38.0, -12.0, -24.0], [-48.0, 14.0, 22.0], [-62.0, -9.0, -11.0]]
)
NODULES_HU: Final = (30, -80, -160, -220)
WRITERS: Final[dict[str, Callable[[Path, Scan], Path]]] = {
    "mhd": lambda root, scan: write_image(root / "scan.mhd", scan.hu, scan.grid),
    "flipped mhd": lambda root, scan: write_flipped(root / "scan.mhd", scan, FLIPS["all axes"]),
    "right to left mhd": lambda root, scan: write_flipped(root / "scan.mhd", scan, FLIPS["right to left"]),
    "nii.gz": lambda root, scan: write_image(root / "scan.nii.gz", scan.hu, scan.grid),
    "shuffled DICOM": lambda root, scan: write_series(root / "series", scan),
}


def write_flipped(path: Path, scan: Scan, flips: tuple[bool, bool, bool]) -> Path:
    turned = flipped(scan, flips)
    return write_image(path, turned.hu, turned.grid)


def write_series(folder: Path, scan: Scan) -> Path:
    write_dicom(folder, scan.hu, "1.2.3.4", grid=scan.grid)
    return folder


def candidates_of(path: Path) -> Candidates:
    detector = Detector(blob_detector(), InferenceSettings(), PreparationSettings())
    (found,) = predict(detector, Source(path, detector.preparation))
    assert isinstance(found, Prediction)
    return found.candidates


@pytest.fixture(scope="module")
def with_nodules(scan: Scan) -> Scan:
    hu, world = scan.hu.copy(), world_of(scan.grid)
    # One of them is there already.
    for centre, value in zip(NODULES_XYZ_MM[1:], NODULES_HU[1:], strict=True):
        hu[ball(world, centre, np.full(3, 6.0))] += value + 850
    return replace(scan, hu=hu)


@pytest.fixture(scope="module")
def plain_candidates(with_nodules: Scan) -> Candidates:
    return detect(blob_detector(), prepare_scan(with_nodules, PreparationSettings()), InferenceSettings())


@pytest.mark.parametrize("name", WRITERS)
def test_candidates_are_the_same(with_nodules: Scan, plain_candidates: Candidates, tmp_path: Path, name: str) -> None:
    found = candidates_of(WRITERS[name](tmp_path, with_nodules))
    # All are sure, and none lies near a threshold where rounding would decide.
    assert len(found) == len(plain_candidates) == len(NODULES_XYZ_MM)
    assert min(found.probability) > 0.5
    distance_mm = np.linalg.norm(found.centre_xyz_mm[:, None] - plain_candidates.centre_xyz_mm, axis=2)
    partner = distance_mm.argmin(axis=1)
    assert sorted(partner.tolist()) == [0, 1, 2, 3]
    assert distance_mm.min(axis=1).max() < 0.5
    assert np.abs(found.probability - plain_candidates.probability[partner]).max() < 0.01
    # All formats might be wrong together.
    assert np.linalg.norm(found.centre_xyz_mm[:, None] - NODULES_XYZ_MM, axis=2).min(axis=0).max() < 0.5


def test_the_candidates_differ_by_more_than_formats_may(plain_candidates: Candidates) -> None:
    gaps = np.diff(np.sort(plain_candidates.probability))
    assert gaps.min() > 0.01
