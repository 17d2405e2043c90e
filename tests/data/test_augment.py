"""Augmentation: boxes follow the image exactly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING, OUTSIDE
from nodule_lightning.data.augment import Augment, AugmentedBatch, kind_in_patch, mirror
from nodule_lightning.data.patches import PatchBatch, boxes_in_patch
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.errors import InputError
from nodule_lightning.models.position import position_map

GREY = normalise(torch.tensor(OUTSIDE, dtype=torch.uint8)).item()
ALL: dict[str, Any] = {"rotation_degrees": 180.0, "scale": 1.25, "warp_voxels": 6.0}


def points(count: int = 16, side: int = 9) -> PatchBatch:
    """One bright voxel a patch, and its box."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(side, (count, 3), generator=generator)
    image = torch.full((count, 1, side, side, side), 100, dtype=torch.uint8)
    for row, (z, y, x) in enumerate(place.tolist()):
        image[row, 0, z, y, x] = 255
    boxes = torch.cat([place.float(), torch.full((count, 1), 5.0)], dim=1)[:, None]
    position = torch.rand(count, 3, 2, generator=generator) * 2 - 1
    return PatchBatch(tuple(map(str, range(count))), image, boxes, torch.ones(count, 1, dtype=torch.int8), position)


def balls(count: int = 12, side: int = 48, diameter: float = 9.0) -> PatchBatch:
    """One ball a patch with a soft edge, on the grey that lies outside; it stays within for any rotation."""
    generator = torch.Generator().manual_seed(0)
    centre = (side - 1) / 2 + (torch.rand((count, 3), generator=generator) - 0.5) * 0.4 * side
    voxel = torch.stack(torch.meshgrid(*[torch.arange(side).float()] * 3, indexing="ij"), dim=-1)
    distance = (voxel - centre[:, None, None, None]).norm(dim=-1)
    image = (OUTSIDE + 80 * (diameter / 2 - distance + 0.5).clamp(0, 1)).round().to(torch.uint8)
    boxes = torch.cat([centre, torch.full((count, 1), diameter)], dim=1)[:, None]
    kind, position = torch.ones(count, 1, dtype=torch.int8), torch.zeros(count, 3, 2)
    return PatchBatch(("",) * count, image[:, None], boxes, kind, position)


def found(batch: AugmentedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Find each patch's ball again: its centre of mass, and the diameter of a ball of its volume."""
    mass = (batch.image[:, 0] - GREY).clamp(min=0)
    voxel = torch.stack(torch.meshgrid(*(torch.arange(side).float() for side in mass.shape[1:]), indexing="ij"), dim=-1)
    total = mass.sum(dim=(1, 2, 3))
    centre = torch.einsum("bzyx,zyxc->bc", mass, voxel) / total[:, None]
    return centre, (total / (80 / 128) * 6 / torch.pi) ** (1 / 3)


def brightest(image: torch.Tensor) -> np.ndarray:
    return np.stack([np.unravel_index(int(patch.argmax()), patch.shape)[-3:] for patch in image])


def change(batch: PatchBatch, augment: Augment, seed: int = 1) -> AugmentedBatch:
    return augment(batch, torch.Generator().manual_seed(seed))


def test_a_planted_point_is_found_where_its_box_went() -> None:
    batch = points()
    changed = change(batch, Augment(gain=0.2, shift=0.1))
    np.testing.assert_array_equal(brightest(changed.image), changed.boxes[:, 0, :3].numpy())
    moved = (changed.boxes != batch.boxes).any(dim=0)[0]
    assert moved.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "values",
    [{"mirror_axes": ()}, {"rotation_degrees": 180.0}, {"scale": 1.25}, {"warp_voxels": 6.0}, ALL],
    ids=",".join,
)
def test_a_planted_ball_is_found_where_its_box_went(values: dict[str, Any]) -> None:
    batch = balls()
    moved = 0.0
    for seed in range(4):
        changed = change(batch, Augment(**{"mirror_axes": (), **values}), seed)
        centre, diameter = found(changed)
        assert (centre - changed.boxes[:, 0, :3]).norm(dim=1).max() < 0.25
        # The warp stretches a little here and there; nothing else may.
        tolerance = 0.12 if "warp_voxels" in values else 0.02
        assert (diameter / changed.boxes[:, 0, 3] - 1).abs().max() < tolerance
        assert (changed.kind == NODULE).all()
        moved = max(moved, (changed.boxes - batch.boxes).abs().max().item())
    assert (moved > 2) == ("mirror_axes" not in values)


def test_a_patch_of_unequal_sides_is_turned_about_its_own_middle() -> None:
    batch = balls(side=48)
    cut = batch.image[:, :, 4:44, :, 8:]
    boxes = batch.boxes - torch.tensor([4.0, 0, 8, 0])
    changed = change(replace(batch, image=cut, boxes=boxes), Augment((), rotation_degrees=40.0, warp_voxels=3.0))
    inside = (changed.boxes[:, 0, :3] > 6).all(1) & (changed.boxes[:, 0, :3] < torch.tensor([33.0, 41, 33])).all(1)
    assert inside.sum() > 4
    assert (found(changed)[0] - changed.boxes[:, 0, :3])[inside].norm(dim=1).max() < 0.25


