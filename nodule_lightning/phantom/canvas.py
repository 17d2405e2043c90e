"""Painting of shapes with soft edges into a volume: the partial-volume effect without supersampling."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Float32, Float64

from nodule_lightning.geometry import Grid

Point = Float64[np.ndarray, "3"]
Coordinates = tuple[Float32[np.ndarray, "z 1 1"], Float32[np.ndarray, "1 y 1"], Float32[np.ndarray, "1 1 x"]]


@dataclass(frozen=True, slots=True)
class Canvas:
    """A volume in Hounsfield units under construction, with the world coordinates of its voxels.

    Attributes:
        hu: the volume; painting modifies it in place.
        z_mm: world z of each slice.
        y_mm: world y of each row.
        x_mm: world x of each column.
        voxel_mm: mean edge of a voxel, the width of soft edges.
    """

    hu: Float32[np.ndarray, "z y x"]
    z_mm: Float32[np.ndarray, "z"]
    y_mm: Float32[np.ndarray, "y"]
    x_mm: Float32[np.ndarray, "x"]
    voxel_mm: float

    @classmethod
    def blank(cls, grid: Grid, hu: float) -> Self:
        """Make a canvas with one value everywhere, on an axis-aligned grid."""
        axes = (
            origin + spacing * np.arange(count, dtype=np.float32)
            for origin, spacing, count in zip(grid.origin_xyz_mm[::-1], grid.spacing_zyx_mm, grid.shape, strict=True)
        )
        z_mm, y_mm, x_mm = (axis.astype(np.float32) for axis in axes)
        voxel_mm = sum(grid.spacing_zyx_mm) / 3
        return cls(np.full(grid.shape, hu, dtype=np.float32), z_mm, y_mm, x_mm, voxel_mm)

    @property
    def coordinates(self) -> Coordinates:
        """The world coordinates of all voxels as open (z, y, x) grids."""
        return self.z_mm[:, None, None], self.y_mm[None, :, None], self.x_mm[None, None, :]

    def window(self, low_xyz_mm: Sequence[float] | Point, high_xyz_mm: Sequence[float] | Point) -> Self:
        """Return a view of the canvas between two corners; painting on it paints on the whole."""
        parts = [
            slice(*np.searchsorted(axis, (low, high)))
            for axis, low, high in zip(
                (self.z_mm, self.y_mm, self.x_mm), low_xyz_mm[::-1], high_xyz_mm[::-1], strict=True
            )
        ]
        return self._part(self.hu, parts)

    def slices(self) -> Iterator[Self]:
        """Yield each slice as a canvas; a slice fits into the processor's cache, which makes painting faster."""
        for index in range(len(self.z_mm)):
            yield self._part(self.hu, [slice(index, index + 1), slice(None), slice(None)])

    def over(self, volume: Float32[np.ndarray, "z y x"]) -> Self:
        """Return a canvas at the same position for another volume of the same shape."""
        return type(self)(volume, self.z_mm, self.y_mm, self.x_mm, self.voxel_mm)

    def _part(self, volume: Float32[np.ndarray, "z y x"], parts: Sequence[slice]) -> Self:
        z, y, x = parts
        return type(self)(volume[z, y, x], self.z_mm[z], self.y_mm[y], self.x_mm[x], self.voxel_mm)

    def blend(self, coverage: Float[np.ndarray, "z y x"], hu: float | Float[np.ndarray, "z y x"]) -> None:
        """Mix in a material.

        Args:
            coverage: the share of each voxel that the material covers.
            hu: density of the material.
        """
        change = hu - self.hu
        change *= coverage
        self.hu[...] += change


def soft_edge(inside_mm: Float[np.ndarray, "*shape"], voxel_mm: float) -> Float[np.ndarray, "*shape"]:
    """Return the share of a voxel that a shape covers, from the depth of the voxel's centre inside the shape.

    >>> soft_edge(np.array([-1.0, 0.0, 0.25, 1.0]), 1.0).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    share = inside_mm / voxel_mm
    share += 0.5
    clipped: Float[np.ndarray, "*shape"] = np.minimum(np.maximum(share, 0, out=share), 1, out=share)
    return clipped


def paint_segment(
    canvas: Canvas, start_xyz_mm: Point, stop_xyz_mm: Point, radii_mm: tuple[float, float], hu: float
) -> None:
    """Paint a tapered tube with round ends: a piece of vessel, airway or rib.

    A tube thinner than a third of a voxel is painted at that radius but fainter, as in a real scan.
    """
    voxel_mm = canvas.voxel_mm
    reach_mm = max(radii_mm) + voxel_mm
    part = canvas.window(
        np.minimum(start_xyz_mm, stop_xyz_mm) - reach_mm, np.maximum(start_xyz_mm, stop_xyz_mm) + reach_mm
    )
    if part.hu.size == 0:
        return
    z, y, x = part.coordinates
    # Python floats keep the arrays in single precision, which halves the time.
    axis = [float(value) for value in stop_xyz_mm - start_xyz_mm]
    dx, dy, dz = x - np.float32(start_xyz_mm[0]), y - np.float32(start_xyz_mm[1]), z - np.float32(start_xyz_mm[2])
    length2 = max(sum(value * value for value in axis), 1e-6)
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / length2, 0.0, 1.0)
    distance = np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2)
    radius = float(radii_mm[0]) + along * float(radii_mm[1] - radii_mm[0])
    thinnest = voxel_mm / 3
    paleness = np.minimum(1.0, (radius / thinnest) ** 2)
    part.blend(soft_edge(np.maximum(radius, thinnest) - distance, voxel_mm) * paleness, hu)


def paint_ellipsoid(canvas: Canvas, centre_xyz_mm: Point, radii_xyz_mm: Sequence[float] | Point, hu: float) -> None:
    """Paint an axis-aligned ellipsoid with an edge about one voxel wide."""
    radii = np.asarray(radii_xyz_mm, dtype=np.float64)
    reach = radii + canvas.voxel_mm
    part = canvas.window(centre_xyz_mm - reach, centre_xyz_mm + reach)
    if part.hu.size == 0:
        return
    z, y, x = part.coordinates
    centre, half = centre_xyz_mm.tolist(), radii.tolist()
    scaled = np.sqrt(
        ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 + ((z - centre[2]) / half[2]) ** 2
    )
    part.blend(soft_edge((1.0 - scaled) * min(half), canvas.voxel_mm), hu)
