"""Keep the best of the boxes that mark the same place."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def suppress(
    boxes: Float[Tensor, "n 4"],
    probability: Float[Tensor, "n"],
    *,
    overlap: float = 0.5,
    min_distance: float = 3.0,
) -> Int64[Tensor, "kept"]:
    """Walk down the boxes, best first, and drop those too near to one that was kept.

    Too near: the centres are closer than `overlap` times the sum of the two radii, or than `min_distance`. Distances
    suit small nodules better than overlaps of boxes: two marks of one 4 mm nodule may not overlap at all.

    Args:
        boxes: (z, y, x, diameter), all in one unit.
        probability: score of each.
        overlap: 1 drops spheres that touch, 0 none.
        min_distance: in the unit of the boxes.

    Returns:
        Rows that are kept, best first; of equal scores the earlier row wins.

    >>> suppress(torch.tensor([[0.0, 0, 0, 6], [0, 0, 2, 6], [0, 0, 9, 6]]), torch.tensor([0.5, 0.9, 0.1])).tolist()
    [1, 2]
    """
    order = torch.sort(probability, descending=True, stable=True).indices
    centre, radius = boxes[order, :3].double(), boxes[order, 3].double() / 2
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    kept: list[int] = []
    for row in range(len(order)):
        if not alive[row]:
            continue
        kept.append(row)
        distance = torch.linalg.vector_norm(centre - centre[row], dim=1)
        alive &= distance >= (overlap * (radius + radius[row])).clamp(min=min_distance)
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]
