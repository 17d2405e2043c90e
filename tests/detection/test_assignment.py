"""Assignment: by overlap and by distance."""

import pytest
import torch

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING
from nodule_lightning.detection.anchors import AnchorGrid, decode
from nodule_lightning.detection.assignment import Assigner, CentreAssigner, IouAssigner, cube_iou
from nodule_lightning.errors import InputError

GRID = AnchorGrid((5.0, 10.0, 20.0))
ANCHORS = GRID.boxes((8, 8, 8))
BOTH = pytest.mark.parametrize("assign", [IouAssigner(), CentreAssigner()], ids=["iou", "centre"])


def batch(*patches: list[tuple[float, float, float, float, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    most = max(len(patch) for patch in patches)
    boxes, kind = torch.zeros(len(patches), most, 4), torch.full((len(patches), most), NOTHING, dtype=torch.int8)
    for row, patch in enumerate(patches):
        for column, (*box, what) in enumerate(patch):
            boxes[row, column], kind[row, column] = torch.tensor(box), what
    return boxes, kind


@BOTH
def test_no_box_makes_everything_negative(assign: Assigner) -> None:
    for boxes, kind in (batch([], []), batch([], [(9.0, 9.0, 9.0, 8.0, NOTHING)])):
        result = assign(ANCHORS, boxes, kind)
        assert result.label.shape == (2, 8, 8, 8, 3)
        assert result.target.shape == (2, 8, 8, 8, 3, 4)
        assert not result.label.any()


@BOTH
def test_every_nodule_has_a_positive_whose_target_decodes_to_it(assign: Assigner) -> None:
    nodules = [(6.1, 9.0, 11.3, 3.5, NODULE), (22.0, 20.0, 8.0, 18.0, NODULE), (25.0, 6.0, 26.0, 9.0, NODULE)]
    boxes, kind = batch([], nodules)
    result = assign(ANCHORS, boxes, kind)
    found = decode(result.target, ANCHORS)[1][result.label[1] == 1]
    for nodule in boxes[1]:
        assert (found - nodule).abs().amax(dim=1).min() < 1e-4
    assert not result.label[0].any()


@BOTH
def test_an_excluded_finding_is_neither_positive_nor_negative(assign: Assigner) -> None:
    boxes, kind = batch([(13.5, 13.5, 13.5, 10.0, IGNORED)])
    label = assign(ANCHORS, boxes, kind).label[0]
    assert (label != 1).all()
    assert label[3, 3, 3, 1] == -1
    assert label[7, 7, 7].tolist() == [0, 0, 0]


@BOTH
def test_a_nodule_wins_over_an_excluded_finding_in_its_place(assign: Assigner) -> None:
    place = (13.5, 13.5, 13.5, 10.0)
    alone = assign(ANCHORS, *batch([(*place, NODULE)]))
    both = assign(ANCHORS, *batch([(*place, IGNORED), (*place, NODULE)]))
    assert torch.equal(alone.label == 1, both.label == 1)
    assert both.label[0, 3, 3, 3, 1] == 1


def test_overlap_has_grt123s_three_zones() -> None:
    label = IouAssigner().__call__(ANCHORS, *batch([(13.5, 13.5, 13.5, 10.0, NODULE)])).label[0]
    # The same cube; a 5 mm cube inside it (1/8); a 20 mm cube around it (1/8); one 4 mm aside (0.43); one far away.
    assert label[3, 3, 3].tolist() == [-1, 1, -1]
    assert label[4, 3, 3, 1] == -1
    assert label[7, 3, 3, 1] == 0
    assert (label == 1).sum() == 1


def test_distance_gives_every_nodule_as_many_positives_in_the_best_size() -> None:
    small, large = (14.0, 14.0, 13.0, 4.0, NODULE), (22.0, 6.0, 25.0, 17.0, NODULE)
    label = CentreAssigner(cells=4).__call__(ANCHORS, *batch([small, large])).label[0]
    assert (label == 1).sum(dim=(0, 1, 2)).tolist() == [4, 0, 4]
    assert label[3, 3, 3].tolist() == [1, -1, -1]
    # 7.5 voxels from the small nodule's centre: outside its radius and the margin.
    assert label[5, 3, 3].tolist() == [0, 0, 0]


def test_a_cell_between_two_nodules_belongs_to_the_nearer() -> None:
    near, far = (13.0, 13.5, 13.5, 5.0, NODULE), (16.0, 13.5, 13.5, 5.0, NODULE)
    target = CentreAssigner(cells=8).__call__(ANCHORS, *batch([far, near])).target
    assert decode(target, ANCHORS)[0, 3, 3, 3, 0].tolist() == pytest.approx([13.0, 13.5, 13.5, 5.0], abs=1e-4)


def test_of_two_nodules_at_one_place_one_has_the_cells_and_none_is_given_further_off() -> None:
    place = (13.5, 13.5, 13.5, 5.0, NODULE)
    alone = CentreAssigner(cells=4).__call__(ANCHORS, *batch([place]))
    twice = CentreAssigner(cells=4).__call__(ANCHORS, *batch([place, place]))
    assert torch.equal(alone.label, twice.label)
    assert torch.equal(alone.target, twice.target)


def test_iou_of_cubes_by_hand() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.0, 2.0]], [[5.0, 5.0, 5.0, 0.0]]])
    others = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 4.0]])
    assert cube_iou(boxes, others).flatten().tolist() == pytest.approx([1 / 3, 1 / 8, 0, 0])


def test_bad_thresholds_are_refused() -> None:
    for make in (lambda: IouAssigner(positive=0.1, negative=0.2), lambda: CentreAssigner(cells=0)):
        with pytest.raises(InputError) as error:
            make()
        assert error.value.key == "argument-invalid"


def test_a_nodule_that_overlaps_no_anchor_has_the_nearest() -> None:
    anchors = AnchorGrid((1.0,), stride=8).boxes((3, 3, 3))
    nodule = (16.0, 8.0, 16.0, 1.0, NODULE)
    boxes, kind = batch([nodule], [])
    assert not cube_iou(boxes[0], anchors.flatten(0, 3)).any()
    label = IouAssigner()(anchors, boxes, kind).label
    assert label.sum() == 1
    (place,) = label[0].nonzero()
    far = (anchors[..., :3] - boxes[0, 0, :3]).norm(dim=-1)
    assert far[tuple(place)] == far.min()


def test_of_two_nodules_that_want_one_anchor_each_has_its_own() -> None:
    for seed in range(50):
        rng = torch.Generator().manual_seed(seed)
        first = torch.rand(3, generator=rng) * 20 + 6
        second = first + torch.rand(3, generator=rng) * 4
        boxes, kind = batch([(*first.tolist(), 5.0, NODULE), (*second.tolist(), 5.0, NODULE)])
        result = IouAssigner()(ANCHORS, boxes, kind)
        found = decode(result.target, ANCHORS)[0][result.label[0] == 1]
        for nodule in boxes[0]:
            assert (found - nodule).abs().amax(dim=1).min() < 1e-4


@BOTH
def test_no_anchor_that_holds_an_excluded_finding_is_negative_however_small_it_is(assign: Assigner) -> None:
    """The largest anchor overlaps a finding of 5 mm by less than any threshold."""
    for place in (14.0, 16.0):
        boxes, kind = batch([(place, place, place, 2.5, IGNORED)])
        label = assign(ANCHORS, boxes, kind).label[0]
        near = (ANCHORS[..., :3] - boxes[0, 0, :3]).abs().amax(dim=-1) <= 2.5
        assert (label[near] == -1).all()
        assert near.any()
        assert (label == 0).any()
