"""A detector that has learnt nothing and knows one thing: a bright spot that stands alone in the dark is a nodule."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool3d

from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.models.blocks import Backbone
from nodule_lightning.models.heads import AnchorDetector

_DIAMETER = 10.0
_AROUND, _NEAR = 10, 6


class Blobs(Backbone):
    """For each cell of 4 voxels, how much a bright spot stands out there, and where its centre of mass lies."""

    stride = 4
    stride_total = 4
    out_channels = 5

    def forward(
        self, images: Float[Tensor, "b 1 z y x"], position: Float[Tensor, "b 3 2"] | None = None
    ) -> Float[Tensor, "b 5 cz cy cx"]:
        """Give the five numbers of one anchor: a logit, the offset of the centre, and no change of size."""
        # From fat upwards; lungs are dark.
        bright = (images + 0.6).clamp(0, 1)
        alone = _mean(bright, 0) - 2 * _mean(bright, _AROUND)
        axes = [torch.arange(size, dtype=images.dtype) for size in images.shape[2:]]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].to(images.device)
        mass = _mean(bright, _NEAR)
        centre = torch.cat([_mean(bright * place[:, axis : axis + 1], _NEAR) for axis in range(3)], dim=1)
        offset = (centre / mass.clamp(min=1e-6) - _mean(place, 0)) / _DIAMETER
        return torch.cat([10 * (alone - 0.5), offset, torch.zeros_like(mass)], dim=1)


def blob_detector() -> AnchorDetector:
    """Put a head on it that hands its numbers through."""
    detector = AnchorDetector(Blobs(), AnchorGrid((_DIAMETER,)), hidden=10)
    both = torch.cat([torch.eye(5), -torch.eye(5)])[:, :, None, None, None]
    numbers = {"hidden.weight": both, "hidden.bias": torch.zeros(10)}
    detector.head.load_state_dict({**numbers, "output.weight": both.transpose(0, 1), "output.bias": torch.zeros(5)})
    return detector.eval()


def _mean(values: Float[Tensor, "b c z y x"], around: int) -> Float[Tensor, "b c cz cy cx"]:
    """Average over each cell and so many voxels around it; the mean over a border counts what is there alone."""
    return avg_pool3d(values, 4 + 2 * around, 4, around, count_include_pad=False)
