"""Targets of a segmentation from readers' outlines."""

import pytest
import torch

from nodule_lightning.boxes import IGNORED, NODULE
from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.detection.outlines import OutlineAssigner
from nodule_lightning.errors import InputError

SIDE = 16
CELLS = AnchorGrid((1.0,), stride=1).boxes((SIDE,) * 3)


def label(outlines: torch.Tensor, *boxes: tuple[float, float, float, float, int], least: int = 2) -> torch.Tensor:
    rows = torch.tensor([box[:4] for box in boxes]).view(1, -1, 4)
    kind = torch.tensor([box[4] for box in boxes], dtype=torch.int8).view(1, -1)
    assigned = OutlineAssigner(least)(CELLS, rows, kind, outlines[None, None])
    assert assigned.target.shape[-1] == 0
    return assigned.label[0, ..., 0]


def drawn() -> torch.Tensor:
    """A nodule that is no sphere: a bar that two readers outlined, in a wider one of a single reader."""
    outlines = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.uint8)
    outlines[7:10, 7:10, 2:14] = 1
    outlines[8, 8, 3:13] = 2
    return outlines


def test_the_cells_that_enough_readers_outlined_are_positive_and_those_of_fewer_are_ignored() -> None:
    outlines = drawn()
    found = label(outlines, (8.0, 8.0, 8.0, 4.0, NODULE))
    assert torch.equal(found == 1, outlines == 2)
    assert torch.equal(found == -1, outlines == 1)
    one = label(outlines, (8.0, 8.0, 8.0, 4.0, NODULE), least=1)
    assert torch.equal(one == 1, outlines > 0)


def test_the_outline_of_an_excluded_finding_is_ignored_but_not_of_a_mark_of_the_nodule_itself() -> None:
    excluded = label(drawn(), (8.0, 8.0, 8.0, 4.0, IGNORED))
    assert (excluded[drawn() > 0] == -1).all()
    assert not (excluded == 1).any()
    again = label(drawn(), (8.0, 8.0, 8.0, 4.0, NODULE), (8.0, 8.0, 8.5, 9.0, IGNORED))
    assert (again[drawn() == 2] == 1).all()


def test_each_outline_belongs_to_the_nearest_finding() -> None:
    found = label(drawn(), (8.0, 8.0, 3.0, 3.0, NODULE), (8.0, 8.0, 12.0, 3.0, IGNORED))
    assert found[8, 8].tolist() == [0, 0, -1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, 0]


def test_a_nodule_without_outline_has_one_cell_and_an_empty_patch_none() -> None:
    nothing = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.uint8)
    assert label(nothing, (8.2, 9.0, 9.0, 4.0, NODULE)).nonzero().tolist() == [[8, 9, 9]]
    assert not label(nothing).any()
    assert not OutlineAssigner()(CELLS, torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int8)).label.any()


def test_coarse_cells_look_up_their_centre() -> None:
    cells = AnchorGrid((4.0,), stride=4).boxes((4, 4, 4))
    outlines = torch.zeros(1, 1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    outlines[..., :8] = 4
    boxes, kind = torch.tensor([[[8.0, 8.0, 3.0, 4.0]]]), torch.tensor([[NODULE]], dtype=torch.int8)
    found = OutlineAssigner()(cells, boxes, kind, outlines).label[0, ..., 0]
    assert (found[..., :2] == 1).all()
    assert (found[..., 2:] == 0).all()


@pytest.mark.parametrize("wrong", [{"least_readers": 0}, {"rim_voxels": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError) as error:
        OutlineAssigner(**wrong)  # type: ignore[arg-type]
    assert error.value.key == "argument-invalid"
