"""What turns a network's features into numbers per anchor."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.models.blocks import Backbone


class AnchorHead(nn.Module):
    """Predict a logit, three offsets and a log size for each anchor of each cell.

    Args:
        channels: of the features.
        anchors: sizes in each cell.
        hidden: channels of the 1x1x1 convolution before the last.
        prior: probability that an untrained head gives everywhere, low because nearly every anchor is a negative.
    """

    def __init__(self, channels: int, anchors: int, hidden: int = 64, prior: float = 0.01) -> None:
        super().__init__()
        self.anchors = anchors
        self.hidden = nn.Conv3d(channels, hidden, 1)
        self.output = nn.Conv3d(hidden, anchors * 5, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.output.bias[::5] = -math.log((1 - prior) / prior)  # type: ignore[index]

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b z y x anchor 5"]:
        """Give the five numbers last, so that cells and anchors flatten into one list."""
        maps: Tensor = self.output(torch.relu(self.hidden(features))).permute(0, 2, 3, 4, 1)
        return maps.reshape(*maps.shape[:4], self.anchors, 5)


class AnchorDetector(nn.Module):
    """A backbone and its anchor head: from normalised images to maps.

    Args:
        backbone: the network below.
        anchors: their sizes; their stride must be the backbone's.
        hidden: see `AnchorHead`.
        prior: see `AnchorHead`.
    """

    def __init__(self, backbone: Backbone, anchors: AnchorGrid, hidden: int = 64, prior: float = 0.01) -> None:
        super().__init__()
        anchors.require_stride(backbone.stride)
        self.anchors = anchors
        self.stride_total = backbone.stride_total
        self.backbone = backbone
        self.head = AnchorHead(backbone.out_channels, len(anchors.diameters_mm), hidden, prior)
        # Channels last is up to twice as fast on CPUs and on tensor cores.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, images: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b cz cy cx anchor 5"]:
        """Compute the maps: logit, offsets along (z, y, x) and log size."""
        maps: Tensor = self.head(self.backbone(images.contiguous(memory_format=torch.channels_last_3d)))
        return maps
