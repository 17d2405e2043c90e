"""A simple chest drawn from formulas in world coordinates, so that any grid shows the same anatomy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float64, Int16, Shaped

from nodule_lightning.geometry import Grid
from nodule_lightning.structures import Scan

CENTRE_XYZ_MM = np.array([10.0, -20.0, -150.0])
NODULE_XYZ_MM = CENTRE_XYZ_MM + np.array([60.0, 10.0, 5.0])
LUNG_RADII_XYZ_MM = np.array([38.0, 45.0, 55.0])
GRID = Grid((54, 79, 100), (3.0, 2.8, 2.8), (-130.0, -115.0, -228.0))


# Unique texts, so that a search of bytes finds them.
PATIENT = {
    "0008|0020": "19910823",  # StudyDate
    "0008|0050": "ACC-77310",  # AccessionNumber
    "0008|0080": "Hidden Hospital",  # InstitutionName
    "0008|0081": "Veiled Street 7",  # InstitutionAddress
    "0008|0090": "Unnamed^Doctor",  # ReferringPhysicianName
    "0008|1030": "Study of Secret",  # StudyDescription
    "0010|0010": "Secret^Name",  # PatientName
    "0010|0020": "PID-4711",  # PatientID
    "0010|0030": "19410203",  # PatientBirthDate
    "0010|1001": "Other^Name",  # OtherPatientNames
    "0010|1040": "Masked Lane 3",  # PatientAddress
    "0010|4000": "Said in confidence",  # PatientComments
}


def world_of(grid: Grid) -> Float64[np.ndarray, "z y x 3"]:
    return grid.to_world(np.indices(grid.shape).reshape(3, -1).T.astype(np.float64)).reshape(*grid.shape, 3)


def ball(
    world: Float64[np.ndarray, "z y x 3"], centre: Float64[np.ndarray, "3"], radii: Float64[np.ndarray, "3"]
) -> Bool[np.ndarray, "z y x"]:
    return np.asarray((((world - centre) / radii) ** 2).sum(axis=-1) <= 1)


def lung_centre(side: int) -> Float64[np.ndarray, "3"]:
    return np.asarray(CENTRE_XYZ_MM + np.array([side * 50.0, 0.0, 0.0]))


def draw_chest(grid: Grid = GRID, *, lungs: bool = True) -> Scan:
    world = world_of(grid)
    x, y = world[..., 0] - CENTRE_XYZ_MM[0], world[..., 1] - CENTRE_XYZ_MM[1]
    hu: Int16[np.ndarray, "z y x"] = np.full(grid.shape, -1000, dtype=np.int16)
    # A table whose foam is as thin as air and closed off by its shell and the body.
    hu[(np.abs(y - 95) < 15) & (np.abs(x) < 115)] = 100
    hu[(np.abs(y - 95) < 9) & (np.abs(x) < 109)] = -970
    hu[(x / 110) ** 2 + (y / 80) ** 2 <= 1] = 40
    for side in (-1, 1) if lungs else ():
        hu[ball(world, lung_centre(side), LUNG_RADII_XYZ_MM)] = -850
    hu[ball(world, NODULE_XYZ_MM, np.full(3, 6.0))] = 30
    return Scan("chest", hu, grid)


def write_image(path: Path, values: Shaped[np.ndarray, "*shape"], grid: Grid | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(values, isVector=False)
    if grid is not None:
        image.SetSpacing(grid.spacing_zyx_mm[::-1])
        image.SetOrigin(grid.origin_xyz_mm)
        image.SetDirection(grid.direction)
    SimpleITK.WriteImage(image, str(path), useCompression=path.suffix == ".mhd" and "packed" in path.name)
    return path


def write_dicom(
    folder: Path,
    hu: Int16[np.ndarray, "z y x"],
    series: str,
    *,
    grid: Grid | None = None,
    z_mm: Sequence[float] | None = None,
    prefix: str = "",
) -> None:
    """Write axial DICOM slices with a rescale intercept of -1024 and the patient's identifiers."""
    grid = grid or Grid((len(hu), *hu.shape[1:]), (2.5, 0.8, 0.7), (-10.0, 20.0, 30.0))
    x, y, z = grid.origin_xyz_mm
    step_z, step_y, step_x = grid.spacing_zyx_mm
    folder.mkdir(parents=True, exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, plane in enumerate(hu):
        image = SimpleITK.GetImageFromArray(plane[None])
        image.SetSpacing((step_x, step_y, step_z))
        tags = {
            "0008|0060": "CT",
            **PATIENT,
            "0020|000e": series,
            "0020|000d": "1.2.3",
            "0008|0018": f"{series}.{prefix}{index + 1}",
            "0020|0013": str(index + 1),
            "0020|0032": f"{x:.4f}\\{y:.4f}\\{z + index * step_z if z_mm is None else z_mm[index]:.4f}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": str(step_z),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        # Names that do not sort by place: the order must come from the positions.
        writer.SetFileName(str(folder / f"{prefix}{series}-{(index * 577) % 997:03d}.dcm"))
        writer.Execute(image)


TROUBLES = ("cut to pieces", "begins at the head", "very unequal", "filled with fluid", "open chest wall")


def draw_trouble(name: str) -> tuple[Scan, str, tuple[float, float]]:
    """Draw a chest that needs one of the cures.

    Returns:
        The scan, the cure that it needs, and the size of the right and of the left lung relative to a normal one.
    """
    grid = GRID
    if name == "begins at the head":
        grid = Grid((GRID.shape[0] + 40, *GRID.shape[1:]), GRID.spacing_zyx_mm, GRID.origin_xyz_mm)
    scan = draw_chest(grid)
    world = world_of(grid)
    x, y, z = np.moveaxis(world - CENTRE_XYZ_MM, -1, 0)
    left = ball(world, lung_centre(1), LUNG_RADII_XYZ_MM)
    if name == "cut to pieces":
        lungs = left | ball(world, lung_centre(-1), LUNG_RADII_XYZ_MM)
        dense = np.random.default_rng(0).normal(-560, 150, grid.shape).clip(-900, -330)
        scan.hu[lungs] = dense[lungs]
        return scan, "pieces", (1, 1)
    if name == "begins at the head":
        # Trachea, main bronchi, and a mouth that is open to the room.
        scan.hu[(np.hypot(x, y) < 8) & (z > -10) & (z < 160)] = -1000
        scan.hu[(np.abs(x) < 40) & (np.hypot(y, z) < 7)] = -1000
        scan.hu[(np.abs(x) < 14) & (y < 0) & (np.abs(z - 150) < 10)] = -1000
        return scan, "slices", (1, 1)
    if name == "open chest wall":
        scan.hu[(x > 60) & (np.abs(y) < 3) & (np.abs(z) < 4)] = -1000
        return scan, "leaks", (1, 1)
    share = 0.6 if name == "very unequal" else 0.35
    scan.hu[left & ~ball(world, lung_centre(1), LUNG_RADII_XYZ_MM * share)] = 20
    return scan, "unequal" if name == "very unequal" else "one_lung", (1, share)
