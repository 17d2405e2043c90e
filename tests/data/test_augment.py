"""Augmentation: boxes follow the image exactly."""

import numpy as np
import pytest
import torch

from nodule_lightning.data.augment import Augment, mirror
from nodule_lightning.data.intensity import normalise
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.errors import InputError


def points(count: int = 16, side: int = 9) -> PatchBatch:
    """One bright voxel a patch, and its box."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(side, (count, 3), generator=generator)
    image = torch.full((count, 1, side, side, side), 100, dtype=torch.uint8)
    for row, (z, y, x) in enumerate(place.tolist()):
        image[row, 0, z, y, x] = 255
    boxes = torch.cat([place.float(), torch.full((count, 1), 5.0)], dim=1)[:, None]
    return PatchBatch(tuple(map(str, range(count))), image, boxes, torch.ones(count, 1, dtype=torch.int8))


def brightest(image: torch.Tensor) -> np.ndarray:
    return np.stack([np.unravel_index(int(patch.argmax()), patch.shape)[-3:] for patch in image])


def test_a_planted_point_is_found_where_its_box_went() -> None:
    batch = points()
    image, boxes = Augment(gain=0.2, shift=0.1)(batch, torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(brightest(image), boxes[:, 0, :3].numpy())
    moved = (boxes != batch.boxes).any(dim=0)[0]
    assert moved.tolist() == [True, True, True, False]


def test_only_the_named_axes_are_mirrored() -> None:
    batch = points()
    _, boxes = Augment(mirror_axes=(2,))(batch, torch.Generator().manual_seed(1))
    assert (boxes != batch.boxes).any(dim=0)[0].tolist() == [False, False, True, False]


def test_mirroring_twice_changes_nothing() -> None:
    batch, chosen = points(), torch.arange(16) % 2 == 0
    image, boxes = mirror(*mirror(batch.image, batch.boxes, 1, chosen), 1, chosen)
    assert torch.equal(image, batch.image)
    assert torch.equal(boxes, batch.boxes)


def test_without_anything_it_only_normalises() -> None:
    batch = points()
    image, boxes = Augment(mirror_axes=())(batch, torch.Generator().manual_seed(1))
    assert torch.equal(image, normalise(batch.image))
    assert torch.equal(boxes, batch.boxes)


def test_intensity_stays_within_its_bounds_and_varies() -> None:
    batch = points(64)
    plain = normalise(batch.image)[:, 0, 0, 0, 0].mean()
    image, _ = Augment(mirror_axes=(), shift=0.1)(batch, torch.Generator().manual_seed(1))
    change = image[:, 0].flatten(1).median(dim=1).values - plain
    assert change.abs().max() <= 0.1 + 1e-2
    assert change.std() > 0.03


def test_the_generator_decides() -> None:
    batch = points()
    images = [Augment(gain=0.2)(batch, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="axes"):
        Augment(mirror_axes=(3,))
