"""Readers: every format gives the same volume at the same position; bad files give one line."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from jaxtyping import Int16, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.scan_folders import find_scans
from tests.chest import write_dicom, write_image

GRID = Grid((4, 5, 6), (2.5, 0.8, 0.7), (-10.0, 20.0, 30.0))
UID = "1.2.826.0.1.3680043.2.1125.1"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return tmp_path / "My CT (1)[x], a=b" / "肺"


@pytest.fixture
def hu() -> Int16[np.ndarray, "z y x"]:
    return np.random.default_rng(0).integers(-1000, 1500, GRID.shape).astype(np.int16)


@pytest.mark.parametrize("name", ["1.2.3.mhd", "packed.4.mhd", "a.mha", "a.b.nrrd", "a.nii", "a.nii.gz"])
def test_formats_agree(odd: Path, hu: Int16[np.ndarray, "z y x"], name: str) -> None:
    scan = read_scan(write_image(odd / name, hu, GRID))
    assert scan.scan_id == name.removesuffix(".gz").rsplit(".", 1)[0]
    assert scan.hu.dtype == np.int16
    assert np.array_equal(scan.hu, hu)
    assert np.allclose(scan.grid.corners_xyz_mm(), GRID.corners_xyz_mm(), atol=1e-4)


def test_compressed_data_lies_in_zraw(odd: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    path = write_image(odd / "packed.mhd", hu, GRID)
    assert path.with_suffix(".zraw").exists()
    assert np.array_equal(read_scan(path).hu, hu)


def test_flipped_axes_keep_world_positions(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    corner = GRID.to_world(np.array([[0.0, 4.0, 5.0]]))[0]
    flipped = Grid(GRID.shape, GRID.spacing_zyx_mm, tuple(corner), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    path = write_image(tmp_path / "flipped.mhd", np.ascontiguousarray(hu[:, ::-1, ::-1]), flipped)
    assert "TransformMatrix = -1 0 0 0 -1 0 0 0 1" in path.read_text(encoding="utf-8")
    scan = read_scan(path)
    index = np.array([[1.0, 2.0, 3.0], [3.0, 0.0, 5.0]])
    there = np.rint(scan.grid.to_index(GRID.to_world(index))).astype(int)
    assert [scan.hu[tuple(place)] for place in there] == [hu[1, 2, 3], hu[3, 0, 5]]
    assert there.tolist() == [[1, 2, 2], [3, 4, 0]]


def cut(name: str, data: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        values = np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)
        path = write_image(folder / name, values)
        os.truncate(folder / data, (folder / data).stat().st_size - 300)
        return path

    return write


def no_raw(folder: Path) -> Path:
    path = write_image(folder / "alone.mhd", np.zeros((9, 9, 9), np.int16))
    path.with_suffix(".raw").unlink()
    return path


def tall(folder: Path) -> Path:
    return write_image(folder / "tall.mhd", np.zeros((9, 9, 9), np.int16), Grid((9, 9, 9), (500.0, 1.0, 1.0)))


def volume(name: str, values: Shaped[np.ndarray, "*shape"]) -> Callable[[Path], Path]:
    return lambda folder: write_image(folder / name, values)


def text(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / name).write_text("not a scan")
        return folder / name

    return write


def damaged(name: str, data: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        noise = np.random.default_rng(0)
        path = write_image(folder / name, noise.integers(-1000, 1000, (30, 64, 64)).astype(np.int16))
        content = bytearray((folder / data).read_bytes())
        middle = len(content) // 2
        content[middle : middle + 500] = noise.bytes(500)
        (folder / data).write_bytes(content)
        return path

    return make


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir(parents=True)
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (cut("cut.mhd", "cut.raw"), "file-damaged", ""),
        (cut("packed.mhd", "packed.zraw"), "file-damaged", ""),
        (cut("cut.mha", "cut.mha"), "file-damaged", ""),
        (cut("cut.nrrd", "cut.nrrd"), "file-damaged", ""),
        (cut("cut.nii", "cut.nii"), "file-damaged", ""),
        (cut("cut.nii.gz", "cut.nii.gz"), "file-damaged", ""),
        (damaged("packed.mhd", "packed.zraw"), "file-damaged", ""),
        (damaged("noisy.nii.gz", "noisy.nii.gz"), "file-damaged", ""),
        (no_raw, "file-missing", ""),
        (text("junk.mhd"), "file-damaged", ""),
        (text("junk.nii.gz"), "file-damaged", ""),
        (text("notes.txt"), "file-foreign", ""),
        (lambda folder: folder / "gone.mhd", "file-missing", ""),
        (volume("flat.mhd", np.zeros((5, 6), np.int16)), "scan-invalid", "6x5"),
        (tall, "scan-invalid", "1, 1, 500 mm"),
        (volume("one.mhd", np.zeros((1, 5, 6), np.int16)), "scan-invalid", "6x5x1"),
        (volume("four.nii.gz", np.zeros((2, 3, 4, 5), np.int16)), "scan-invalid", "5x4x3x2"),
        (empty_folder, "file-missing", ""),
    ],
)
def test_bad_files_give_one_line_with_their_name(
    odd: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], Path], key: str, value: str
) -> None:
    path = make(odd)
    with pytest.raises(InputError) as error:
        read_scan(path)
    message = str(error.value)
    assert error.value.key == key
    assert value in message
    assert path.name in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_colour_is_refused(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "colour.mha"))
    with pytest.raises(InputError) as error:
        read_scan(tmp_path / "colour.mha")
    assert error.value.key == "scan-invalid"
    assert "colour.mha" in str(error.value)


def test_dicom_folder(odd: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hu = np.random.default_rng(0).integers(-1024, 1500, (9, 12, 14)).astype(np.int16)
    write_dicom(odd, hu, UID)
    scan = read_scan(odd)
    assert scan.scan_id == UID
    assert np.array_equal(scan.hu, hu)
    assert np.allclose(scan.grid.spacing_zyx_mm, (2.5, 0.8, 0.7))
    assert np.allclose(scan.grid.origin_xyz_mm, (-10, 20, 30))
    assert "Secret" not in repr(scan)
    assert capfd.readouterr() == ("", "")


def test_dicom_localiser_is_passed_over(tmp_path: Path) -> None:
    hu = np.zeros((9, 12, 14), np.int16)
    write_dicom(tmp_path, hu, UID + ".7")
    write_dicom(tmp_path, hu[:2], UID + ".5")
    assert read_scan(tmp_path).scan_id == UID + ".7"
    assert find_scans(tmp_path) == {UID + ".7": tmp_path}


def test_several_dicom_series_are_listed(tmp_path: Path) -> None:
    write_dicom(tmp_path, np.zeros((9, 12, 14), np.int16), UID + ".7")
    write_dicom(tmp_path, np.zeros((5, 12, 14), np.int16), UID + ".8")
    with pytest.raises(InputError) as error:
        read_scan(tmp_path)
    assert error.value.key == "argument-invalid"
    assert all(f"{UID}{part}" in str(error.value) for part in (".7 (9 slices)", ".8 (5 slices)"))
    # Each is a scan of its own.
    assert find_scans(tmp_path) == {f"{UID}{part}": tmp_path for part in (".7", ".8")}
    assert [len(read_scan(tmp_path, scan_id=f"{UID}{part}").hu) for part in (".7", ".8")] == [9, 5]


def ramp(z_mm: Sequence[float]) -> Int16[np.ndarray, "z y x"]:
    """Draw slices whose values encode their position: 10 HU per mm."""
    return np.repeat(np.rint(np.array(z_mm) * 10).astype(np.int16), 12 * 14).reshape(-1, 12, 14)


def test_missing_dicom_slices_are_interpolated_at_their_position(tmp_path: Path) -> None:
    z = [30.0 + 2.5 * index for index in range(12) if index not in (4, 5)]
    write_dicom(tmp_path, ramp(z), UID, z_mm=z)
    scan = read_scan(tmp_path)
    assert scan.notes == ("2 slices are missing, the first after slice 4: interpolated",)
    assert scan.hu.shape == (12, 12, 14)
    assert np.allclose(scan.grid.corners_xyz_mm()[:, 2], [30, 30, 30, 30, 57.5, 57.5, 57.5, 57.5], atol=0.01)
    places = scan.grid.to_world(np.array([[float(index), 0, 0] for index in range(12)]))
    assert np.abs(scan.hu[:, 0, 0] / 10 - places[:, 2]).max() <= 0.05


def test_unevenly_spaced_dicom_slices_are_resampled_to_even_positions(tmp_path: Path) -> None:
    z = [30, 32.5, 35, 37, 39, 41, 43.5, 46, 48.5, 51.5]
    write_dicom(tmp_path, ramp(z), UID, z_mm=z)
    scan = read_scan(tmp_path)
    (note,) = scan.notes
    assert all(value in note for value in ("2.00", "3.00", "2.50"))
    places = scan.grid.to_world(np.array([[float(index), 0, 0] for index in range(len(scan.hu))]))
    assert np.abs(scan.hu[:, 0, 0] / 10 - places[:, 2]).max() <= 0.05
    assert (places[0, 2], places[-1, 2]) == pytest.approx((30, 51.5))


def test_a_wide_gap_in_a_dicom_series_is_refused(tmp_path: Path) -> None:
    z = [*range(0, 20, 2), *range(60, 80, 2)]
    write_dicom(tmp_path, ramp(z), UID, z_mm=z)
    with pytest.raises(InputError) as error:
        read_scan(tmp_path)
    assert error.value.key == "scan-invalid"
    assert "42 mm" in str(error.value)


def test_repeated_dicom_slices_are_taken_once_if_they_agree(tmp_path: Path) -> None:
    z = [30.0 + 2.5 * index for index in range(9)]
    write_dicom(tmp_path, ramp(z), UID)
    write_dicom(tmp_path, ramp(z)[3:5], UID, z_mm=z[3:5], prefix="9")
    scan = read_scan(tmp_path)
    (note,) = scan.notes
    assert note.startswith("2 ")
    assert np.array_equal(scan.hu, ramp(z))
    assert scan.grid.spacing_zyx_mm[0] == pytest.approx(2.5)
    write_dicom(tmp_path, ramp(z)[5:6] + 1, UID, z_mm=z[5:6], prefix="8")
    with pytest.raises(InputError) as error:
        read_scan(tmp_path)
    assert error.value.key == "scan-invalid"
    assert "(42.50 mm)" in str(error.value)


def test_a_localiser_in_the_same_dicom_series_is_left_out(tmp_path: Path) -> None:
    z = [30.0 + 2.5 * index for index in range(9)]
    write_dicom(tmp_path, ramp(z), UID)
    write_dicom(tmp_path, np.zeros((1, 30, 30), np.int16), UID, prefix="9")
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.hu, ramp(z))
    (note,) = scan.notes
    assert note.startswith("1 ")


def test_find_scans(odd: Path) -> None:
    values = np.zeros((4, 5, 6), np.int16)
    for name in ("b/2.0.mhd", "a.nii.gz", "LKDS_00007.mhd", ".hidden/x.mhd", "b/._2.0.mha"):
        write_image(odd / name, values)
    (odd / "annotations.csv").write_text("seriesuid\n")
    write_dicom(odd / "Secret Name", np.zeros((5, 12, 14), np.int16), UID)
    found = find_scans(odd)
    assert list(found) == ["1.2.826.0.1.3680043.2.1125.1", "2.0", "LKDS-00007", "a"]
    assert found["2.0"] == odd / "b/2.0.mhd"
    assert find_scans(odd / "a.nii.gz") == {"a": odd / "a.nii.gz"}


def test_find_scans_refuses(tmp_path: Path) -> None:
    for folder in (tmp_path / "gone", tmp_path):
        with pytest.raises(InputError) as error:
            find_scans(folder)
        assert error.value.key == "file-missing"
        assert str(folder) in str(error.value)
    write_image(tmp_path / "1/a.mhd", np.zeros((4, 5, 6), np.int16))
    write_image(tmp_path / "2/a.nrrd", np.zeros((4, 5, 6), np.int16))
    with pytest.raises(InputError) as error:
        find_scans(tmp_path)
    assert error.value.key == "scan-repeated"
    assert all(str(tmp_path / name) in str(error.value) for name in ("1/a.mhd", "2/a.nrrd"))


def real_scans(real_data: Path) -> list[Path]:
    return sorted((real_data / "lidc").glob("subset*/*.mhd"))


@pytest.mark.real_data
def test_real_scans(real_data: Path) -> None:
    for path, slices in zip(real_scans(real_data), (133, 261), strict=True):
        scan = read_scan(path)
        assert scan.scan_id == path.stem
        assert scan.hu.shape == (slices, 512, 512)
        assert scan.hu.min() == -1024


@pytest.mark.real_data
def test_real_dicom_slab_is_the_same_as_the_mhd(real_data: Path) -> None:
    whole, slab = read_scan(real_scans(real_data)[0]), read_scan(real_data / "lidc_dicom_slab")
    assert slab.scan_id == whole.scan_id
    start = np.rint(whole.grid.to_index(np.array([slab.grid.origin_xyz_mm]))[0]).astype(int)
    same = whole.grid.crop(start, start + slab.hu.shape)
    assert np.allclose(same.corners_xyz_mm(), slab.grid.corners_xyz_mm(), atol=0.01)
    assert np.array_equal(whole.hu[start[0] : start[0] + len(slab.hu)], slab.hu)


@pytest.mark.real_data
def test_real_scan_as_nifti_lies_in_the_same_place(real_data: Path, tmp_path: Path) -> None:
    scan = read_scan(real_data / "lidc_dicom_slab")
    again = read_scan(write_image(tmp_path / "肺.nii.gz", scan.hu.astype(np.float32), scan.grid))
    assert np.allclose(again.grid.corners_xyz_mm(), scan.grid.corners_xyz_mm(), atol=0.01)
    assert np.array_equal(again.hu, scan.hu)
