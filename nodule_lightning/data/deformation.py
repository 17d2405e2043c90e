"""Rotation, scaling and free-form deformation of patches in one resampling, applied to points as well.

An output voxel x shows the input at

    source(x) = c + matrix @ (x + u(x) - c)

with c the patch's centre and u a free-form deformation: cubic B-splines over a coarse lattice of control points
(Rueckert et al. 1999, doi 10.1109/42.796284). Both are defined at any place, not only at voxels, so that points are
moved as exactly as the image. All of it needs 32 bits: with 16 (autocast) places are off by whole voxels.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

STEEPEST: Final = 0.25
"""Largest displacement of a control point, over the spacing of the control points.

Cubic B-splines can fold from 0.40 on (Choi and Lee 2000, doi 10.1006/gmod.1999.0518: 1/2.48 in three dimensions). Up
to 0.25 each step of the inverse's iteration leaves at most 62 % of the error.
"""
ITERATIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Deformation:
    """One transformation for each patch of a batch.

    Attributes:
        matrix: from output to input about the patch's centre, in (z, y, x).
        control: displacements of the control points in voxels, (z, y, x) last; no control points for no warp.
        spacing: between control points in voxels; the first of an axis lies one spacing before voxel 0.
        shape: of the patches.
    """

    matrix: Float32[Tensor, "b 3 3"]
    control: Float32[Tensor, "b kz ky kx 3"]
    spacing: float
    shape: tuple[int, int, int]

    def resample(self, image: Float32[Tensor, "b 1 z y x"], outside: float) -> Float32[Tensor, "b 1 z y x"]:
        """Resample by trilinear interpolation; `outside` is the value beyond the patch."""
        return torch.nn.functional.grid_sample(image - outside, self._grid(), align_corners=True) + outside

    def resample_nearest(self, labels: UInt8[Tensor, "b 1 z y x"]) -> UInt8[Tensor, "b 1 z y x"]:
        """Resample labels by the nearest voxel; 0 beyond the patch."""
        moved = torch.nn.functional.grid_sample(labels.float(), self._grid(), mode="nearest", align_corners=True)
        return moved.to(labels.dtype)

    def source(self, points: Float32[Tensor, "b n 3"]) -> Float32[Tensor, "b n 3"]:
        """Map output places to the input places that they show."""
        centre = self._centre()
        moved: Tensor = torch.matmul(points + self._displacement(points) - centre, self.matrix.mT)
        return moved + centre

    def target(self, points: Float32[Tensor, "b n 3"]) -> Float32[Tensor, "b n 3"]:
        """Map input places to the output places that show them: the inverse of `source`, by fixed-point iteration."""
        centre = self._centre()
        inverse = torch.linalg.inv(self.matrix).mT
        unwarped: Tensor = torch.matmul(points - centre, inverse) + centre
        place = unwarped
        for _ in range(ITERATIONS if self.control.shape[1] else 0):
            place = unwarped - self._displacement(place)
        return place

    def _centre(self) -> Float32[Tensor, "3"]:
        return (torch.tensor(self.shape, dtype=torch.float32, device=self.matrix.device) - 1) / 2

    def _displacement(self, points: Float32[Tensor, "b n 3"]) -> Float32[Tensor, "b n 3"]:
        z, y, x = (spline_basis(points[..., axis], self.spacing, self.control.shape[1 + axis]) for axis in range(3))
        return torch.einsum("bnk,bnl,bnm,bklmc->bnc", z, y, x, self.control)

    def _grid(self) -> Float32[Tensor, "b z y x 3"]:
        """Return the sources of all voxels for `grid_sample`: (x, y, z), from -1 to 1 at the outermost voxels.

        A source is linear in the splines along z and in z itself, so that one matrix product computes all of them:
        (splines of z, z, 1) times the planes over y and x that belong to each.
        """
        centre = self._centre()
        splines = [
            spline_basis(torch.arange(side, device=centre.device, dtype=torch.float32), self.spacing, count)
            for side, count in zip(self.shape, self.control.shape[1:4], strict=True)
        ]
        z, y, x = (
            torch.arange(side, device=centre.device) - middle for side, middle in zip(self.shape, centre, strict=True)
        )
        matrix = (self.matrix / centre[:, None]).flip(1)
        warped = torch.einsum("yl,xm,bklmc->bkyxc", splines[1], splines[2], self.control @ matrix.mT[:, None, None])
        along_z, along_y, along_x = matrix.mT[:, :, None, None].unbind(1)
        flat = y[:, None, None] * along_y + x[:, None] * along_x
        planes = torch.cat([warped, along_z.expand_as(flat)[:, None], flat[:, None]], dim=1)
        columns = torch.cat([splines[0], z[:, None], torch.ones_like(z)[:, None]], dim=1)
        return torch.matmul(columns, planes.flatten(2)).view(-1, *self.shape, 3)


def control_points(side: int, spacing: float) -> int:
    """Count the control points of an axis, one more at each end than the voxels need.

    >>> control_points(97, 24.0)
    7
    """
    return math.ceil((side - 1) / spacing) + 3


def spline_basis(place: Float32[Tensor, "*n"], spacing: float, count: int) -> Float32[Tensor, "*n {count}"]:
    """Return the B-spline weights of an axis's control points at places in voxels; inside the lattice they add up to 1.

    >>> spline_basis(torch.tensor([0.0, 6.0]), 12.0, 4).mul(48).round().tolist()
    [[8.0, 32.0, 8.0, 0.0], [1.0, 23.0, 23.0, 1.0]]
    """
    distance = (place[..., None] / spacing + 1 - torch.arange(count, device=place.device)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def rotations(axis: Float32[Tensor, "b 3"], angle: Float32[Tensor, "b"]) -> Float32[Tensor, "b 3 3"]:
    """Return rotation matrices about unit axes by angles in radians (Rodrigues' formula)."""
    zero = torch.zeros_like(angle)
    first, second, third = axis.unbind(1)
    cross = torch.stack([zero, -third, second, third, zero, -first, -second, first, zero], dim=1).view(-1, 3, 3)
    turn = angle[:, None, None]
    return torch.eye(3, device=axis.device) + turn.sin() * cross + (1 - turn.cos()) * (cross @ cross)