def test_what_comes_from_beyond_the_patch_is_the_grey_outside_the_lungs() -> None:
    image = torch.zeros((4, 1, 32, 32, 32), dtype=torch.uint8)
    kind, position = torch.zeros(4, 0, dtype=torch.int8), torch.zeros(4, 3, 2)
    batch = PatchBatch(("",) * 4, image, torch.zeros(4, 0, 4), kind, position)
    changed = change(batch, Augment((), rotation_degrees=180.0))
    assert (changed.image[:, :, 8:24, 8:24, 8:24] + 1).abs().max() < 1e-6
    assert torch.isclose(changed.image, torch.tensor(GREY)).any()
    assert changed.image.max() <= GREY + 1e-6
    assert changed.boxes.shape == (4, 0, 4)


def test_each_patch_has_its_own_lot_and_a_share_stays_as_it_was_cut() -> None:
    batch = balls(64, side=16, diameter=5.0)
    changed = change(batch, Augment((), rotation_degrees=90.0, scale=1.2, resampled_share=0.5))
    same = (changed.image == normalise(batch.image)).flatten(1).all(dim=1)
    assert torch.equal(same, (changed.boxes == batch.boxes).flatten(1).all(dim=1))
    assert 20 < same.sum() < 44
    assert len(torch.unique(changed.boxes[~same][:, 0, 3])) == 64 - same.sum()
    none = change(batch, Augment((), rotation_degrees=90.0, resampled_share=0.0))
    assert torch.equal(none.image, normalise(batch.image))


def test_lots_fill_the_range_that_is_given() -> None:
    batch = balls(256, side=16, diameter=5.0)
    size = change(batch, Augment((), scale=1.25)).boxes[:, 0, 3] / 5
    assert size.min().item() == pytest.approx(0.8, abs=0.01)
    assert size.max().item() == pytest.approx(1.25, abs=0.01)
    assert size.log().mean().abs() < 0.02
    middle = torch.tensor([7.5, 7.5, 7.5])
    before = batch.boxes[:, 0, :3] - middle
    after = change(batch, Augment((), rotation_degrees=30.0)).boxes[:, 0, :3] - middle
    turned = torch.rad2deg(torch.acos(torch.cosine_similarity(before, after, dim=1).clamp(-1, 1)))
    assert 20 < turned.max() < 30.1
    torch.testing.assert_close(before.norm(dim=1), after.norm(dim=1))
    assert ((after - before).abs().amax(dim=0) > 0.5).all()


def test_boxes_that_leave_are_ignored_or_forgotten_as_where_a_patch_is_cut() -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-12, 44, (400, 3)), rng.uniform(3, 20, (400, 1))], axis=1)
    marks = np.concatenate([np.full(200, NODULE), np.full(200, IGNORED)])
    _, kept = boxes_in_patch(boxes[:200], boxes[200:], np.zeros(3, np.int64), 32)
    kind = kind_in_patch(
        torch.from_numpy(boxes.astype(np.float32))[None], torch.from_numpy(marks.astype(np.int8))[None], (32, 32, 32)
    )[0].numpy()
    assert kind[kind != NOTHING].tolist() == kept.tolist()
    assert {NOTHING, NODULE, IGNORED} == set(kind.tolist())
    assert kind_in_patch(torch.zeros(1, 1, 4), torch.tensor([[NOTHING]], dtype=torch.int8), (8, 8, 8)).item() == NOTHING


def test_a_nodule_that_is_turned_out_of_the_patch_is_no_longer_one() -> None:
    batch = balls(64)
    batch = replace(batch, boxes=torch.tensor([2.0, 2, 2, 6]).expand(64, 1, 4))
    changed = change(batch, Augment((), rotation_degrees=180.0))
    outside = ((changed.boxes[..., :3] < -0.5) | (changed.boxes[..., :3] > 47.5)).any(dim=-1)
    assert outside.any()
    assert not (changed.kind[outside] == NODULE).any()
    assert (changed.kind[~outside] == NODULE).all()


def test_half_precision_around_it_changes_nothing() -> None:
    batch = balls()
    plain = change(batch, Augment(gain=0.1, **ALL))
    with torch.autocast("cpu", torch.bfloat16):
        cast = change(batch, Augment(gain=0.1, **ALL))
    assert cast.image.dtype == torch.float32
    assert torch.equal(plain.image, cast.image)
    assert torch.equal(plain.boxes, cast.boxes)


