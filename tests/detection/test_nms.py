"""Suppression: against a naive reference, and fast."""

import time

import torch

from nodule_lightning.detection.nms import suppress


def naive(boxes: torch.Tensor, probability: torch.Tensor, overlap: float, min_distance: float) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda row: (-float(probability[row]), row)):
        far = True
        for other in kept:
            distance = float(torch.dist(boxes[row, :3], boxes[other, :3]))
            far &= distance >= max(min_distance, overlap * float(boxes[row, 3] + boxes[other, 3]) / 2)
        if far:
            kept.append(row)
    return kept


def test_it_equals_the_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (0, 1, 60):
        boxes = torch.rand((count, 4), generator=generator).double() * 20
        # Few different scores, so that ties are met.
        probability = torch.randint(0, 9, (count,), generator=generator).double() / 9
        kept = suppress(boxes, probability, overlap=0.7, min_distance=2.0)
        assert kept.tolist() == naive(boxes, probability, 0.7, 2.0)


def test_two_marks_of_a_tiny_nodule_become_one() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 2], [0, 0, 2.5, 2]])
    assert suppress(boxes, torch.tensor([0.4, 0.6])).tolist() == [1]


def test_thousands_take_no_time() -> None:
    boxes = torch.rand(4000, 4) * 300
    start = time.perf_counter()
    suppress(boxes, torch.rand(4000))
    assert time.perf_counter() - start < 2
