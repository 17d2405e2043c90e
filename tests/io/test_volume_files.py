"""Single files: where a volume lies is read or refused, in every way in which a header can say it."""

import gzip
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from jaxtyping import Float64, Int16

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_labels, read_scan
from nodule_lightning.io.settings import ReadingSettings
from nodule_lightning.structures import Scan
from tests.chest import write_image

LENIENT = ReadingSettings(lenient=True)
# Index (x, y, z) to RAS, as NIfTI has it.
AFFINE = np.array([[-0.7, 0, 0, 10.0], [0, -0.8, 0, -20.0], [0, 0, 2.5, 30.0], [0, 0, 0, 1]])
GRID = Grid((8, 9, 10), (2.5, 0.8, 0.7), (-10.0, 20.0, 30.0))


@pytest.fixture(scope="module")
def hu() -> Int16[np.ndarray, "z y x"]:
    return np.random.default_rng(0).integers(-1000, 900, GRID.shape).astype(np.int16)


def write_nifti(
    path: Path,
    values: np.ndarray,
    sform: np.ndarray | None = AFFINE,
    qform: np.ndarray | None = None,
    kind: type[Any] = nibabel.Nifti1Image,
    endianness: str = "<",
    **fields: object,
) -> Path:
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(values.dtype)
    image = kind(values.T, None, header)
    image.set_sform(sform, code=0 if sform is None else 1)
    image.set_qform(qform, code=0 if qform is None else 1)
    content = image.to_bytes()
    # Afterwards, because nibabel puts right what it writes.
    head = kind.header_class.from_fileobj(BytesIO(content), check=False)
    for name, value in fields.items():
        head[name] = value
    content = head.binaryblock + content[len(head.binaryblock) :]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def is_same(scan: Scan, hu: Int16[np.ndarray, "z y x"]) -> bool:
    lies = np.abs(scan.grid.corners_xyz_mm() - GRID.corners_xyz_mm()).max() < 1e-4
    return bool(lies) and np.array_equal(scan.hu, hu) and scan.notes == () and scan.hu.dtype == np.dtype(np.int16)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_of_every_kind(
    tmp_path: Path, hu: Int16[np.ndarray, "z y x"], kind: type[Any], endianness: str, dtype: type
) -> None:
    values: np.ndarray = hu.astype(dtype)
    assert is_same(read_scan(write_nifti(tmp_path / "a.nii.gz", values, kind=kind, endianness=endianness)), hu)


