"""Position map: coordinates within the whole lung crop as three more channels (grt123)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def position_map(
    position: Float[Tensor, "b 3 2"] | None, features: Float[Tensor, "b _ cz cy cx"], voxels: Sequence[int]
) -> Float[Tensor, "b 3 cz cy cx"]:
    """Compute the (z, y, x) position of each cell's centre within the whole lung crop.

    The crop's first voxel is at -1 and its last at 1 on each axis. The coordinates do not depend on the piece of the
    crop that the network sees: a cell has the same ones in a patch, in a tile and in the whole crop.

    Args:
        position: coordinates of the centres of each image's first and last voxel, along z, y and x; the first is
            the larger one where a patch is mirrored. None for whole crops.
        features: the map gets their cells, batch size, type and device.
        voxels: size of the images along z, y and x.

    >>> position_map(torch.tensor([[[-1.0, 1.0], [0.0, 0.3], [1.0, 0.0]]]), torch.zeros(1, 8, 1, 2, 1), (4, 4, 4))
    tensor([[[[[0.0000],
               [0.0000]]],
    <BLANKLINE>
    <BLANKLINE>
             [[[0.0500],
               [0.2500]]],
    <BLANKLINE>
    <BLANKLINE>
             [[[0.5000],
               [0.5000]]]]])
    """
    cells = features.shape[2:]
    if position is None:
        position = torch.tensor([-1.0, 1.0], device=features.device).expand(len(features), 3, 2)
    axes = []
    for axis, (count, size) in enumerate(zip(cells, voxels, strict=True)):
        share = ((torch.arange(count, device=features.device) + 0.5) * (size / count) - 0.5) / max(size - 1, 1)
        first, last = position[:, axis, :1], position[:, axis, 1:]
        shape = [len(features), 1, 1, 1]
        shape[axis + 1] = count
        axes.append((first + (last - first) * share).view(shape).expand(-1, *cells))
    return torch.stack(axes, dim=1).to(features.dtype)
