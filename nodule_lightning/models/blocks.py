"""The pieces that the networks share: what a backbone is, normalisation by name, plain and residual blocks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError


def normalisation(norm: str, channels: int) -> nn.Module:
    """Give the named normalisation layer; `group` takes the most groups, at most eight, that divide the channels."""
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    if norm == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    if norm == "group":
        groups = max(count for count in range(1, 9) if channels % count == 0)
        return nn.GroupNorm(groups, channels)
    raise InputError(f"norm must be 'batch', 'group' or 'instance', not {norm!r}")


def convolution(
    inputs: int, outputs: int, norm: str, *, kernel: tuple[int, int, int] = (3, 3, 3), stride: int = 1
) -> nn.Sequential:
    """Give convolution, normalisation and ReLU; the kernel's padding keeps cells centred on the voxels they cover."""
    z, y, x = ((size - stride + 1) // 2 for size in kernel)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, (z, y, x), bias=False),
        normalisation(norm, outputs),
        nn.ReLU(inplace=True),
    )


def initialise(network: nn.Module) -> None:
    """Draw the weights of every convolution so that ReLUs keep the size of the signal (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Backbone(nn.Module):
    """What a head can be put on: a module from (b, 1, z, y, x) to (b, out_channels, z/stride, y/stride, x/stride).

    Its `forward` takes normalised images and, as `position`, where in the lung crop they were cut (see
    `position.position_map`); one without a position map pays no heed to the second.

    Attributes:
        stride: input voxels that an output cell covers along each axis.
        stride_total: the input's sides must be multiples of this.
        out_channels: channels of the features.
    """

    stride: int
    stride_total: int
    out_channels: int


class PlainBlock(nn.Module):
    """Two 3x3x3 convolutions: the residual block without its shortcut."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inputs, outputs, norm),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            normalisation(norm, outputs),
        )

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d z y x"]:
        """Put the two convolutions' result in the place of the features."""
        return torch.relu(self.body(features))


class ResidualBlock(PlainBlock):
    """Two 3x3x3 convolutions and a shortcut, a 1x1x1 convolution where the channels change (grt123's `PostRes`)."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__(inputs, outputs, norm)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, bias=False),
                normalisation(norm, outputs),
            )

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d z y x"]:
        """Add the two convolutions' change to the features."""
        return torch.relu(self.body(features) + self.shortcut(features))


def convolution_block(kind: str, inputs: int, outputs: int, norm: str) -> PlainBlock:
    """Give the named block, `plain` or `residual`; the two differ in the shortcut alone."""
    if kind == "plain":
        return PlainBlock(inputs, outputs, norm)
    if kind == "residual":
        return ResidualBlock(inputs, outputs, norm)
    raise InputError(f"block must be 'plain' or 'residual', not {kind!r}")
