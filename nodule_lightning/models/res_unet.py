"""The residual U-Net of the seed team, which is grt123's: encoder to stride 16, decoder back to stride 4."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import Backbone, ResidualBlock, convolution, normalisation


class ResUNet(Backbone):
    """Give features at stride 4 for a volume whose sides are multiples of `stride_total`.

    Args:
        channels: of the stem and of the encoder at strides 2, 4, 8 and 16.
        blocks: residual blocks at strides 2, 4, 8 and 16; the first may be 0 where the channels do not change.
        decoder_channels: of the decoder at strides 8 and 4; the second is the network's width at its output.
        decoder_blocks: residual blocks at strides 8 and 4.
        norm: `batch`, `group` or `instance`.
        stem_stride: 1 for the two full-size convolutions of the original; 2 halves the volume in the first
            convolution, so that nothing runs at full size.
        dropout: share of output channels dropped in training.
    """

    stride = 4
    stride_total = 16

    def __init__(
        self,
        channels: Sequence[int] = (24, 32, 64, 64, 64),
        blocks: Sequence[int] = (2, 2, 3, 3),
        decoder_channels: Sequence[int] = (64, 128),
        decoder_blocks: Sequence[int] = (3, 3),
        norm: str = "batch",
        stem_stride: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        _check(channels, blocks, decoder_channels, decoder_blocks, stem_stride)
        stem, *widths = channels
        self.out_channels = decoder_channels[1]
        self.stem = _stem(stem, stem_stride, norm)
        self.encoder = nn.ModuleList(
            _level(inputs, outputs, count, norm)
            for inputs, outputs, count in zip(channels[:-1], widths, blocks, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        self.up_8 = _upsample(widths[3], widths[3], norm)
        self.decode_8 = _level(widths[3] + widths[2], decoder_channels[0], decoder_blocks[0], norm)
        self.up_4 = _upsample(decoder_channels[0], decoder_channels[0], norm)
        self.decode_4 = _level(decoder_channels[0] + widths[1], decoder_channels[1], decoder_blocks[1], norm)
        self.dropout = nn.Dropout3d(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b c cz cy cx"]:
        """Compute the features of normalised images."""
        at_2 = self.encoder[0](self.stem(images))
        at_4 = self.encoder[1](self.pool(at_2))
        at_8 = self.encoder[2](self.pool(at_4))
        at_16 = self.encoder[3](self.pool(at_8))
        up_8 = self.decode_8(torch.cat([self.up_8(at_16), at_8], dim=1))
        up_4 = self.decode_4(torch.cat([self.up_4(up_8), at_4], dim=1))
        features: Tensor = self.dropout(up_4)
        return features


def _stem(channels: int, stride: int, norm: str) -> nn.Sequential:
    """Bring the image to stride 2."""
    if stride == 2:
        return convolution(1, channels, norm, kernel=4, stride=2)
    return nn.Sequential(
        convolution(1, channels, norm),
        convolution(channels, channels, norm),
        nn.MaxPool3d(2),
    )


def _level(inputs: int, outputs: int, count: int, norm: str) -> nn.Sequential:
    widths = [inputs] + [outputs] * count
    return nn.Sequential(*(ResidualBlock(a, b, norm) for a, b in pairwise(widths)))


def _upsample(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(inputs, outputs, 2, 2, bias=False),
        normalisation(norm, outputs),
        nn.ReLU(inplace=True),
    )


def _check(
    channels: Sequence[int],
    blocks: Sequence[int],
    decoder_channels: Sequence[int],
    decoder_blocks: Sequence[int],
    stem_stride: int,
) -> None:
    lengths = tuple(len(values) for values in (channels, blocks, decoder_channels, decoder_blocks))
    if lengths != (5, 4, 2, 2):
        raise InputError(
            "ResUNet needs 5 channels, 4 blocks, 2 decoder_channels and 2 decoder_blocks; "
            f"the lengths given are {', '.join(map(str, lengths))}"
        )
    if min(channels) < 1 or min(decoder_channels) < 1:
        raise InputError("ResUNet's channels must be at least 1")
    if stem_stride not in (1, 2):
        raise InputError(f"ResUNet's stem_stride must be 1 or 2, not {stem_stride}")
    first_may_be_empty = 0 if channels[0] == channels[1] else 1
    if blocks[0] < first_may_be_empty or min(*blocks[1:], *decoder_blocks) < 1:
        raise InputError("each level of a ResUNet needs a block; only the first, with equal channels, may have none")
