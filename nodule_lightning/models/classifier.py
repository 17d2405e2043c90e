"""Network of the second stage: classifies whether a nodule lies in the middle of a patch."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import convolution, convolution_block, initialise


class CandidateClassifier(nn.Module):
    """Small residual 3D CNN: a stem at full resolution, then levels that each, except the first, halve the sides.

    The last layer sees the mean features of the whole patch and those of its middle cells, so that it can tell a
    nodule at the edge of the patch from one in the middle.

    Args:
        channels: of the stem and the first level, then of each further level.
        blocks: number of residual blocks in each level.
        norm: `batch`, `group` or `instance`.
        dropout: fraction of the features dropped before the last layer in training.
        spacing_mm: side of the (cubic) voxels of the patches.

    Raises:
        InputError: channels, blocks or dropout are out of range.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128),
        blocks: Sequence[int] = (1, 1, 1, 1),
        norm: str = "batch",
        dropout: float = 0.3,
        spacing_mm: float = 1.0,
    ) -> None:
        super().__init__()
        if not channels or len(channels) != len(blocks) or min([*channels, *blocks]) < 1:
            raise InputError(
                f"a classifier needs as many blocks as channels, each at least 1, not channels {list(channels)} "
                f"and blocks {list(blocks)}",
                "argument-invalid",
            )
        if not 0 <= dropout < 1:
            raise InputError(f"a classifier's dropout must lie in [0, 1), not {dropout}", "argument-invalid")
        self.spacing_mm = spacing_mm
        self.stride_total = 2 ** (len(channels) - 1)
        self.stem = convolution(1, channels[0], norm)
        widths = (channels[0], *channels)
        self.levels = nn.ModuleList(
            _level(inputs, outputs, count, norm)
            for inputs, outputs, count in zip(widths[:-1], channels, blocks, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * channels[-1], 1)
        initialise(self)
        # Channels last is up to twice as fast on CPUs and on tensor cores.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, images: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b"]:
        """Compute the logit of each normalised patch."""
        features = self.stem(images.contiguous(memory_format=torch.channels_last_3d))
        for place, level in enumerate(self.levels):
            features = level(self.pool(features) if place else features)
        pooled = torch.cat([features.mean(dim=(2, 3, 4)), _middle(features).mean(dim=(2, 3, 4))], dim=1)
        logit: Tensor = self.output(self.dropout(pooled))[:, 0]
        return logit

    def require_patch(self, voxels: int) -> None:
        """Refuse a patch size that cannot be halved from level to level.

        Raises:
            InputError: the side is not a multiple of the total stride.
        """
        if voxels < 1 or voxels % self.stride_total:
            raise InputError(
                f"the patch_voxels of a classifier of {len(self.levels)} levels must be a multiple of "
                f"{self.stride_total}, not {voxels}",
                "argument-invalid",
            )


def _level(inputs: int, outputs: int, count: int, norm: str) -> nn.Sequential:
    widths = [inputs] + [outputs] * count
    return nn.Sequential(*(convolution_block("residual", a, b, norm) for a, b in pairwise(widths)))


def _middle(features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c mz my mx"]:
    """Crop to the middle cells: one along an axis with an odd number of cells, else two."""
    for axis in (2, 3, 4):
        count = features.shape[axis]
        features = features.narrow(axis, (count - 1) // 2, 2 - count % 2)
    return features
