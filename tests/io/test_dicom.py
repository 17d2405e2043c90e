"""DICOM as people have it: the right volume, or a failure that says why; never another volume in silence."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.dicom_headers import UnreadableError, read_header
from nodule_lightning.io.readers import read_scan, source_files
from nodule_lightning.io.scan_folders import find_scans
from nodule_lightning.io.settings import ReadingSettings
from nodule_lightning.structures import Scan
from tests.chest import write_dicom

SERIES = "1.2.826.0.1.3680043.2.1125.9"
SPACING_ZYX_MM = (2.5, 0.8, 0.7)
Z_MM = [30.0 + 2.5 * index for index in range(14)]
LENIENT = ReadingSettings(lenient=True)


def values(z_mm: list[float]) -> np.ndarray:
    """Draw slices whose values encode their place: 10 HU per mm of z, and rows and columns."""
    y, x = np.mgrid[:12, :14]
    planes = [np.rint(10 * z).astype(np.int16) + 40 * y + 3 * x - 600 for z in z_mm]
    return np.stack(planes).astype(np.int16)


def hu_at(place_xyz_mm: np.ndarray) -> np.ndarray:
    x, y, z = place_xyz_mm.T
    return np.asarray(10 * z + 40 * (y - 20) / 0.8 + 3 * (x + 10) / 0.7 - 600)


def write_series(folder: Path, z_mm: list[float] | None = None, uid: str = SERIES, prefix: str = "") -> list[Path]:
    z_mm = Z_MM if z_mm is None else z_mm
    grid = Grid((len(z_mm), 12, 14), SPACING_ZYX_MM, (-10.0, 20.0, 30.0))
    write_dicom(folder, values(z_mm), uid, grid=grid, z_mm=z_mm, prefix=prefix)
    # By place.
    return sorted(folder.glob(f"{prefix}{uid}-*.dcm"), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])


def edit(file: Path, change: Callable[[Dataset], object]) -> None:
    dataset = pydicom.dcmread(file)
    change(dataset)
    dataset.save_as(file)


def put(**tags: object) -> Callable[[Dataset], object]:
    def change(dataset: Dataset) -> None:
        for name, value in tags.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return change


def assert_right(scan: Scan, slices: int | None = None, tolerance_hu: float = 1.01) -> None:
    """Check that every voxel holds what belongs to its place."""
    index = np.argwhere(np.ones(scan.hu.shape, bool))
    inside = scan.hu.ravel() > -1000
    difference = scan.hu.ravel()[inside] - hu_at(scan.grid.to_world(index[inside].astype(float)))
    assert inside.mean() > 0.5
    assert np.abs(difference).max() < tolerance_hu
    if slices is not None:
        assert len(scan.hu) == slices


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "ct")


def refused(folder: Path) -> InputError:
    with pytest.raises(InputError) as error:
        read_scan(folder)
    assert "\n" not in str(error.value)
    assert "Secret" not in str(error.value)
    return error.value


def test_the_good_one_has_no_note(series: list[Path]) -> None:
    scan = read_scan(series[0].parent)
    assert_right(scan, 14, 0.1)
    assert scan.notes == ()


def test_a_link_to_nowhere_costs_no_slice(series: list[Path]) -> None:
    folder = series[0].parent
    for name in ("zzz", "notes.txt", "aaa"):
        (folder / name).symlink_to("nowhere")
    scan = read_scan(folder)
    assert_right(scan, 14, 0.1)
    assert ["3 files" in note for note in scan.notes] == [True]
    (folder / f"{SERIES}-999.dcm").symlink_to("nowhere")
    error = refused(folder)
    assert (error.key, "1 of 15 files" in str(error)) == ("scan-doubtful", True)


@pytest.mark.parametrize("length", [0, 60, 140, 500, -40], ids=["empty", "preamble", "magic", "header", "pixels"])
def test_files_that_are_cut_short_are_counted(series: list[Path], length: int) -> None:
    for file in series[5:]:
        os.truncate(file, length if length >= 0 else file.stat().st_size + length)
    folder = series[0].parent
    error = refused(folder)
    assert error.key == "scan-doubtful"
    assert "9 of 14 files" in str(error)
    scan = read_scan(folder, LENIENT)
    assert_right(scan, 5, 0.1)
    assert ["9 of 14" in note for note in scan.notes] == [True]
    for file in series[:5]:
        os.truncate(file, 0)
    if length < 200:
        assert list(find_scans(folder)) == ["unreadable-1"]
    assert refused(folder).key in {"file-damaged", "scan-doubtful"}


def test_an_image_without_a_place_is_left_out(series: list[Path]) -> None:
    folder = series[0].parent
    for number, position in enumerate((None, "")):
        copy = shutil.copy(series[3], folder / f"screen save {number}.dcm")
        edit(Path(copy), put(ImagePositionPatient=position, SOPInstanceUID=generate_uid()))
    scan = read_scan(folder)
    assert_right(scan, 14, 0.1)
    assert ["2 of 16 images" in note for note in scan.notes] == [True]


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_series_that_does_not_say_where_it_lies_is_refused(series: list[Path], tag: str) -> None:
    for file in series:
        edit(file, put(**{tag: None}))
    error = refused(series[0].parent)
    assert (error.key, tag in str(error)) == ("scan-invalid", True)
    with pytest.raises(InputError):
        read_scan(series[0].parent, LENIENT)


def test_positions_with_decimal_commas_fail_alone(series: list[Path]) -> None:
    def with_commas(dataset: Dataset) -> None:
        text = "\\".join(str(value).replace(".", ",") for value in dataset.ImagePositionPatient)
        del dataset.ImagePositionPatient
        dataset.add_new("ImagePositionPatient", "LO", text)

    good = write_series(series[0].parent.parent / "good", uid=SERIES + ".5")
    for file in series:
        edit(file, with_commas)
    assert refused(series[0].parent).key == "scan-invalid"
    found = find_scans(series[0].parent.parent)
    assert list(found) == [SERIES, SERIES + ".5"]
    assert_right(read_scan(found[SERIES + ".5"]), len(good))


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": [0.9, 0.9]}, {"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}], ids=["spacing", "turned"]
)
def test_two_volumes_in_one_series_are_refused(series: list[Path], tags: dict[str, object]) -> None:
    for file in series[:6]:
        edit(file, put(**tags))
    error = refused(series[0].parent)
    assert error.key == "scan-doubtful"
    assert "8 of 12x14 pixels of 0.8 x 0.7 mm" in str(error)
    assert_right(read_scan(series[0].parent, LENIENT), 8, 0.1)


@pytest.mark.parametrize("numbered", [True, False])
def test_several_passes_are_refused(series: list[Path], numbered: bool) -> None:
    folder = series[0].parent
    for file in series:
        edit(file, put(AcquisitionNumber=1))
    for file in write_series(folder, [z + 0.5 for z in Z_MM], prefix="second"):
        edit(file, put(AcquisitionNumber=2 if numbered else 1))
    assert refused(folder).key == "scan-doubtful"


def test_what_a_gantry_does_is_no_pass(tmp_path: Path) -> None:
    # Blocks that follow each other, each an acquisition of its own; slices of two thicknesses.
    z = [*Z_MM, *(Z_MM[-1] + 1.25 * step for step in range(1, 14))]
    for number, file in enumerate(write_series(tmp_path, z)):
        edit(file, put(AcquisitionNumber=number // 4))
    assert_right(read_scan(tmp_path))


def test_a_series_in_two_folders_is_read_together(series: list[Path]) -> None:
    folder = series[0].parent
    (folder.parent / "more" / "deep").mkdir(parents=True)
    for file in series[6:]:
        shutil.move(file, folder.parent / "more" / "deep" / file.name)
    assert find_scans(folder.parent) == {SERIES: folder.parent}
    assert_right(read_scan(folder.parent, scan_id=SERIES), 14, 0.1)
    assert_right(read_scan(folder.parent), 14, 0.1)


def test_two_slices_that_lie_beside_another_series_are_not_lost(series: list[Path]) -> None:
    other = series[0].parent.parent / "other"
    write_series(other, uid=SERIES + ".5")
    for file in series[:2]:
        shutil.move(file, other / file.name)
    found = find_scans(other.parent)
    assert found == {SERIES: other.parent, SERIES + ".5": other}
    assert_right(read_scan(found[SERIES], scan_id=SERIES), 14, 0.1)
    assert_right(read_scan(found[SERIES + ".5"], scan_id=SERIES + ".5"), 14, 0.1)


def test_links_to_scans_are_followed_and_loops_are_not(series: list[Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "patient").symlink_to(series[0].parent)
    (data / "loop").symlink_to(data)
    (data / "again").symlink_to(series[0].parent)
    found = find_scans(data)
    assert list(found) == [SERIES]
    assert_right(read_scan(found[SERIES], scan_id=SERIES), 14, 0.1)


def test_a_folder_that_cannot_be_listed_fails_alone(series: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    locked, below = series[0].parent.parent / "locked", series[0].parent / "below"
    locked.mkdir()
    below.mkdir()

    def refusing(listed: Callable[[Path], object]) -> Callable[[Path], object]:
        def refuse(path: Path) -> object:
            if Path(path) in {locked, below}:
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        return refuse

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    found = find_scans(locked.parent)
    assert found == {SERIES: series[0].parent, "unreadable-1": below, "unreadable-2": locked}
    with pytest.raises(InputError) as error:
        read_scan(locked, scan_id="unreadable-2")
    assert error.value.key == "file-unreadable"
    assert ["1 files or folders" in note for note in read_scan(series[0].parent).notes] == [True]


def test_files_without_preamble_are_read(series: list[Path]) -> None:
    for file in series:
        dataset = pydicom.dcmread(file)
        plain = Dataset()
        plain.update(dataset)
        plain.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    assert find_scans(series[0].parent) == {SERIES: series[0].parent}
    assert_right(read_scan(series[0].parent), 14, 0.1)


def test_without_a_series_uid_the_study_names_the_scan(series: list[Path]) -> None:
    for file in series:
        edit(file, put(SeriesInstanceUID=""))
    assert read_scan(series[0].parent).scan_id == "1.2.3"
    assert find_scans(series[0].parent) == {"1.2.3": series[0].parent}
    for file in series:
        edit(file, put(StudyInstanceUID=""))
    assert refused(series[0].parent).key == "scan-invalid"
    assert find_scans(series[0].parent) == {"unreadable-1": series[0].parent}
    with pytest.raises(InputError) as error:
        read_scan(series[0].parent, scan_id="unreadable-1")
    assert error.value.key == "scan-invalid"


def enhanced(series: list[Path], file: Path, order: list[int], *, is_shared: bool) -> None:
    first = pydicom.dcmread(series[0])
    whole = FileDataset(str(file), first, file_meta=first.file_meta, preamble=b"\0" * 128)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        if name in whole:
            delattr(whole, name)
    is_compressed = whole.file_meta.TransferSyntaxUID.is_compressed
    if not is_compressed:
        whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2.1")
    frames, shared = [], Dataset()
    for place in order:
        single, frame = pydicom.dcmread(series[place]), Dataset()
        position, orientation, measures, transform = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = single.ImagePositionPatient
        orientation.ImageOrientationPatient = single.ImageOrientationPatient
        measures.PixelSpacing = list(SPACING_ZYX_MM[1:])
        transform.RescaleSlope, transform.RescaleType = single.get("RescaleSlope", 1), "HU"
        transform.RescaleIntercept = single.get("RescaleIntercept", 0)
        frame.PlanePositionSequence = Sequence([position])
        holder = shared if is_shared else frame
        holder.PlaneOrientationSequence = Sequence([orientation])
        holder.PixelMeasuresSequence = Sequence([measures])
        holder.PixelValueTransformationSequence = Sequence([transform])
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = Sequence(frames)
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    whole.NumberOfFrames = len(order)
    stored = [pydicom.dcmread(series[place]).PixelData for place in order]
    frames_of = [get_frame(content, 0, number_of_frames=1) for content in stored] if is_compressed else []
    whole.PixelData = encapsulate(frames_of) if is_compressed else b"".join(stored)
    file.parent.mkdir()
    whole.save_as(file)


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_enhanced_ct_is_the_same_scan_in_any_order_of_its_frames(
    series: list[Path], tmp_path: Path, is_shared: bool
) -> None:
    order = np.random.default_rng(0).permutation(len(series)).tolist()
    enhanced(series, tmp_path / "enhanced" / "all.dcm", order, is_shared=is_shared)
    scan, expected = read_scan(tmp_path / "enhanced"), read_scan(series[0].parent)
    assert np.array_equal(scan.hu, expected.hu)
    assert scan.grid == expected.grid
    assert scan.notes == ()


@pytest.mark.parametrize("degrees", [2.0, 15.0])
def test_under_a_tilted_gantry_each_voxel_stays_in_its_place(series: list[Path], degrees: float) -> None:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    for file in series:
        x, y, z = (float(value) for value in pydicom.dcmread(file).ImagePositionPatient)
        # The table moves along z, the rows lie in tilted planes.
        edit(file, put(ImageOrientationPatient=[1, 0, 0, 0, cosine, sine], ImagePositionPatient=[x, y, z]))
    scan = read_scan(series[0].parent)
    assert any("tilt" in note for note in scan.notes)
    index = np.argwhere(scan.hu > -1000)
    x, y, z = scan.grid.to_world(index.astype(float)).T
    row_mm = (y - 20) / cosine
    expected = 10 * (z - row_mm * sine) + 40 * row_mm / 0.8 + 3 * (x + 10) / 0.7 - 600
    difference = np.abs(scan.hu[tuple(index.T)] - expected)
    assert np.median(difference) < 1
    # Rows at the rim are blended with what lies outside.
    assert (difference < 2).mean() > 0.75


def test_slices_that_wander_sideways_are_refused(series: list[Path]) -> None:
    for number, file in enumerate(series):
        x, y, z = pydicom.dcmread(file).ImagePositionPatient
        edit(file, put(ImagePositionPatient=[float(x) + 4 * (number % 2), float(y), float(z)]))
    assert refused(series[0].parent).key == "scan-invalid"


def test_what_was_right_stays_right(series: list[Path]) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
        dataset.SpacingBetweenSlices = -2.5
        dataset.InstanceNumber = 100 - number
        if number % 2:
            stored = 2 * (dataset.pixel_array.astype(np.int32) - 1024) + 2048
            dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -1024
            dataset.PixelData = stored.astype(np.uint16 if dataset.PixelRepresentation == 0 else np.int16).tobytes()

    for number, file in enumerate(series):
        edit(file, partial(change, number))
    scan = read_scan(series[0].parent)
    assert_right(scan, 14, 0.6)
    assert scan.notes == ()


def test_other_objects_of_the_series_are_no_slices(series: list[Path]) -> None:
    report = Dataset()
    report.update(dict(pydicom.dcmread(series[0], stop_before_pixels=True).items()))
    for name in ("Rows", "Columns", "ImagePositionPatient"):
        delattr(report, name)
    report.Modality = "RTSTRUCT"
    report.file_meta = pydicom.dcmread(series[0]).file_meta
    report.save_as(series[0].parent / "structures.dcm", enforce_file_format=True)
    scan = read_scan(series[0].parent)
    assert_right(scan, 14, 0.1)
    assert scan.notes == ()


def compress(series: list[Path], compressor: str) -> None:
    if compressor == "RLE":
        for file in series:
            edit(file, lambda dataset: dataset.compress(RLELossless))
        return
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    for file, plane in zip(series, values(Z_MM), strict=True):
        header = pydicom.dcmread(file)
        image = SimpleITK.GetImageFromArray(plane[None])
        image.SetSpacing((SPACING_ZYX_MM[2], SPACING_ZYX_MM[1], 2.5))
        place = "\\".join(map(str, header.ImagePositionPatient))
        for tag, value in {
            "0008|0060": "CT", "0008|0018": header.SOPInstanceUID, "0020|000d": header.StudyInstanceUID,
            "0020|000e": SERIES, "0020|0032": place, "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():  # fmt: skip
            image.SetMetaData(tag, value)
        writer.SetFileName(str(file))
        writer.Execute(image)


COMPRESSORS = ["JPEG2000", "JPEG", "RLE"]


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_lossless_compression_changes_no_value(series: list[Path], compressor: str) -> None:
    compress(series, compressor)
    assert pydicom.dcmread(series[0], stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
    scan = read_scan(series[0].parent)
    assert np.array_equal(scan.hu, values(Z_MM))
    assert_right(scan, 14)
    for file in series[8:]:
        os.truncate(file, file.stat().st_size - 20)
    assert refused(series[0].parent).key == "scan-doubtful"


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_the_frames_of_a_compressed_enhanced_ct_are_decoded(
    series: list[Path], tmp_path: Path, compressor: str
) -> None:
    compress(series, compressor)
    file = tmp_path / "enhanced" / "all.dcm"
    enhanced(series, file, list(reversed(range(len(series)))), is_shared=True)
    scan = read_scan(file.parent)
    assert np.array_equal(scan.hu, values(Z_MM))
    assert_right(scan, 14)
    os.truncate(file, file.stat().st_size - 300)
    assert refused(file.parent).key == "file-damaged"


def test_slices_of_another_type_keep_their_values(series: list[Path]) -> None:
    def halve(dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -1000.5

    stored = [pydicom.dcmread(file).pixel_array.astype(float) for file in series[1::2]]
    for file in series[1::2]:
        edit(file, halve)
    scan = read_scan(series[0].parent)
    assert np.array_equal(scan.hu[::2], values(Z_MM)[::2])
    assert np.array_equal(scan.hu[1::2], np.rint([0.5 * plane - 1000.5 for plane in stored]).clip(-1024))


SLIGHT: dict[str, dict[str, object]] = {
    "spacing": {"PixelSpacing": [0.8, 0.7005]},
    "direction": {"ImageOrientationPatient": [1, 0, 0, 0, 0.999999, 0.0015]},
}


@pytest.mark.parametrize("tags", SLIGHT.values(), ids=SLIGHT)
def test_slices_that_differ_slightly_are_not_mixed(series: list[Path], tags: dict[str, object]) -> None:
    for file in series[9:]:
        edit(file, put(**tags))
    assert refused(series[0].parent).key == "scan-doubtful"
    assert_right(read_scan(series[0].parent, LENIENT), 9)


def test_one_slice_a_millimetre_aside_is_refused(series: list[Path]) -> None:
    edit(series[6], put(ImagePositionPatient=[-9.1, 20.0, Z_MM[6]]))
    assert refused(series[0].parent).key == "scan-invalid"


@pytest.mark.parametrize("told_by", ["AcquisitionNumber", "AcquisitionTime", "InstanceNumber", "distances"])
@pytest.mark.parametrize("overlap", [5, 12])
@pytest.mark.parametrize("offset_mm", [0.5, 1.0, 1.25])
def test_passes_that_overlap_a_little_are_refused(tmp_path: Path, offset_mm: float, overlap: int, told_by: str) -> None:
    if told_by == "distances" and offset_mm == 1.25:
        pytest.skip("halfway between the slices of the other pass, distances tell nothing")
    long = [30.0 + 2.5 * index for index in range(25)]
    files = write_series(tmp_path, long, prefix="A")
    files += write_series(tmp_path, [long[-1] + offset_mm + 2.5 * (k - overlap) for k in range(20)], prefix="B")
    for number, file in enumerate(files):
        one = number < len(long)
        edit(file, put(InstanceNumber=number + 1 if told_by == "InstanceNumber" else 7))
        if told_by == "AcquisitionNumber":
            edit(file, put(AcquisitionNumber=1 if one else 2))
        if told_by == "AcquisitionTime":
            edit(file, put(AcquisitionTime="101500" if one else "101522"))
    assert refused(tmp_path).key == "scan-doubtful"


def test_one_slice_between_two_others_is_refused(series: list[Path]) -> None:
    edit(series[2], put(ImagePositionPatient=[-10.0, 20.0, Z_MM[8] + 0.9]))
    assert refused(series[0].parent).key == "scan-doubtful"


def test_the_last_slices_of_a_series_beside_another_are_not_lost(tmp_path: Path) -> None:
    other = f"{SERIES}.2"
    write_series(tmp_path / "1", Z_MM[:-2])
    write_series(tmp_path / "2", Z_MM[-2:], prefix="9")
    write_series(tmp_path / "2", uid=other)
    found = find_scans(tmp_path)
    assert list(found) == [SERIES, other]
    for scan_id, path in found.items():
        assert_right(read_scan(path, scan_id=scan_id), 14)


def test_the_rest_of_a_series_in_a_subfolder_is_read_too(tmp_path: Path) -> None:
    write_series(tmp_path, Z_MM[:9])
    write_series(tmp_path / "more", Z_MM[9:], prefix="9")
    write_series(tmp_path / "other", uid=f"{SERIES}.2")
    assert_right(read_scan(tmp_path), 14)
    assert_right(read_scan(find_scans(tmp_path)[SERIES], scan_id=SERIES), 14)


@pytest.mark.parametrize("left", [b"", bytes(700)], ids=["empty", "zeros"])
def test_blank_files_count_whatever_their_names(series: list[Path], left: bytes) -> None:
    folder = series[0].parent
    # As of an anonymiser that names files by a hash.
    names = [file.rename(folder / f"{chr(97 + number)}{number * 7919:x}f") for number, file in enumerate(series)]
    (folder / "README").write_text("no image")
    for file in names[8:]:
        file.write_bytes(left)
    error = refused(folder)
    assert (error.key, "6 of 14 files" in str(error)) == ("scan-doubtful", True)
    assert_right(read_scan(folder, LENIENT), 8, 0.1)


def test_slices_with_the_suffix_of_another_format_are_read(series: list[Path]) -> None:
    for number, file in enumerate(series[5:]):
        file.rename(file.with_suffix((".raw", ".txt", ".jpg")[number % 3]))
    assert_right(read_scan(series[0].parent), 14, 0.1)


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.1.3.10", "1.3.12.2.1107.5.9.1"], ids=["DICOMDIR", "private"])
def test_objects_of_a_class_without_images_are_no_damaged_slices(series: list[Path], sop_class: str) -> None:
    dataset = pydicom.dcmread(series[0])
    for name in ("Rows", "Columns", "PixelData"):
        delattr(dataset, name)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.save_as(series[0].parent / "object.dcm")
    scan = read_scan(series[0].parent)
    assert_right(scan, 14, 0.1)
    assert scan.notes == ()


SOURCES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "studies": ({"StudyInstanceUID": "1.7"}, {}),
    "frames of reference": ({"FrameOfReferenceUID": "1.7"}, {"FrameOfReferenceUID": "1.8"}),
    "no series, two numbers": ({"SeriesNumber": 7}, {"SeriesInstanceUID": ""}),
    "no series, two folders": ({}, {"SeriesInstanceUID": ""}),
}


@pytest.mark.parametrize(("one", "all_of_them"), SOURCES.values(), ids=SOURCES)
def test_scans_that_share_an_id_are_not_joined(
    series: list[Path], one: dict[str, object], all_of_them: dict[str, object]
) -> None:
    root = series[0].parent.parent
    # The second begins where the first ends.
    others = write_series(root / "b", [z + 35.0 for z in Z_MM[:9]])
    for file in series + others:
        edit(file, put(**all_of_them))
    for file in others:
        edit(file, put(**one))
    ((scan_id, path),) = find_scans(root).items()
    with pytest.raises(InputError) as error:
        read_scan(path, scan_id=scan_id)
    assert error.value.key == "scan-doubtful"
    assert_right(read_scan(path, LENIENT, scan_id), 14, 0.1)


def test_frames_and_single_slices_are_not_mixed(series: list[Path], tmp_path: Path) -> None:
    enhanced(series[:5], tmp_path / "enhanced" / "all.dcm", list(range(5)), is_shared=True)
    shutil.move(tmp_path / "enhanced" / "all.dcm", series[0].parent / "all.dcm")
    for file in series[:5]:
        file.unlink()
    assert refused(series[0].parent).key == "scan-doubtful"
    assert_right(read_scan(series[0].parent, LENIENT), 9, 0.1)


def test_damaged_headers_are_unreadable_and_nothing_else(series: list[Path]) -> None:
    draw, whole = np.random.default_rng(0), series[0].read_bytes()
    for _ in range(400):
        content = bytearray(whole)
        for place in draw.integers(132, len(content) - 336, 4):
            content[place] = draw.integers(256)
        series[0].write_bytes(content)
        with suppress(UnreadableError):
            read_header(series[0])


def test_big_endian_and_deflated_slices_are_read(series: list[Path]) -> None:
    for number, file in enumerate(series):
        dataset = pydicom.dcmread(file)
        if number % 2:
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            dataset.save_as(file)
            continue
        turned = Dataset()
        for element in dataset:
            turned.add_new(element.tag, element.VR, element.value)
        turned.add_new("PixelData", "OW", dataset.pixel_array.byteswap().tobytes())
        turned.file_meta, turned.preamble = dataset.file_meta, b"\0" * 128
        turned.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(file, turned, implicit_vr=False, little_endian=False)
    assert_right(read_scan(series[0].parent), 14, 0.1)


def test_the_files_of_a_series_in_two_folders_are_all_its_sources(series: list[Path]) -> None:
    root = series[0].parent.parent
    (root / "more").mkdir()
    for file in series[6:]:
        shutil.move(file, root / "more" / file.name)
    (root / "linked").symlink_to(root / "more")
    (root / "annotations.csv").write_text("seriesuid\n")
    assert len(source_files(root)) == 15


def second_pass(file: Path, pick: int) -> None:
    x, y, z = pydicom.dcmread(file).ImagePositionPatient
    copy = file.with_name(f"pass-{pick}-{file.name}")
    shutil.copy(file, copy)
    edit(copy, put(ImagePositionPatient=[float(x), float(y), float(z) + 0.7], AcquisitionNumber=2))


def object_of_the_series(file: Path, pick: int) -> None:
    dataset = pydicom.dcmread(file, stop_before_pixels=True)
    for name in ("Rows", "Columns"):
        delattr(dataset, name)
    dataset.Modality = "SR"
    dataset.save_as(file.with_name(f"report-{pick}.dcm"))


EDITS: dict[str, Callable[[Path, int], object]] = {
    "drop": lambda file, _: file.unlink(),
    "cut": lambda file, pick: os.truncate(file, pick * 37 % file.stat().st_size),
    "copy": lambda file, pick: shutil.copy(file, file.with_name(f"copy-{pick}-{file.name}")),
    "rename": lambda file, pick: file.rename(file.with_name(f"{(pick * 57) % 101:03d}-{file.name[-9:]}")),
    "renumber": lambda file, pick: edit(file, put(InstanceNumber=pick)),
    "no place": lambda file, _: edit(file, put(ImagePositionPatient=None)),
    "respace": lambda file, _: edit(file, put(PixelSpacing=[1.1, 1.3])),
    "turn": lambda file, _: edit(file, put(ImageOrientationPatient=[0, 1, 0, -1, 0, 0])),
    "second pass": second_pass,
    "blank": lambda file, pick: file.write_bytes(bytes(pick * 7)),
    "other scan": lambda file, _: edit(file, put(FrameOfReferenceUID="1.7")),
    "other suffix": lambda file, _: file.rename(file.with_suffix(".raw")),
    "object": object_of_the_series,
    "foreign": lambda file, _: file.with_suffix(".txt").write_text("no DICOM"),
    "link": lambda file, pick: file.with_name(f"link-{pick}-{file.stem}").symlink_to("nowhere"),
}


def never_another_volume(root: Path, edits: list[tuple[str, list[int]]]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    files = write_series(root / "ct")
    # Each file is edited once.
    untouched = dict.fromkeys(files)
    for kind, picks in edits:
        for pick in picks:
            file = files[pick % len(files)]
            if file in untouched:
                del untouched[file]
                EDITS[kind](file, pick)
    try:
        scan = read_scan(root / "ct")
    except InputError:
        return
    assert_right(scan)


EDIT_LISTS = st.lists(
    st.tuples(st.sampled_from(sorted(EDITS)), st.lists(st.integers(0, 99), min_size=1, max_size=6)),
    min_size=1,
    max_size=3,
)
FUZZ = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
    "phases": [Phase.generate],
}


@settings(max_examples=30, **FUZZ)  # type: ignore[arg-type]
@given(EDIT_LISTS)
def test_any_edit_gives_the_right_volume_or_a_failure(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, list[int]]]
) -> None:
    never_another_volume(tmp_path_factory.getbasetemp() / "few edits", edits)


@pytest.mark.slow
@settings(max_examples=300, **FUZZ)  # type: ignore[arg-type]
@given(EDIT_LISTS)
def test_three_hundred_edits_give_the_right_volume_or_a_failure(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, list[int]]]
) -> None:
    never_another_volume(tmp_path_factory.getbasetemp() / "many edits", edits)
