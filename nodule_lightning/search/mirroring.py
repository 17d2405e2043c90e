"""Search a scan mirrored as well, and average what is found: test-time augmentation by flips.

Maps hold a logit for each anchor and, of anchors that place boxes, offsets along (z, y, x) and a log size. Their cells
cover whole strides of the image, so that the map of a mirrored image is mirrored cell by cell.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


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


def average_maps(views: Iterable[Float[Tensor, "z y x anchor numbers"]]) -> Float[Tensor, "z y x anchor numbers"]:
    """Average the views of one place, of which there is at least one; they are taken one at a time, to save memory.

    Probabilities are averaged, not logits: a mean of logits lets one view that is sure of nothing there veto all
    others, and its value depends on how sure it is far beyond any probability that matters. The rest is weighted by
    probability, because a view that sees no nodule has no say in where it lies. The result is a logit again, exact
    where probabilities are 1 to the last digit.
    """
    following = iter(views)
    first = next(following)
    yes, no, rest = logsigmoid(first[..., :1]), logsigmoid(-first[..., :1]), first[..., 1:]
    for view in following:
        more = logsigmoid(view[..., :1])
        total = torch.logaddexp(yes, more)
        rest = (yes - total).exp() * rest + (more - total).exp() * view[..., 1:]
        yes, no = total, torch.logaddexp(no, logsigmoid(-view[..., :1]))
    return torch.cat([yes - no, rest], dim=-1)
