"""HU from stored values: padding, NaN, and counts that no header mentions."""

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Int16, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.io.hounsfield import choose_offset, to_hu
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.settings import ReadingSettings
from tests.chest import GRID, NODULE_XYZ_MM, ball, draw_chest, world_of, write_image

SCAN = Path("scan.mha")
STRICT, LENIENT = ReadingSettings(), ReadingSettings(lenient=True)


@pytest.fixture(scope="module")
def chest() -> Int16[np.ndarray, "z y x"]:
    """Draw a chest with noise, for air of more than one value."""
    noise = np.random.default_rng(0).normal(0, 12, GRID.shape)
    return np.rint(draw_chest().hu + noise).clip(-1024).astype(np.int16)


def read(values: Shaped[np.ndarray, "z y x"], reading: ReadingSettings = STRICT, *, is_file: bool = True) -> int:
    return choose_offset(SCAN, values, reading, may_be_offset=is_file)[0]


def padded(values: Int16[np.ndarray, "z y x"], padding: int) -> Int16[np.ndarray, "z y x"]:
    """Put padding around a round field of view."""
    y, x = np.indices(values.shape[1:])
    outside = np.hypot((y / values.shape[1] - 0.5), x / values.shape[2] - 0.5) > 0.48
    return np.where(outside, np.int16(padding), values)


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, -32768])
def test_padding_becomes_air(padding: int) -> None:
    values = np.full((2, 2, 2), 40, dtype=np.int16)
    values[0] = padding
    assert to_hu(values)[0].max() == -1024
    assert to_hu(values)[1].min() == 40


def test_floats_are_rounded_and_what_is_no_number_is_air() -> None:
    values = np.array([[[-0.6, 0.6, np.nan, np.inf, -np.inf, 99999.0]]], dtype=np.float32)
    assert to_hu(values).tolist() == [[[-1, 1, -1024, -1024, -1024, 32767]]]
    assert to_hu(values, -1024)[0, 0, 2] == -1024


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32])
def test_offset_pixels_become_hu_with_a_note(dtype: type) -> None:
    hu = np.full((8, 40, 40), -1000, dtype=np.int16)
    hu[:, 10:30, 10:30] = 40
    hu[:, 15:25, 12:20] = -850
    hu[0, 0, 0] = -1024
    counts: np.ndarray = (hu + 1024).astype(dtype)
    offset_hu, (note,) = choose_offset(SCAN, counts, STRICT, may_be_offset=True)
    assert "reading.offset_hu=0" in note
    assert np.array_equal(to_hu(counts, offset_hu), hu)
    assert read(counts, ReadingSettings(offset_hu=0)) == 0


def test_hu_cut_off_at_zero_are_left() -> None:
    values = np.zeros((8, 40, 40), dtype=np.uint16)
    values[:, 10:30, 10:30] = 40
    values[:, 15:17, 12:14] = 1000
    assert choose_offset(SCAN, values, STRICT, may_be_offset=True) == (0, ())


@pytest.mark.parametrize("padding", [-8192, -3024, -2000, -1024])
def test_counts_within_padding_are_refused_with_the_cure(chest: Int16[np.ndarray, "z y x"], padding: int) -> None:
    counts = padded(chest + np.int16(1024), padding)
    with pytest.raises(InputError) as error:
        read(counts)
    assert error.value.key == "scan-doubtful"
    assert "reading.offset_hu=-1024" in str(error.value)
    cured = choose_offset(SCAN, counts, ReadingSettings(offset_hu=-1024), may_be_offset=True)
    assert cured == (-1024, ())
    assert np.array_equal(to_hu(counts, -1024), padded(chest, -1024))
    offset_hu, notes = choose_offset(SCAN, counts, LENIENT, may_be_offset=True)
    assert (offset_hu, len(notes)) == (0, 1)


