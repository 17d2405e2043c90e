"""Test-time augmentation by flips: mirror the image, mirror the output maps back, average them.

Maps hold a logit for each anchor and, for anchors that regress boxes, offsets along (z, y, x) and a log size. A cell
covers a whole stride of the image, so that the map of a mirrored image is the map mirrored cell by cell.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def mirrorings(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield every subset of the axes, the empty one first.

    >>> list(mirrorings((1, 2)))
    [(), (1,), (2,), (1, 2)]
    """
    for count in range(len(axes) + 1):
        yield from combinations(axes, count)


def mirror_position(position: Float[Tensor, "3 2"], axes: Sequence[int]) -> Float[Tensor, "3 2"]:
    """Swap the positions of the first and last voxel along the mirrored axes."""
    turned = position.clone()
    turned[list(axes)] = turned[list(axes)].flip(1)
    return turned


def mirror_maps(
    maps: Float[Tensor, "z y x anchor numbers"], axes: Sequence[int]
) -> Float[Tensor, "z y x anchor numbers"]:
    """Mirror maps: cells change places, and offsets along the mirrored axes change sign."""
    turned = maps.flip(list(axes))
    if maps.shape[-1] > 1:
        turned[..., [1 + axis for axis in axes]] *= -1
    return turned


def average_maps(views: Iterable[Float[Tensor, "z y x anchor numbers"]]) -> Float[Tensor, "z y x anchor numbers"]:
    """Average the maps of several views of one window; one view at a time, to save memory.

    Probabilities are averaged, not logits: in a mean of logits a single view with a very low logit vetoes all others.
    Offsets and sizes are weighted by probability, because a view that sees no nodule does not know where one lies. The
    result is a logit again, computed in the log domain so that probabilities next to 0 and 1 keep their precision.

    Args:
        views: at least one.
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
