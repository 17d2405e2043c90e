"""One of two gloo processes: the loss of its half of a batch, and the gradient that DDP makes of it.

Called as `loss_on_rank.py RANK WORLD_SIZE MEETING_FILE`; prints one JSON line for each case.
"""

import json
import os
import sys

import torch
import torch.distributed
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.losses.error_weights import StepWeight
from nodule_lightning.losses.hard_mining import HardMiningLoss, LossTerms
from nodule_lightning.models.heads import AnchorHead

PATCHES, CHANNELS, SIDE, ANCHORS = 4, 3, 4, 2
# How many positives each patch has; the second rank gets the last two.
POSITIVES = {"uneven": (9, 4, 1, 0), "none on a rank": (7, 2, 0, 0), "none": (0, 0, 0, 0)}
# An untrained head scores its positives at 0.01, so that all are misclassified and no negative is.
WEIGHTS = {"first formula": None, "second formula": StepWeight(threshold=0.5, heavy=3.0)}
CASES = [(case, formula) for case in POSITIVES for formula in WEIGHTS]


def features(case: str) -> Tensor:
    generator = torch.Generator().manual_seed(len(case))
    return torch.randn(PATCHES, CHANNELS, SIDE, SIDE, SIDE, generator=generator)


def truth(case: str) -> Assignment:
    generator = torch.Generator().manual_seed(1)
    label = torch.zeros(PATCHES, SIDE**3 * ANCHORS, dtype=torch.int8)
    for patch, count in enumerate(POSITIVES[case]):
        label[patch, :count] = 1
    shape = (PATCHES, SIDE, SIDE, SIDE, ANCHORS)
    return Assignment(label.view(shape), torch.randn(*shape, 4, generator=generator))


def head() -> AnchorHead:
    torch.manual_seed(0)
    return AnchorHead(CHANNELS, ANCHORS, hidden=4)


def terms_and_gradient(network: Module, case: str, formula: str, patches: slice) -> tuple[LossTerms, list[float]]:
    network.zero_grad()
    whole = truth(case)
    # The pool takes in all negatives, so that the draw plays no part.
    pool, weight = SIDE**3 * ANCHORS, WEIGHTS[formula]
    loss = HardMiningLoss(pool, hard_per_patch=5, hard_per_positive=1.0, error_weight=weight)
    part = Assignment(whole.label[patches], whole.target[patches])
    terms = loss(network(features(case)[patches]), part, torch.Generator().manual_seed(0))
    terms.total.backward()  # type: ignore[no-untyped-call]
    gradients = [torch.zeros(0) if weight.grad is None else weight.grad.flatten() for weight in network.parameters()]
    return terms, torch.cat(gradients).tolist()


def main() -> None:
    rank, world_size, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    network = DistributedDataParallel(head())
    share = PATCHES // world_size
    for case, formula in CASES:
        terms, gradient = terms_and_gradient(network, case, formula, slice(rank * share, (rank + 1) * share))
        values = [part.item() for part in (terms.total, terms.positive, terms.negative, terms.box)]
        print(json.dumps([values, gradient]), flush=True)
    torch.distributed.barrier()
    # Gloo's threads now and then abort a process that is done and takes itself down in order.
    os._exit(0)


if __name__ == "__main__":
    main()
