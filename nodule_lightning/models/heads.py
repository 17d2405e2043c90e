"""Detection heads, by anchors or by segmentation: from features to maps, and from maps to boxes."""

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
    """A backbone with a head, the unit that is trained and searched with; a subclass decodes the maps of its head.

    Args:
        backbone: computes the features.
        head: computes the maps from the features.
        anchors: the cubes to which the map values belong; their stride must be the backbone's.
        numbers: values for each anchor: a logit, then the box regression values, if any.

    Raises:
        InputError: the strides of anchors and backbone differ.
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
            position: where in the lung crop each was cut, see `position_map`; None for whole crops.
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
        """Decode the maps of a whole scan into boxes; arguments and result as in `decode_maps`."""
        ...


class AnchorHead(nn.Module):
    """Predict a logit, three offsets and a log size for each anchor of each cell.

    Args:
        channels: of the features.
        anchors: sizes in each cell.
        hidden: channels of the 1x1x1 convolution before the last.
        prior: probability that an untrained head predicts everywhere; low, since nearly every anchor is negative.
    """

    def __init__(self, channels: int, anchors: int, hidden: int = 64, prior: float = 0.01) -> None:
        super().__init__()
        self.anchors = anchors
        self.hidden = nn.Conv3d(channels, hidden, 1)
        self.output = nn.Conv3d(hidden, anchors * 5, 1)
        _initialise_prior(self.output, prior, every=5)

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b z y x anchor 5"]:
        """Compute the maps with the five numbers last, so that cells and anchors flatten into one list."""
        maps: Tensor = self.output(torch.relu(self.hidden(features))).permute(0, 2, 3, 4, 1)
        return maps.reshape(*maps.shape[:4], self.anchors, 5)


class AnchorDetector(DetectionNetwork):
    """One-stage detector, like RPN, SSD and YOLO: predicts for each anchor a nodule probability and a box.

    Args:
        backbone: computes the features.
        anchors: sizes and stride of the anchors; the stride must be the backbone's.
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
        """Decode the best anchors into boxes; see `decode_maps`."""
        return decode_maps(
            maps, self.anchors, min_probability=min_probability, most=most, largest_diameter=largest_diameter
        )


class SegmentationHead(nn.Module):
    """Predict a logit for each cell: whether its centre lies inside a nodule.

    Args:
        channels: of the features.
        prior: see `AnchorHead`.
    """

    def __init__(self, channels: int, prior: float = 0.01) -> None:
        super().__init__()
        self.output = nn.Conv3d(channels, 1, 1)
        _initialise_prior(self.output, prior, every=1)

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b z y x 1 1"]:
        """Compute the logits in the layout of one anchor per cell without box values."""
        maps: Tensor = self.output(features).permute(0, 2, 3, 4, 1)
        return maps[..., None]


class SegmentationDetector(DetectionNetwork):
    """Segmentation as a detector: the connected components of the map are the candidates.

    Each cell of the map is an anchor. The challenges' csv files give a nodule's diameter but no outline, so the targets
    are spheres (`SphereAssigner`).

    Args:
        backbone: computes the features; its stride is the map's.
        spacing_mm: side of the (cubic) voxels of the network's input.
        levels: increasing probability thresholds that cut the map into components, see `decode_components`.
        prior: see `AnchorHead`.

    Raises:
        InputError: the levels do not increase strictly within (0, 1).
    """

    def __init__(
        self,
        backbone: Backbone,
        spacing_mm: float = 1.0,
        levels: Sequence[float] = (0.05, 0.2, 0.5),
        prior: float = 0.01,
    ) -> None:
        if not levels or list(levels) != sorted(set(levels)) or levels[0] <= 0 or levels[-1] >= 1:
            raise InputError(
                f"a segmentation's levels must increase strictly within (0, 1), not {list(levels)}", "argument-invalid"
            )
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
        """Decode the connected components into spheres; see `decode_components`."""
        return decode_components(
            maps[..., 0, 0],
            self.anchors.stride,
            self.levels,
            min_probability=min_probability,
            most=most,
            largest_diameter=largest_diameter,
        )


def _initialise_prior(output: nn.Conv3d, prior: float, every: int) -> None:
    """Set the bias so that every `every`th channel starts at the logit of the prior and the others at 0."""
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        output.bias[::every] = -math.log((1 - prior) / prior)  # type: ignore[index]
