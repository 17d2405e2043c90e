"""U-Net of 2015, on axial slices or with every operation in 3D."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import Backbone, convolution, initialise
from nodule_lightning.models.position import position_map


class UNet(Backbone):
    """Compute features of a volume whose sides are multiples of `stride_total`.

    Ronneberger et al. 2015: two 3x3 convolutions with ReLU in each level; max pooling down; up by a deconvolution that
    halves the channels, concatenated with the encoder's features of that level; dropout at the bottom. Unlike in the
    paper, the convolutions are padded, so that nothing is cropped, and normalised. Five levels make 26 layers: 18
    convolutions, 4 poolings and 4 deconvolutions.

    Args:
        dimensions: 2 treats each axial slice separately; 3 makes every operation three-dimensional.
        channels: of each level; level i has stride 2^i, with `dimensions=2` along y and x only.
        decoder_stride: stride at which the decoder ends; 1 in the original.
        stride: of the output along each axis; a finer decoder output, or all slices, are max-pooled to it.
        norm: `batch`, `group` or `instance`.
        dropout: fraction of the bottom level's channels dropped in training.
        position: feed the position map to the decoder's last level.

    Raises:
        InputError: a value is out of range, or the strides do not fit each other.
    """

    def __init__(
        self,
        dimensions: int = 3,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        decoder_stride: int = 4,
        stride: int = 4,
        norm: str = "batch",
        dropout: float = 0.5,
        *,
        position: bool = False,
    ) -> None:
        super().__init__()
        ups = _decoder_levels(dimensions, channels, decoder_stride, stride)
        self.stride = stride
        self.stride_total = max(2 ** (len(channels) - 1), stride)
        self.position = position
        kernel, double = ((1, 3, 3), (1, 2, 2)) if dimensions == 2 else ((3, 3, 3), (2, 2, 2))
        self.encoder = nn.ModuleList(_level(*widths, norm, kernel) for widths in pairwise((1, *channels)))
        self.pool = nn.MaxPool3d(double)
        self.dropout = nn.Dropout3d(dropout)
        upwards = list(pairwise(reversed(channels)))[:ups]
        self.ups = nn.ModuleList(nn.ConvTranspose3d(below, width, double, double) for below, width in upwards)
        inputs = [2 * width for _, width in upwards]
        inputs[-1] += 3 * position
        self.decoder = nn.ModuleList(
            _level(count, width, norm, kernel) for count, (_, width) in zip(inputs, upwards, strict=True)
        )
        self.out_channels = upwards[-1][1]
        along = stride // decoder_stride
        self.to_grid = nn.MaxPool3d((stride if dimensions == 2 else along, along, along))
        initialise(self)

    def forward(
        self, images: Float[Tensor, "b 1 z y x"], position: Float[Tensor, "b 3 2"] | None = None
    ) -> Float[Tensor, "b c cz cy cx"]:
        """Compute the features of normalised images."""
        beside, features = [], images
        for level in self.encoder[:-1]:
            features = level(features)
            beside.append(features)
            features = self.pool(features)
        features = self.dropout(self.encoder[-1](features))
        for up, level in zip(self.ups, self.decoder, strict=True):
            joined = [up(features), beside.pop()]
            if self.position and level is self.decoder[-1]:
                joined.append(position_map(position, joined[0], images.shape[2:]))
            features = level(torch.cat(joined, dim=1))
        on_grid: Tensor = self.to_grid(features)
        return on_grid


def _level(inputs: int, outputs: int, norm: str, kernel: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, norm, kernel=kernel), convolution(outputs, outputs, norm, kernel=kernel)
    )


def _decoder_levels(dimensions: int, channels: Sequence[int], decoder_stride: int, stride: int) -> int:
    """Check the arguments and count the levels of the decoder."""
    if dimensions not in (2, 3):
        raise InputError(f"UNet's dimensions must be 2 or 3, not {dimensions}", "argument-invalid")
    if not 2 <= len(channels) <= 5 or min(channels) < 1:
        raise InputError(f"UNet needs 2 to 5 channels of at least 1, not {list(channels)}", "argument-invalid")
    levels = [2**level for level in range(len(channels) - 1)]
    if decoder_stride not in levels:
        raise InputError(f"UNet's decoder_stride must be one of {levels}, not {decoder_stride}", "argument-invalid")
    if stride not in (1, 2, 4, 8) or stride < decoder_stride:
        raise InputError(
            f"UNet's stride must be 1, 2, 4 or 8 and at least decoder_stride={decoder_stride}, not {stride}",
            "argument-invalid",
        )
    return len(levels) - levels.index(decoder_stride)
