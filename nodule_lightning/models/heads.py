"""What turns a network's features into maps that mean boxes: anchors, or a segmentation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.detection.components import decode_components
from nodule_lightning.detection.decoding import ScoredBoxes, decode_maps
from nodule_lightning.errors import InputError
from nodule_lightning.models.blocks import Backbone


class DetectionNetwork(nn.Module, ABC):
    """A backbone and a head: what is trained, and searched with. A kind of head is a subclass that decodes its maps.

    Args:
        backbone: the network below.
        head: from features to maps.
        anchors: the cubes that the maps' numbers are for; their stride must be the backbone's.
        numbers: of each anchor: a logit, and what places the box, if anything does.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, anchors: AnchorGrid, numbers: int) -> None:
        super().__init__()
        anchors.require_stride(backbone.stride)
        self.anchors = anchors
        self.numbers = numbers
        self.stride_total = backbone.stride_total
        self.backbone = backbone
        self.head = head
        # Channels last is up to twice as fast on CPUs and on tensor cores.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(
        self, images: Float[Tensor, "b 1 z y x"], position: Float[Tensor, "b 3 2"] | None = None
    ) -> Float[Tensor, "b cz cy cx anchor numbers"]:
        """Compute the maps of normalised images.

        Args:
            images: patches, tiles or whole lung crops.
            position: where in the lung crop each was cut, see `position_map`; None stands for whole crops.
        """
        images = images.contiguous(memory_format=torch.channels_last_3d)
        maps: Tensor = self.head(self.backbone(images, position))
        return maps

    @abstractmethod
    def decode(
        self,
        maps: Float[Tensor, "z y x anchor numbers"],
        *,
        min_probability: float,
        most: int,
        largest_diameter: float = math.inf,
    ) -> ScoredBoxes:
        """Give the boxes that the maps of a whole scan mean, as `decode_maps` does."""
        ...


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
        _believe(self.output, prior, every=5)

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b z y x anchor 5"]:
        """Give the five numbers last, so that cells and anchors flatten into one list."""
        maps: Tensor = self.output(torch.relu(self.hidden(features))).permute(0, 2, 3, 4, 1)
        return maps.reshape(*maps.shape[:4], self.anchors, 5)


class AnchorDetector(DetectionNetwork):
    """One stage, as RPN, SSD and YOLO are: each anchor says whether it is a nodule, and where that lies.

    Args:
        backbone: the network below.
        anchors: their sizes; their stride must be the backbone's.
        hidden: see `AnchorHead`.
        prior: see `AnchorHead`.
    """

    def __init__(self, backbone: Backbone, anchors: AnchorGrid, hidden: int = 64, prior: float = 0.01) -> None:
        head = AnchorHead(backbone.out_channels, len(anchors.diameters_mm), hidden, prior)
        super().__init__(backbone, head, anchors, numbers=5)

    def decode(
        self,
        maps: Float[Tensor, "z y x anchor 5"],
        *,
        min_probability: float,
        most: int,
        largest_diameter: float = math.inf,
    ) -> ScoredBoxes:
        """Read each anchor's box; see `decode_maps`."""
        return decode_maps(
            maps, self.anchors, min_probability=min_probability, most=most, largest_diameter=largest_diameter
        )


class SegmentationHead(nn.Module):
    """Predict a logit for each cell: whether its centre lies in a nodule.

    Args:
        channels: of the features.
        prior: see `AnchorHead`.
    """

    def __init__(self, channels: int, prior: float = 0.01) -> None:
        super().__init__()
        self.output = nn.Conv3d(channels, 1, 1)
        _believe(self.output, prior, every=1)

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b z y x 1 1"]:
        """Lay the logits out as those of one anchor a cell that has no other numbers."""
        maps: Tensor = self.output(features).permute(0, 2, 3, 4, 1)
        return maps[..., None]


class SegmentationDetector(DetectionNetwork):
    """Segmentation as a detector: the connected components of the map are the candidates.

    Its anchors are the cells themselves. The csv files of the challenges tell a nodule's diameter and not its outline,
    so that spheres are what it learns (`SphereAssigner`).

    Args:
        backbone: the network below; its stride is the map's.
        spacing_mm: side of the (cubic) voxels of the network's input.
        levels: rising probabilities that cut the map into components, see `decode_components`.
        prior: see `AnchorHead`.
    """

    def __init__(
        self,
        backbone: Backbone,
        spacing_mm: float = 1.0,
        levels: Sequence[float] = (0.05, 0.2, 0.5),
        prior: float = 0.01,
    ) -> None:
        if not levels or list(levels) != sorted(set(levels)) or levels[0] <= 0 or levels[-1] >= 1:
            raise InputError(f"a segmentation's levels must rise within 0..1, not {list(levels)}")
        cells = AnchorGrid((backbone.stride * spacing_mm,), backbone.stride, spacing_mm)
        super().__init__(backbone, SegmentationHead(backbone.out_channels, prior), cells, numbers=1)
        self.levels = tuple(levels)

    def decode(
        self,
        maps: Float[Tensor, "z y x 1 1"],
        *,
        min_probability: float,
        most: int,
        largest_diameter: float = math.inf,
    ) -> ScoredBoxes:
        """Give the components as spheres; see `decode_components`."""
        return decode_components(
            maps[..., 0, 0],
            self.anchors.stride,
            self.levels,
            min_probability=min_probability,
            most=most,
            largest_diameter=largest_diameter,
        )


def _believe(output: nn.Conv3d, prior: float, every: int) -> None:
    """Let the last convolution give a probability at first, in each `every`th channel, and zeros in the others."""
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        output.bias[::every] = -math.log((1 - prior) / prior)  # type: ignore[index]