def test_nifti_as_other_tools_write_it(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    plain = write_nifti(tmp_path / "a.nii", hu).read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    write_nifti(tmp_path / "singletons.nii.gz", hu[None, None])
    write_nifti(tmp_path / "qform.nii", hu, None, AFFINE)
    write_nifti(tmp_path / "both.nii", hu, AFFINE, AFFINE)
    write_nifti(tmp_path / "no_unit.nii", hu, xyzt_units=0)
    write_nifti(tmp_path / "scaled.nii", (hu + 1024) * 2, scl_slope=0.5, scl_inter=-1024)
    for path in sorted(tmp_path.iterdir()):
        assert is_same(read_scan(path), hu), path.name


@pytest.mark.parametrize(("unit", "size"), [(1, 1e-3), (3, 1e3)])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_nifti_in_metres_and_microns(
    tmp_path: Path, hu: Int16[np.ndarray, "z y x"], unit: int, size: float, form: str
) -> None:
    affine = np.diag([size, size, size, 1.0]) @ AFFINE
    forms = {"sform": (affine, None), "qform": (None, affine)}[form]
    assert is_same(read_scan(write_nifti(tmp_path / "a.nii.gz", hu, *forms, xyzt_units=unit)), hu)


def test_nifti_in_ras_order(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    ras = AFFINE.copy()
    ras[:3, :3] = np.abs(ras[:3, :3])
    ras[:2, 3] -= np.array([0.7 * 9, 0.8 * 8])
    scan = read_scan(write_nifti(tmp_path / "a.nii.gz", hu[:, ::-1, ::-1], ras))
    index = np.array([[1.0, 2.0, 3.0], [7.0, 0.0, 9.0]])
    there = np.rint(scan.grid.to_index(GRID.to_world(index))).astype(int)
    assert [scan.hu[tuple(place)] for place in there] == [hu[1, 2, 3], hu[7, 0, 9]]


def turned() -> Float64[np.ndarray, "4 4"]:
    """Turn the volume about two axes."""
    a, b = np.radians([20.0, 35.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = AFFINE.copy()
    affine[:3, :3] = about_x @ about_z @ AFFINE[:3, :3]
    return affine


def test_rounded_cosines_are_made_orthonormal(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    exact = turned()
    steps = np.array([0.7, 0.8, 2.5])
    for digits in (3, 4):
        rounded = exact.copy()
        rounded[:3, :3] = np.round(exact[:3, :3] / steps, digits) * steps
        scan = read_scan(write_nifti(tmp_path / "a.nii.gz", hu, rounded))
        axes = np.reshape(scan.grid.direction, (3, 3))
        assert np.abs(axes.T @ axes - np.eye(3)).max() < 1e-9
        assert np.array_equal(scan.hu, hu)
        assert scan.notes == ()
        corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(GRID.shape) - 1.0)
        there = corners[:, ::-1] @ rounded[:3, :3].T + rounded[:3, 3]
        assert np.abs(scan.grid.to_world(corners) - there * [-1, -1, 1]).max() < 0.02


@pytest.mark.parametrize("degrees", [-20.0, 3.0, 15.0])
@pytest.mark.parametrize("axes", [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))], ids=["axial", "permuted"])
def test_a_shear_is_resampled_with_a_note(
    tmp_path: Path, degrees: float, axes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    """Draw a function of the world on a sheared grid: after resampling it must be the same function."""
    sheared = AFFINE.copy()
    sheared[1, 2] = 2.5 * np.tan(np.radians(degrees))
    order, signs = axes
    permuted = sheared.copy()
    permuted[:3, :3] = sheared[:3, list(order)] * signs
    index = np.indices((24, 26, 28)).reshape(3, -1).T[:, ::-1]
    ras = index @ permuted[:3, :3].T + permuted[:3, 3]
    slopes = np.array([3.0, 5.0, 4.0])
    values = np.rint(ras @ slopes).reshape(24, 26, 28).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii.gz", values, permuted)
    scan = read_scan(path)
    (note,) = scan.notes
    assert f"{abs(degrees):.1f} degrees" in note
    world = scan.grid.to_world(np.indices(scan.hu.shape).reshape(3, -1).T.astype(np.float64))
    place = np.linalg.solve(permuted[:3, :3], (world * [-1, -1, 1] - permuted[:3, 3]).T).T
    inside = ((place >= -1e-3) & (place <= np.array([27, 25, 23]) + 1e-3)).all(axis=1)
    assert inside.sum() > 0.9 * values.size
    assert np.abs(scan.hu.ravel() - world @ (slopes * [-1, -1, 1]))[inside].max() <= 2
    beyond = ((place < -0.6) | (place > np.array([27.6, 25.6, 23.6]))).any(axis=1)
    assert (scan.hu.ravel()[beyond] == -1024).all()
    assert read_labels(path, scan.grid).shape == scan.hu.shape


def test_a_sheared_meta_image_is_resampled_too(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    path = write_image(tmp_path / "a.mhd", hu, GRID)
    text = path.read_text(encoding="utf-8").replace("= 1 0 0 0 1 0 0 0 1", "= 1 0 0 0 1 0 0 0.26 0.9656")
    path.write_text(text, encoding="utf-8")
    (note,) = read_scan(path).notes
    assert "sheared" in note


def refused(path: Path, key: str, *named: str) -> None:
    with pytest.raises(InputError) as error:
        read_scan(path)
    assert error.value.key == key
    assert all(word in str(error.value) for word in (path.name, *named)), error.value


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("a.mhd", ("ElementSpacing", "Offset", "TransformMatrix")),
        ("a.mha", ("ElementSpacing", "Offset", "TransformMatrix")),
        ("a.nrrd", ("space", "space directions", "space origin")),
    ],
)
def test_a_header_that_leaves_out_the_place(
    tmp_path: Path, hu: Int16[np.ndarray, "z y x"], name: str, keys: tuple[str, ...]
) -> None:
    path = write_image(tmp_path / name, hu, GRID)
    whole = path.read_bytes()
    for key in keys:
        starts = (f"{key} =".encode(), f"{key}:".encode())
        lines = [line for line in whole.split(b"\n") if not line.startswith(starts)]
        if key == "space":
            lines.insert(4, b"space dimension: 3")
        path.write_bytes(b"\n".join(lines))
        refused(path, "scan-doubtful", key)
        (note,) = read_scan(path, LENIENT).notes
        assert key in note
        assert np.array_equal(read_scan(path, LENIENT).hu, hu)


def test_a_meta_image_may_use_other_names(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    path = write_image(tmp_path / "a.mhd", hu, GRID)
    text = path.read_text(encoding="utf-8").replace("Offset", "Position").replace("TransformMatrix", "Orientation")
    path.write_text(text, encoding="utf-8")
    assert is_same(read_scan(path), hu)


def test_a_nifti_without_a_place(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", hu, None, pixdim=[1, 0.7, 0.8, 2.5, 0, 0, 0, 0])
    refused(path, "scan-doubtful", "sform_code", "qform_code")
    scan = read_scan(path, LENIENT)
    assert np.allclose(scan.grid.spacing_zyx_mm, (2.5, 0.8, 0.7))
    assert np.array_equal(scan.hu, hu)


@pytest.mark.parametrize("pixdim", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("form", ["none", "qform"])
def test_a_nifti_without_spacing_is_refused(
    tmp_path: Path, hu: Int16[np.ndarray, "z y x"], pixdim: float, form: str
) -> None:
    steps = [1, 0.7, 0.8, pixdim, 0, 0, 0, 0]
    path = write_nifti(tmp_path / "a.nii.gz", hu, None, AFFINE if form == "qform" else None, pixdim=steps)
    with pytest.raises(InputError) as error:
        read_scan(path, LENIENT)
    assert error.value.key == "scan-invalid"


def test_a_nifti_whose_forms_contradict_each_other(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 20
    path = write_nifti(tmp_path / "a.nii.gz", hu, AFFINE, moved)
    refused(path, "scan-doubtful", "8.0 voxels")
    (note,) = read_scan(path, LENIENT).notes
    assert "qform" in note


def colour(path: Path) -> Path:
    values = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    kind: Any = nibabel.Nifti1Image
    path.write_bytes(kind(values, AFFINE).to_bytes())
    return path


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (colour, "scan-invalid"),
        (lambda path: write_nifti(path, np.zeros((5, 4, 3), np.complex64)), "scan-invalid"),
        (lambda path: write_nifti(path, np.zeros((2, 5, 4, 3), np.int16)), "scan-invalid"),
        (lambda path: write_nifti(path, np.zeros((5, 4, 3), np.int16), vox_offset=400), "file-damaged"),
        (lambda path: write_nifti(path, np.zeros((5, 4, 3), np.int16), dim=[3, -3, 4, 5, 1, 1, 1, 1]), "file-damaged"),
        (lambda path: write_nifti(path, np.zeros((5, 4, 3), np.int16), datatype=77), "file-damaged"),
    ],
)
def test_a_nifti_that_is_no_ct(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], Path], key: str
) -> None:
    refused(make(tmp_path / "a.nii"), key)
    assert capfd.readouterr() == ("", "")


def test_itk_reads_the_same_place(tmp_path: Path, hu: Int16[np.ndarray, "z y x"]) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", hu, turned(), turned())
    image, grid = SimpleITK.ReadImage(str(path)), read_scan(path).grid
    assert np.allclose(image.GetOrigin(), grid.origin_xyz_mm, atol=1e-4)
    assert np.allclose(image.GetDirection(), grid.direction, atol=1e-6)
    assert np.allclose(image.GetSpacing(), grid.spacing_zyx_mm[::-1], atol=1e-6)
