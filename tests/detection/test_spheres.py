"""Targets of a segmentation: spheres, their rims, and ignored findings."""

import pytest
import torch

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING
from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.detection.spheres import SphereAssigner
from nodule_lightning.errors import InputError

CELLS = AnchorGrid((1.0,), stride=1).boxes((16, 16, 16))


def labels(*boxes: tuple[float, float, float, float, int], rim: float = 1.0) -> torch.Tensor:
    rows = torch.tensor([box[:4] for box in boxes]).view(1, -1, 4)
    kind = torch.tensor([box[4] for box in boxes], dtype=torch.int8).view(1, -1)
    return SphereAssigner(rim).__call__(CELLS, rows, kind).label[0, ..., 0]


def test_the_cells_in_the_sphere_are_positive_and_a_rim_around_it_is_ignored() -> None:
    label = labels((8.0, 8.0, 8.0, 6.0, NODULE))
    distance = torch.linalg.vector_norm(CELLS[..., 0, :3] - 8, dim=-1)
    assert torch.equal(label == 1, distance <= 3)
    assert torch.equal(label == -1, (distance > 3) & (distance <= 4))
    assert (label[distance > 4] == 0).all()


def test_a_nodule_smaller_than_a_cell_has_one() -> None:
    cells = AnchorGrid((4.0,), stride=4).boxes((4, 4, 4))
    boxes, kind = torch.tensor([[[4.2, 9.0, 9.0, 2.0]]]), torch.tensor([[NODULE]], dtype=torch.int8)
    label = SphereAssigner(0.0).__call__(cells, boxes, kind).label[0, ..., 0]
    assert label.nonzero().tolist() == [[1, 2, 2]]


@pytest.mark.parametrize("order", [1, -1])
def test_excluded_findings_are_ignored_and_nodules_win_over_them(order: int) -> None:
    nodule, excluded = (8.0, 8.0, 6.0, 4.0, NODULE), (8.0, 8.0, 9.0, 6.0, IGNORED)
    label = labels(*(nodule, excluded)[::order])
    assert label[8, 8].tolist() == [0, 0, 0, -1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 0, 0]


def test_no_box_makes_everything_negative_and_there_are_no_numbers_to_predict() -> None:
    for boxes, kind in ((torch.zeros(2, 0, 4), torch.zeros(2, 0)), (torch.zeros(2, 1, 4), torch.full((2, 1), NOTHING))):
        result = SphereAssigner().__call__(CELLS, boxes, kind.to(torch.int8))
        assert result.label.shape == (2, 16, 16, 16, 1)
        assert result.target.shape == (2, 16, 16, 16, 1, 0)
        assert not result.label.any()


def test_a_negative_rim_is_refused() -> None:
    with pytest.raises(InputError) as error:
        SphereAssigner(-1.0)
    assert error.value.key == "argument-invalid"
