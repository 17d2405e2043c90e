"""Search a scan mirrored as well, and average what is found: test-time augmentation by flips.

Maps hold a logit for each anchor and, of anchors that place boxes, offsets along (z, y, x) and a log size. Their cells
cover whole strides of the image, so that the map of a mirrored image is mirrored cell by cell.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor


def mirrorings(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Give every choice of the axes, first of all none.

    >>> list(mirrorings((1, 2)))
    [(), (1,), (2,), (1, 2)]
    """
    for count in range(len(axes) + 1):
        yield from combinations(axes, count)


def mirror_position(position: Float[Tensor, "3 2"], axes: Sequence[int]) -> Float[Tensor, "3 2"]:
    """Say where a mirrored piece's first and last voxels lie: along those axes the last voxel comes first."""
    turned = position.clone()
    turned[list(axes)] = turned[list(axes)].flip(1)
    return turned


def mirror_maps(
    maps: Float[Tensor, "z y x anchor numbers"], axes: Sequence[int]
) -> Float[Tensor, "z y x anchor numbers"]:
    """Give the maps that the image's mirror image would have had: cells change places, offsets their sign."""
    turned = maps.flip(list(axes))
    if maps.shape[-1] > 1:
        turned[..., [1 + axis for axis in axes]] *= -1
    return turned


def average_maps(views: Sequence[Float[Tensor, "z y x anchor numbers"]]) -> Float[Tensor, "z y x anchor numbers"]:
    """Average the views of one place.

    Probabilities are averaged, not logits: a mean of logits lets one view that is sure of nothing there veto all
    others, and its value depends on how sure it is far beyond any probability that matters. The rest is weighted by
    probability, because a view that sees no nodule has no say in where it lies. The result is a logit again, exact
    where probabilities are 1 to the last digit.
    """
    if len(views) == 1:
        return views[0]
    stacked = torch.stack(list(views))
    yes, no = (torch.nn.functional.logsigmoid(sign * stacked[..., :1]) for sign in (1, -1))
    logit = torch.logsumexp(yes, dim=0) - torch.logsumexp(no, dim=0)
    rest = (torch.softmax(yes, dim=0) * stacked[..., 1:]).sum(dim=0)
    return torch.cat([logit, rest], dim=-1)