def test_counts_are_refused_where_the_format_defines_hu(chest: Int16[np.ndarray, "z y x"]) -> None:
    for counts in (chest + 1024, chest + 1000, chest.astype(np.int32) + 32768, chest[20:34, 28:56, 45:55] + 1024):
        with pytest.raises(InputError) as error:
            read(counts, is_file=False)
        assert error.value.key == "scan-doubtful"


def test_counts_with_a_little_noise_below_zero_are_refused(chest: Int16[np.ndarray, "z y x"]) -> None:
    counts = chest + np.int16(1024)
    counts[0, 0, :50] = -3
    with pytest.raises(InputError, match=r"reading\.offset_hu=-1024"):
        read(counts)


@pytest.mark.parametrize("padding", [None, -8192, -3024, -2000, -1024])
@pytest.mark.parametrize("kind", ["whole", "inside", "air", "cut off at -1000", "cut off at 0", "bones", "one value"])
def test_true_hu_are_never_refused(chest: Int16[np.ndarray, "z y x"], kind: str, padding: int | None) -> None:
    hu = {
        "whole": chest,
        "inside": chest[20:34, 28:56, 45:55],
        "air": np.random.default_rng(0).normal(-1000, 10, (20, 40, 40)).astype(np.int16),
        "cut off at -1000": chest.clip(-1000),
        "cut off at 0": chest.clip(0),
        "bones": np.where(np.random.default_rng(0).random(chest.shape) < 0.03, np.int16(900), chest.clip(-150)),
        "one value": np.full((20, 40, 40), 40, np.int16),
    }[kind]
    if kind == "bones":
        # Dense bone comes with more of spongy bone.
        hu = np.where(np.random.default_rng(1).random(chest.shape) < 0.04, np.int16(500), hu)
    values = hu if padding is None else padded(hu, padding)
    for is_file in (True, False):
        assert choose_offset(SCAN, values, STRICT, may_be_offset=is_file) == (0, ())


def test_an_offset_on_true_hu_is_refused(chest: Int16[np.ndarray, "z y x"]) -> None:
    with pytest.raises(InputError) as error:
        read(chest, ReadingSettings(offset_hu=-1024))
    assert error.value.key == "scan-doubtful"


def test_what_is_no_number_is_counted_and_alone_refused(chest: Int16[np.ndarray, "z y x"]) -> None:
    values = chest.astype(np.float32)
    values[3, 4, 5:7] = np.nan, np.inf
    _, (note,) = choose_offset(SCAN, values, STRICT, may_be_offset=True)
    assert note.startswith("2 ")
    with pytest.raises(InputError) as error:
        read(np.full((4, 4, 4), np.nan), LENIENT)
    assert error.value.key == "scan-invalid"


def test_a_file_of_counts_is_read_as_hu(tmp_path: Path, chest: Int16[np.ndarray, "z y x"]) -> None:
    path = write_image(tmp_path / "counts.nii.gz", padded(chest + np.int16(1024), -8192), GRID)
    with pytest.raises(InputError) as error:
        read_scan(path)
    assert error.value.key == "scan-doubtful"
    cured = read_scan(path, ReadingSettings(offset_hu=-1024))
    nodule = ball(world_of(cured.grid), NODULE_XYZ_MM, np.full(3, 3.0))
    assert abs(float(cured.hu[nodule].mean()) - 30) < 10


@pytest.mark.real_data
def test_real_scans_are_hu_and_their_counts_are_not(real_data: Path) -> None:
    for path in sorted((real_data / "lidc").glob("subset*/*.mhd")):
        hu = read_scan(path).hu
        z, y, x = (count // 2 for count in hu.shape)
        middle = hu[z - 20 : z + 20, y - 40 : y + 40, x - 40 : x + 40]
        for part in (hu, middle, hu[:, 150:360, 60:200], hu[:, :40, :40]):
            assert choose_offset(path, part, STRICT, may_be_offset=True) == (0, ())
            assert choose_offset(path, padded(part, -3024), STRICT, may_be_offset=True) == (0, ())
        with pytest.raises(InputError) as error:
            read(padded(hu + np.int16(1024), -8192))
        assert error.value.key == "scan-doubtful"