def test_mirroring_alone_draws_as_it_did_before_there_was_anything_else() -> None:
    """The demo's figures rest on these draws: one row of five numbers a patch, and no voxel is interpolated."""
    batch = points(6)
    generator, twin = (torch.Generator().manual_seed(7) for _ in range(2))
    changed = Augment((0, 1, 2), gain=0.2, shift=0.1)(batch, generator)
    draws = torch.rand((6, 5), generator=twin)
    for row in range(6):
        axes = [axis + 1 for axis in range(3) if draws[row, axis] < 0.5]
        image = normalise(batch.image[row].flip(axes))
        gain, shift = 1 + 0.2 * (2 * draws[row, 3] - 1), 0.1 * (2 * draws[row, 4] - 1)
        assert torch.equal(changed.image[row], image * gain + shift)
    assert torch.equal(generator.get_state(), twin.get_state())


def test_only_the_named_axes_are_mirrored() -> None:
    batch = points()
    changed = change(batch, Augment(mirror_axes=(2,)))
    assert (changed.boxes != batch.boxes).any(dim=0)[0].tolist() == [False, False, True, False]


def test_mirroring_twice_changes_nothing() -> None:
    batch, chosen = points(), torch.arange(16) % 2 == 0
    image, boxes, position = mirror(*mirror(batch.image, batch.boxes, batch.position, 1, chosen), 1, chosen)
    assert torch.equal(image, batch.image)
    assert torch.equal(boxes, batch.boxes)
    assert torch.equal(position, batch.position)


def test_a_mirrored_patch_has_a_mirrored_position_map() -> None:
    """The place in the crop of a planted point is the same before and after; the other changes leave the map alone."""
    batch = points()
    changed = change(batch, Augment())

    def places(boxes: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        maps = position_map(position, torch.zeros(16, 1, 9, 9, 9), (9, 9, 9))
        z, y, x = boxes[:, 0, :3].long().unbind(1)
        return maps[torch.arange(16), :, z, y, x]

    assert not torch.equal(changed.position, batch.position)
    torch.testing.assert_close(places(changed.boxes, changed.position), places(batch.boxes, batch.position))
    assert torch.equal(change(batch, Augment((), **ALL)).position, batch.position)


def test_without_anything_it_only_normalises() -> None:
    batch = points()
    changed = change(batch, Augment(mirror_axes=()))
    assert torch.equal(changed.image, normalise(batch.image))
    assert torch.equal(changed.boxes, batch.boxes)
    assert torch.equal(changed.kind, batch.kind)


def test_intensity_stays_within_its_bounds_and_varies() -> None:
    batch = points(64)
    plain = normalise(batch.image)[:, 0, 0, 0, 0].mean()
    image = change(batch, Augment(mirror_axes=(), shift=0.1)).image
    moved = image[:, 0].flatten(1).median(dim=1).values - plain
    assert moved.abs().max() <= 0.1 + 1e-2
    assert moved.std() > 0.03


@pytest.mark.parametrize("values", [{"gain": 0.2}, ALL], ids=("fast", "resampled"))
def test_the_generator_decides(values: dict[str, Any]) -> None:
    batch = points()
    images = [change(batch, Augment(**values), seed).image for seed in (1, 1, 2)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_the_parts_are_what_is_turned_on() -> None:
    assert list(Augment(**ALL).parts()) == ["mirror", "rotation", "scale", "warp"]
    parts = Augment((1,), gain=0.1, warp_voxels=2.0, resampled_share=0.3).parts()
    assert list(parts) == ["mirror", "warp", "intensity"]
    assert (parts["warp"].mirror_axes, parts["warp"].gain, parts["warp"].resampled_share) == ((), 0, 1)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"mirror_axes": (3,)}, "[3]"),
        ({"gain": 1.0}, "1.0"),
        ({"shift": -0.5}, "-0.5"),
        ({"rotation_degrees": 181.0}, "181.0"),
        ({"scale": 0.9}, "0.9"),
        ({"resampled_share": 1.5}, "1.5"),
        ({"warp_voxels": 7.0}, "7.0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], value: str) -> None:
    with pytest.raises(InputError) as error:
        Augment(**arguments)
    assert error.value.key == "argument-invalid"
    assert value in str(error.value)


@pytest.mark.parametrize("moves", [{}, ALL], ids=["mirrored", "resampled"])
def test_outlines_move_with_the_image(moves: dict[str, Any]) -> None:
    batch = balls()
    batch = replace(batch, outlines=torch.where(batch.image > OUTSIDE + 40, 2, 0).to(torch.uint8))
    moved = change(batch, Augment(**moves))
    assert moved.outlines is not None
    assert set(np.unique(moved.outlines.numpy())) == {0, 2}
    inside = moved.image > GREY + 40 / 128
    assert (inside == (moved.outlines == 2)).float().mean() > 0.995
    assert (moved.outlines == 2).sum() == pytest.approx(inside.sum().item(), rel=0.05)
    plain = change(replace(batch, outlines=None), Augment(**moves))
    assert torch.equal(plain.image, moved.image)
