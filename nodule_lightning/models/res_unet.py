"""Residual U-Net of the seed team, taken from grt123: encoder to stride 16, decoder back to stride 4 or 2."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import Backbone, convolution, convolution_block, initialise, normalisation
from nodule_lightning.models.position import position_map


class ResUNet(Backbone):
    """Compute features at stride 4 or 2 of a volume whose sides are multiples of `stride_total`.

    Args:
        channels: of the stem and of the encoder at strides 2, 4, 8 and 16.
        blocks: number of blocks at strides 2, 4, 8 and 16; the first may be 0 where the channels do not change.
        decoder_channels: of the decoder at strides 8, 4 and, if there is a third, 2; the last is the number of output
            channels, at that stride.
        decoder_blocks: number of blocks at the same strides.
        norm: `batch`, `group` or `instance`.
        stem_stride: 1 for the two full-resolution convolutions of the original; 2 halves the volume in the first
            convolution, so that nothing runs at full resolution.
        dropout: fraction of output channels dropped in training.
        block: `residual`, or `plain` for the same network without shortcuts.
        position: feed the position map to the decoder's last level, as the original does.

    Raises:
        InputError: the lists have the wrong length, or a value is out of range.
    """

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
        block: str = "residual",
        *,
        position: bool = False,
    ) -> None:
        super().__init__()
        _check(channels, blocks, decoder_channels, decoder_blocks, stem_stride)
        stem, *widths = channels
        self.stride = 4 if len(decoder_channels) == 2 else 2
        self.out_channels = decoder_channels[-1]
        self.position = position
        self.stem = _stem(stem, stem_stride, norm)
        self.encoder = nn.ModuleList(
            _level(inputs, outputs, count, norm, block)
            for inputs, outputs, count in zip(channels[:-1], widths, blocks, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        # A decoder level reads the level below, the encoder's features and, in the last level, the position map.
        below, beside = (widths[3], *decoder_channels[:-1]), widths[2::-1][: len(decoder_channels)]
        inputs = [sum(pair) for pair in zip(below, beside, strict=True)]
        inputs[-1] += 3 * position
        self.up_8 = _upsample(widths[3], norm)
        self.decode_8 = _level(inputs[0], decoder_channels[0], decoder_blocks[0], norm, block)
        self.up_4 = _upsample(decoder_channels[0], norm)
        self.decode_4 = _level(inputs[1], decoder_channels[1], decoder_blocks[1], norm, block)
        if self.stride == 2:
            self.up_2 = _upsample(decoder_channels[1], norm)
            self.decode_2 = _level(inputs[2], decoder_channels[2], decoder_blocks[2], norm, block)
        self.dropout = nn.Dropout3d(dropout)
        initialise(self)

    def forward(
        self, images: Float[Tensor, "b 1 z y x"], position: Float[Tensor, "b 3 2"] | None = None
    ) -> Float[Tensor, "b c cz cy cx"]:
        """Compute the features of normalised images."""
        at_2 = self.encoder[0](self.stem(images))
        at_4 = self.encoder[1](self.pool(at_2))
        at_8 = self.encoder[2](self.pool(at_4))
        at_16 = self.encoder[3](self.pool(at_8))
        last = at_4 if self.stride == 4 else at_2
        place = [position_map(position, last, images.shape[2:])] if self.position else []
        up_8 = self.decode_8(torch.cat([self.up_8(at_16), at_8], dim=1))
        if self.stride == 4:
            features = self.decode_4(torch.cat([self.up_4(up_8), at_4, *place], dim=1))
        else:
            up_4 = self.decode_4(torch.cat([self.up_4(up_8), at_4], dim=1))
            features = self.decode_2(torch.cat([self.up_2(up_4), at_2, *place], dim=1))
        dropped: Tensor = self.dropout(features)
        return dropped


def _stem(channels: int, stride: int, norm: str) -> nn.Sequential:
    """Make the layers that bring the image to stride 2."""
    if stride == 2:
        return convolution(1, channels, norm, kernel=(4, 4, 4), stride=2)
    return nn.Sequential(
        convolution(1, channels, norm),
        convolution(channels, channels, norm),
        nn.MaxPool3d(2),
    )


def _level(inputs: int, outputs: int, count: int, norm: str, kind: str) -> nn.Sequential:
    widths = [inputs] + [outputs] * count
    return nn.Sequential(*(convolution_block(kind, a, b, norm) for a, b in pairwise(widths)))


def _upsample(channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(channels, channels, 2, 2, bias=False),
        normalisation(norm, channels),
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
    if lengths not in ((5, 4, 2, 2), (5, 4, 3, 3)):
        raise InputError(
            "ResUNet needs 5 channels, 4 blocks, and 2 decoder_channels and decoder_blocks, or 3 for stride 2; "
            f"the lengths given are {', '.join(map(str, lengths))}",
            "argument-invalid",
        )
    if min(channels) < 1 or min(decoder_channels) < 1:
        raise InputError(
            f"ResUNet's channels must be at least 1, not {list(channels)} and {list(decoder_channels)}",
            "argument-invalid",
        )
    if stem_stride not in (1, 2):
        raise InputError(f"ResUNet's stem_stride must be 1 or 2, not {stem_stride}", "argument-invalid")
    first_may_be_empty = 0 if channels[0] == channels[1] else 1
    if blocks[0] < first_may_be_empty or min(*blocks[1:], *decoder_blocks) < 1:
        raise InputError(
            "each level of a ResUNet needs a block; only the first, with equal channels, may have none: "
            f"blocks are {list(blocks)} and decoder_blocks {list(decoder_blocks)}",
            "argument-invalid",
        )
