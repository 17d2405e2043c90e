"""Contours of LIDC-IDRI's readers as voxels of their scan, and as a mask on the grid of an entry."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image, ImageDraw

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.lidc_xml import Contour, Mark, Readings
from nodule_lightning.resampling import resample, to_upright

# Positions of slices are stored with few digits; a resampled scan misses them by up to half a slice.
_OFF_SLICE = 0.1
_INSIDE = 255


def check_slices(readings: Readings, grid: Grid) -> None:
    """Refuse a scan whose pixels and slices are not those that the readers marked.

    Raises:
        InputError: the slices are not axial, are mirrored, or have fewer pixels than were marked; or a mark inside the
            scan lies between two slices.
    """
    columns = np.reshape(grid.direction, (3, 3))
    if abs(columns[2, 2]) < 0.99:
        raise InputError("its slices are not axial, but its readings are; take the scan as published", "scan-invalid")
    if np.linalg.det(columns[:2, :2]) < 0:
        raise InputError(
            "its slices are mirrored against DICOM's, so that the readers' pixels have no place; take the DICOM "
            "series or LUNA16's file",
            "scan-invalid",
        )
    contours = [contour for mark in readings.marks for contour in mark.contours]
    if not contours:
        return
    rows, columns_count = grid.shape[1:]
    furthest = np.max([contour.xy.max(axis=0) for contour in contours], axis=0)
    if (furthest >= (columns_count, rows)).any():
        raise InputError(
            f"its readers marked pixel {tuple(furthest.tolist())}, but its slices have {columns_count}x{rows} pixels: "
            "it was cut or resampled, or these are the readings of another scan",
            "scan-invalid",
        )
    slices = slice_of(np.array([contour.z_mm for contour in contours]), grid)
    slices = slices[(slices > -0.5) & (slices < grid.shape[0] - 0.5)]
    if len(slices) and np.median(np.abs(slices - np.rint(slices))) > _OFF_SLICE:
        raise InputError(
            "its readings lie between its slices: it was resampled, or they are of another scan", "scan-invalid"
        )


def slice_of(z_mm: Float64[np.ndarray, "n"], grid: Grid) -> Float64[np.ndarray, "n"]:
    """Return the fractional number of the slice at each z position, that of a slice's first pixel as in DICOM."""
    first, second = grid.to_world(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))[:, 2]
    return np.asarray((z_mm - first) / (second - first))


def enclosed(contours: Sequence[Contour], grid: Grid) -> Int64[np.ndarray, "n 3"]:
    """Return the voxels (slice, row, column) inside the contours of one mark, without the contours' own pixels.

    Readers drew on the first pixels outside a nodule. A hole counts with its outline, so that what is left are the
    pixels between the two contours. Voxels may lie outside the scan, where it does not hold all slices.
    """
    of_slice: dict[int, list[Contour]] = {}
    for contour in contours:
        of_slice.setdefault(round(float(slice_of(np.array([contour.z_mm]), grid)[0])), []).append(contour)
    found = [np.zeros((0, 3), np.int64)]
    for place, together in of_slice.items():
        points = np.concatenate([contour.xy for contour in together])
        low = points.min(axis=0)
        size = points.max(axis=0) - low + 1
        inside = np.zeros((size[1], size[0]), dtype=bool)
        for contour in sorted(together, key=lambda contour: contour.is_hole):
            pixels = _fill(contour.xy - low, size, with_edge=contour.is_hole)
            inside = inside & ~pixels if contour.is_hole else inside | pixels
        rows, columns = np.nonzero(inside)
        found.append(np.stack([np.full(len(rows), place), rows + low[1], columns + low[0]], axis=1))
    return np.concatenate(found)


def count_readers(readings: Readings, grid: Grid, onto: Grid) -> UInt8[np.ndarray, "z y x"]:
    """Count, for each voxel of an entry, the readers who took it for part of a nodule.

    Args:
        readings: the marks of the scan.
        grid: of the scan.
        onto: of the entry.
    """
    counts = np.zeros(onto.shape, dtype=np.uint8)
    for reader in range(readings.readers):
        _add_reader(counts, [mark for mark in readings.marks if mark.reader == reader], grid, onto)
    return counts


def _add_reader(counts: UInt8[np.ndarray, "z y x"], marks: Sequence[Mark], grid: Grid, onto: Grid) -> None:
    voxels = np.concatenate([np.zeros((0, 3), np.int64), *(enclosed(mark.contours, grid) for mark in marks)])
    voxels = voxels[((voxels >= 0) & (voxels < grid.shape)).all(axis=1)]
    if not len(voxels):
        return
    # One voxel around, so that the interpolation falls to nothing there.
    low = np.maximum(voxels.min(axis=0) - 1, 0)
    high = np.minimum(voxels.max(axis=0) + 2, grid.shape)
    mask = np.zeros(high - low, dtype=np.uint8)
    mask[tuple((voxels - low).T)] = _INSIDE
    upright, place = to_upright(mask, grid.crop(low, high))
    corners = onto.to_index(place.corners_xyz_mm())
    start = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, onto.shape)
    stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, start, onto.shape)
    if (stop == start).any():
        return
    part = resample(np.ascontiguousarray(upright), place, onto.crop(start, stop), linear=True, outside=0)
    counts[tuple(slice(*ends) for ends in zip(start, stop, strict=True))] += part > _INSIDE // 2


def _fill(
    xy: Int64[np.ndarray, "point 2"], size: Int64[np.ndarray, "2"], *, with_edge: bool
) -> Bool[np.ndarray, "y x"]:
    if len(xy) < 3:
        return np.zeros((size[1], size[0]), dtype=bool)
    image = Image.new("1", (int(size[0]), int(size[1])))
    ImageDraw.Draw(image).polygon([(int(x), int(y)) for x, y in xy], outline=1, fill=1)
    pixels = np.array(image, dtype=bool)
    if not with_edge:
        pixels[xy[:, 1], xy[:, 0]] = False
    return pixels
