"""Building blocks of the networks: the backbone interface, normalisation by name, plain and residual blocks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError


def normalisation(norm: str, channels: int) -> nn.Module:
    """Make a normalisation layer by name; `group` uses the largest group count up to 8 that divides the channels."""
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    if norm == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    if norm == "group":
        groups = max(count for count in range(1, 9) if channels % count == 0)
        return nn.GroupNorm(groups, channels)
    raise InputError(f"norm must be 'batch', 'group' or 'instance', not {norm!r}", "argument-invalid")


def convolution(
    inputs: int, outputs: int, norm: str, *, kernel: tuple[int, int, int] = (3, 3, 3), stride: int = 1
) -> nn.Sequential:
    """Make convolution, normalisation and ReLU, padded so that each cell stays centred on the voxels it covers."""
    z, y, x = ((size - stride + 1) // 2 for size in kernel)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, (z, y, x), bias=False),
        normalisation(norm, outputs),
        nn.ReLU(inplace=True),
    )


def initialise(network: nn.Module) -> None:
    """Draw the weights of every convolution so that ReLUs preserve the signal's variance (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Backbone(nn.Module):
    """Feature extractor below a head: maps (b, 1, z, y, x) to (b, out_channels, z/stride, y/stride, x/stride).

    `forward` takes normalised images and, as `position`, where in the lung crop they were cut (see
    `position.position_map`). A backbone without a position map ignores `position`.

    Attributes:
        stride: input voxels that an output cell covers along each axis.
        stride_total: the sides of the input must be multiples of this.
        out_channels: channels of the features.
    """

    stride: int
    stride_total: int
    out_channels: int


class PlainBlock(nn.Module):
    """Two 3x3x3 convolutions: a residual block without its shortcut."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inputs, outputs, norm),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            normalisation(norm, outputs),
        )

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d z y x"]:
        """Replace the features by the output of the two convolutions."""
        return torch.relu(self.body(features))


class ResidualBlock(PlainBlock):
    """Two 3x3x3 convolutions with a shortcut: a 1x1x1 convolution where the channels change (grt123's `PostRes`)."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__(inputs, outputs, norm)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, bias=False),
                normalisation(norm, outputs),
            )

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d z y x"]:
        """Add the output of the two convolutions to the features."""
        return torch.relu(self.body(features) + self.shortcut(features))


def convolution_block(kind: str, inputs: int, outputs: int, norm: str) -> PlainBlock:
    """Make a block by name, `plain` or `residual`; they differ only in the shortcut."""
    if kind == "plain":
        return PlainBlock(inputs, outputs, norm)
    if kind == "residual":
        return ResidualBlock(inputs, outputs, norm)
    raise InputError(f"block must be 'plain' or 'residual', not {kind!r}", "argument-invalid")
