"""The figure of augmented patches circles each nodule at its position."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from nodule_lightning.boxes import IGNORED
from nodule_lightning.data.augment import Augment, AugmentedBatch
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.report.augmentation_figure import GAP, RIM_VOXELS, draw_augmentations
from nodule_lightning.report.canvas import to_png
from tests.data.test_augment import ALL, balls

SIDE = 48


def change(cut: PatchBatch, augment: Augment) -> AugmentedBatch:
    return augment(cut, torch.Generator().manual_seed(1))


def circles(figure: Figure) -> list[Circle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]


def test_a_circle_lies_around_each_ball_in_each_row() -> None:
    cut = balls(4, SIDE)
    augment = Augment(**ALL)
    rows = {"as cut": change(cut, Augment(()))} | {name: change(cut, part) for name, part in augment.parts().items()}
    rows["all together"] = change(cut, augment)
    figure = draw_augmentations(cut, rows)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(rows)
    (picture,) = axes.images
    mosaic = np.asarray(picture.get_array())
    assert mosaic.shape == ((SIDE + GAP) * 6 - GAP, (SIDE + GAP) * 4 - GAP)
    assert len(circles(figure)) == 24
    cells = set()
    for circle in circles(figure):
        x, y = circle.center
        row, column = int(y // (SIDE + GAP)), int(x // (SIDE + GAP))
        cells.add((row, column))
        tile = mosaic[row * (SIDE + GAP) :, column * (SIDE + GAP) :][:SIDE, :SIDE]
        mass = (tile - tile.min()).clip(0.3) - 0.3
        found = [(mass.sum(axis=1 - axis) * np.arange(SIDE)).sum() / mass.sum() for axis in (0, 1)]
        assert (y % (SIDE + GAP), x % (SIDE + GAP)) == pytest.approx(found, abs=0.6)
        area = (mass > 0.3 * mass.max()).sum()
        assert circle.radius - RIM_VOXELS == pytest.approx((area / np.pi) ** 0.5, abs=1.0)
    assert len(cells) == 24


def test_a_finding_is_circled_where_the_slice_meets_it_and_in_its_colour() -> None:
    cut = balls(1, SIDE)
    near, far = torch.tensor([[3.0, 0, 9, 10]]), torch.tensor([[6.0, 0, 9, 10]])
    level = cut.boxes[0, 0, 0].round()
    other = torch.cat([cut.boxes[0] * torch.tensor([0.0, 1, 1, 0]) + level * torch.tensor([1.0, 0, 0, 0])] * 2)
    boxes = torch.cat([cut.boxes[0], other + torch.cat([near, far])])
    kind = torch.tensor([[1, IGNORED, IGNORED]], dtype=torch.int8)
    cut = replace(cut, boxes=boxes[None], kind=kind)
    nodule, finding = circles(draw_augmentations(cut, {"as cut": change(cut, Augment(()))}))
    # A ball of radius 5 that the slice meets 3 voxels off its centre.
    assert finding.radius - RIM_VOXELS == pytest.approx(4)
    assert finding.get_edgecolor() != nodule.get_edgecolor()


def test_patches_without_a_nodule_show_their_middle() -> None:
    cut = balls(2, SIDE)
    for boxes, kind in ((cut.boxes, torch.zeros_like(cut.kind)), (cut.boxes[:, :0], cut.kind[:, :0])):
        empty = replace(cut, boxes=boxes, kind=kind)
        figure = draw_augmentations(empty, {"as cut": change(empty, Augment(()))})
        assert not circles(figure)
        assert to_png(figure)
