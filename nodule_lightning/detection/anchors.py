"""Anchors: the reference cubes for the network's box regression.

A box is (z, y, x, diameter) in voxels of the network's input: the centre of a nodule and its diameter.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nodule_lightning.errors import InputError

# exp(4) is 55 times the anchor; without a bound a single outlier of an untrained network becomes inf.
LARGEST_LOG_SIZE = 4.0


class AnchorGrid:
    """Grid of anchors: the same few sizes in each cell of the output map.

    Args:
        diameters_mm: sizes of the anchors.
        stride: input voxels that a cell covers along each axis.
        spacing_mm: side of the (cubic) voxels of the network's input.

    Raises:
        InputError: there is no size, or a value is not positive.
    """

    def __init__(
        self, diameters_mm: Sequence[float] = (5.0, 10.0, 20.0), stride: int = 4, spacing_mm: float = 1.0
    ) -> None:
        if not diameters_mm or min(diameters_mm) <= 0 or spacing_mm <= 0 or stride < 1:
            raise InputError(
                f"anchors need positive sizes, not diameters {tuple(diameters_mm)} mm, "
                f"stride {stride} and spacing {spacing_mm} mm",
                "argument-invalid",
            )
        self.diameters_mm = tuple(float(diameter) for diameter in diameters_mm)
        self.stride = stride
        self.spacing_mm = spacing_mm

    def require_stride(self, stride: int) -> None:
        """Refuse a network whose output stride differs from the anchors'.

        Raises:
            InputError: the strides differ.
        """
        if self.stride != stride:
            raise InputError(
                f"the anchors' stride is {self.stride}, the network's is {stride}; set both to the same value",
                "argument-conflict",
            )

    def require_spacing(self, spacing_mm: float, scan_id: str) -> None:
        """Refuse a scan whose voxel size differs from the one that the anchors assume.

        Raises:
            InputError: the voxel sizes differ by more than 1 µm.
        """
        if abs(self.spacing_mm - spacing_mm) > 1e-3:
            raise InputError(
                f"{scan_id} has voxels of {spacing_mm} mm, the detector needs {self.spacing_mm} mm; prepare it again",
                "cache-settings-differ",
            )

    def boxes(self, shape: Sequence[int], device: torch.device | None = None) -> Float[Tensor, "z y x anchor 4"]:
        """Compute the box of each anchor; cell i covers voxels si to si+s-1, so its centre is si + (s-1)/2.

        >>> AnchorGrid((5.0,)).boxes((1, 1, 2))[0, 0, 1, 0].tolist()
        [1.5, 1.5, 5.5, 5.0]
        """
        axes = [torch.arange(n, device=device, dtype=torch.float32) * self.stride for n in shape]
        centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) + (self.stride - 1) / 2
        diameters = torch.tensor(self.diameters_mm, device=device) / self.spacing_mm
        cells = (*tuple(shape), len(diameters))
        return torch.cat([centres[..., None, :].expand(*cells, 3), diameters[:, None].expand(*cells, 1)], dim=-1)


def encode(boxes: Float[Tensor, "*n 4"], anchors: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*n 4"]:
    """Encode boxes relative to their anchors: offsets in anchor diameters, then the log of the diameter ratio."""
    offset = (boxes[..., :3] - anchors[..., :3]) / anchors[..., 3:]
    return torch.cat([offset, torch.log(boxes[..., 3:] / anchors[..., 3:])], dim=-1)


def decode(numbers: Float[Tensor, "*n 4"], anchors: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*n 4"]:
    """Decode regression values into boxes: the inverse of `encode`, with a bound on the size."""
    centre = anchors[..., :3] + numbers[..., :3] * anchors[..., 3:]
    diameter = anchors[..., 3:] * torch.exp(numbers[..., 3:].clamp(max=LARGEST_LOG_SIZE))
    return torch.cat([centre, diameter], dim=-1)
