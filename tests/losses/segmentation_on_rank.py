"""One of two gloo processes: a segmentation's loss of its half of a batch, and the gradient that DDP makes of it.

Called as `segmentation_on_rank.py RANK WORLD_SIZE MEETING_FILE`; prints one JSON line for each case.
"""

import json
import os
import sys

import torch
import torch.distributed
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.losses.hard_mining import HardMiningLoss
from nodule_lightning.losses.segmentation import SegmentationLoss
from nodule_lightning.models.heads import SegmentationHead

PATCHES, CHANNELS, SIDE = 4, 3, 4
# How many positives each patch has; the second rank gets the last two.
POSITIVES = {"uneven": (9, 4, 1, 0), "none on a rank": (7, 2, 0, 0), "none": (0, 0, 0, 0)}


def head() -> SegmentationHead:
    torch.manual_seed(0)
    return SegmentationHead(CHANNELS)


def loss_and_gradient(network: Module, case: str, patches: slice) -> list[float]:
    features = torch.randn(PATCHES, CHANNELS, *[SIDE] * 3, generator=torch.Generator().manual_seed(len(case)))
    label = torch.zeros(PATCHES, SIDE**3, dtype=torch.int8)
    for patch, count in enumerate(POSITIVES[case]):
        label[patch, :count] = 1
    label = label.view(PATCHES, *[SIDE] * 3, 1)[patches]
    # The pool takes in all negatives, so that the draw plays no part.
    loss = SegmentationLoss(HardMiningLoss(pool=SIDE**3, hard_per_patch=5))
    network.zero_grad()
    truth = Assignment(label, torch.zeros(*label.shape, 0))
    terms = loss(network(features[patches]), truth, torch.Generator().manual_seed(0))
    torch.autograd.backward(terms.total)
    gradients = [torch.zeros(0) if weight.grad is None else weight.grad.flatten() for weight in network.parameters()]
    return [terms.total.item(), terms.box.item(), *torch.cat(gradients).tolist()]


def main() -> None:
    rank, world_size, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    network = DistributedDataParallel(head())
    share = PATCHES // world_size
    for case in POSITIVES:
        print(json.dumps(loss_and_gradient(network, case, slice(rank * share, (rank + 1) * share))), flush=True)
    torch.distributed.barrier()
    # Gloo's threads now and then abort a process that is done and takes itself down in order.
    os._exit(0)


if __name__ == "__main__":
    main()
