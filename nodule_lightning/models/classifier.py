"""The network of the second stage: whether a nodule lies in the middle of a patch."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import convolution, convolution_block, initialise


class CandidateClassifier(nn.Module):
    """A small residual 3D CNN: a stem at full size, then levels of which each but the first halves the sides.

    What is classified are the mean features of the whole patch and those of its middle cells, so that a nodule at the
    rim of a patch is told from one in the middle.

    Args:
        channels: of the stem and the first level, then of each level after it.
        blocks: residual blocks of each level.
        norm: `batch`, `group` or `instance`.
        dropout: share of the features dropped in training before the last layer.
        spacing_mm: side of the (cubic) voxels of the patches.
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
                f"a classifier needs channels and as many blocks, each at least 1, not {list(channels)} "
                f"and {list(blocks)}"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"a classifier's dropout must lie in [0, 1), not {dropout}")
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
        """Give the logit of each normalised patch."""
        features = self.stem(images.contiguous(memory_format=torch.channels_last_3d))
        for place, level in enumerate(self.levels):
            features = level(self.pool(features) if place else features)
        both = torch.cat([features.mean(dim=(2, 3, 4)), _middle(features).mean(dim=(2, 3, 4))], dim=1)
        logit: Tensor = self.output(self.dropout(both))[:, 0]
        return logit

    def require_patch(self, voxels: int) -> None:
        """Refuse a size of patch that cannot be halved from level to level.

        Raises:
            InputError: the side is no multiple of the total stride.
        """
        if voxels < 1 or voxels % self.stride_total:
            raise InputError(
                f"the patch_voxels of a classifier of {len(self.levels)} levels must be a multiple of "
                f"{self.stride_total}, not {voxels}"
            )


def _level(inputs: int, outputs: int, count: int, norm: str) -> nn.Sequential:
    widths = [inputs] + [outputs] * count
    return nn.Sequential(*(convolution_block("residual", a, b, norm) for a, b in pairwise(widths)))


def _middle(features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c mz my mx"]:
    """Give the cells about the middle: one where their number is odd, else two along each axis."""
    for axis in (2, 3, 4):
        count = features.shape[axis]
        features = features.narrow(axis, (count - 1) // 2, 2 - count % 2)
    return features
