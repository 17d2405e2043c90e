"""Conversion between array indices (z, y, x) and world coordinates (x, y, z) in mm.

World coordinates are LPS (x grows to the patient's left, y to the back, z to the head), as in LUNA16's csv files and
in SimpleITK. This is the only module that converts between the two axis orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float64, Integer

from nodule_lightning.errors import InputError

Triple = tuple[float, float, float]
IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """The shape of a volume and its position in the world.

    Attributes:
        shape: number of voxels along (z, y, x), the shape of the array.
        spacing_zyx_mm: distance between neighbouring voxels along the array's axes.
        origin_xyz_mm: world position of the centre of voxel (0, 0, 0).
        direction: row-major 3x3 matrix whose columns are the world directions of the x, y and z index axes, as in
            SimpleITK.

    Raises:
        InputError: the shape or spacing is not positive, or the axes are not orthonormal.
    """

    shape: tuple[int, int, int]
    spacing_zyx_mm: Triple
    origin_xyz_mm: Triple = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY_DIRECTION

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"a volume needs three axes of at least one voxel, not shape {self.shape}", "scan-invalid")
        if not all(np.isfinite(self.spacing_zyx_mm)) or min(self.spacing_zyx_mm) <= 0:
            raise InputError(f"voxel spacing must be positive, not {self.spacing_zyx_mm} mm", "scan-invalid")
        axes = np.reshape(self.direction, (3, 3))
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
            raise InputError(
                f"the direction matrix {self.direction} is not orthonormal; resample the volume first", "scan-invalid"
            )

    def to_world(self, index_zyx: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Convert (z, y, x) voxel positions to world (x, y, z) in mm.

        >>> Grid((9, 9, 9), (2.5, 1.0, 0.5), (10.0, 20.0, 30.0)).to_world(np.array([[1.0, 2.0, 4.0]])).tolist()
        [[12.0, 22.0, 32.5]]
        """
        index_xyz = np.asarray(index_zyx, dtype=np.float64)[:, ::-1]
        world: Float64[np.ndarray, "n 3"] = index_xyz @ self._index_to_world.T + self.origin_xyz_mm
        return world

    def to_index(self, world_xyz_mm: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Convert world (x, y, z) in mm to fractional (z, y, x) voxel positions.

        >>> Grid((9, 9, 9), (2.5, 1.0, 0.5), (10.0, 20.0, 30.0)).to_index(np.array([[12.0, 22.0, 32.5]])).tolist()
        [[1.0, 2.0, 4.0]]
        """
        offset = np.asarray(world_xyz_mm, dtype=np.float64) - self.origin_xyz_mm
        index_xyz: Float64[np.ndarray, "n 3"] = np.linalg.solve(self._index_to_world, offset.T).T
        return np.ascontiguousarray(index_xyz[:, ::-1])

    def crop(
        self,
        start_zyx: Sequence[int] | Integer[np.ndarray, "3"],
        stop_zyx: Sequence[int] | Integer[np.ndarray, "3"],
    ) -> Self:
        """Return the grid of the voxels from start to stop (exclusive); their world positions do not change."""
        start = np.asarray(start_zyx)
        origin = self.to_world(start[None].astype(np.float64))[0]
        shape = np.asarray(stop_zyx) - start
        return type(self)(
            (int(shape[0]), int(shape[1]), int(shape[2])),
            self.spacing_zyx_mm,
            _triple(origin),
            self.direction,
        )

    def corners_xyz_mm(self) -> Float64[np.ndarray, "8 3"]:
        """Return the world positions of the centres of the eight corner voxels."""
        unit = np.indices((2, 2, 2)).reshape(3, 8).T
        return self.to_world(unit * (np.array(self.shape, dtype=np.float64) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            "shape": list(self.shape),
            "spacing_zyx_mm": list(self.spacing_zyx_mm),
            "origin_xyz_mm": list(self.origin_xyz_mm),
            "direction": list(self.direction),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restore a grid from the values of `to_dict`."""
        shape = values["shape"]
        return cls(
            (int(shape[0]), int(shape[1]), int(shape[2])),
            _triple(values["spacing_zyx_mm"]),
            _triple(values["origin_xyz_mm"]),
            tuple(float(value) for value in values["direction"]),
        )

    @property
    def _index_to_world(self) -> Float64[np.ndarray, "3 3"]:
        spacing_xyz = np.array(self.spacing_zyx_mm, dtype=np.float64)[::-1]
        return np.reshape(np.asarray(self.direction, dtype=np.float64), (3, 3)) * spacing_xyz


def _triple(values: Sequence[float] | Float64[np.ndarray, "3"]) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
