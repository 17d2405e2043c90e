"""Mirrored searches: what is found stays at its place, and a network that does not mind mirrors finds the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.models.heads import AnchorDetector
from nodule_lightning.models.position import position_map
from nodule_lightning.search.inference import InferenceSettings, detect, scan_maps
from nodule_lightning.search.mirroring import average_maps, mirror_maps
from tests.balls import ball_entry, tiny_network, tiny_segmentation
from tests.blob_detector import blob_detector

PLAIN = InferenceSettings(min_probability=0.05, margin_voxels=16)
AXES = [(0,), (1,), (2,), (0, 1, 2)]
BALLS = [(20.3, 25.0, 36.6, 9.0), (29.0, 12.4, 14.0, 7.0)]


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("tile_voxels", [None, 48])
def test_balls_stay_at_their_place(axes: tuple[int, ...], tile_voxels: int | None) -> None:
    # Of 46, 44 and 60 voxels one is padded, and mirrored the padding comes first.
    entry, findings = ball_entry("a", BALLS, (46, 44, 60))
    plain = detect(blob_detector(), entry, PLAIN)
    mirrored = detect(blob_detector(), entry, replace(PLAIN, mirror=axes, tile_voxels=tile_voxels))
    np.testing.assert_allclose(mirrored.probability, plain.probability, atol=1e-4)
    np.testing.assert_allclose(mirrored.centre_xyz_mm, plain.centre_xyz_mm, atol=1e-2)
    distance = np.linalg.norm(mirrored.centre_xyz_mm[:, None] - findings.centre_xyz_mm, axis=2)
    assert (distance.min(axis=0) < 1.5).all()


class PlaceAsLogit(AnchorDetector):
    """Believes in nodules at high coordinates."""

    def __init__(self) -> None:
        super().__init__(tiny_network().backbone, AnchorGrid((8.0,)))

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        cells = torch.nn.functional.avg_pool3d(images, 4)
        place = position_map(position, cells, images.shape[2:])
        logit = (place * torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]).sum(dim=1)[..., None, None]
        return torch.cat([logit, torch.zeros(*logit.shape[:-1], 4)], dim=-1)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_the_place_in_the_crop_is_told_as_it_is(axes: tuple[int, ...]) -> None:
    image, lung = torch.zeros(48, 48, 64, dtype=torch.uint8), np.ones((41, 44, 52), bool)
    plain = scan_maps(PlaceAsLogit(), image, lung, PLAIN)
    mirrored = scan_maps(PlaceAsLogit(), image, lung, replace(PLAIN, mirror=axes))
    torch.testing.assert_close(mirrored, plain, atol=1e-3, rtol=1e-5)


def test_a_segmentation_is_mirrored_too() -> None:
    torch.manual_seed(0)
    network = tiny_segmentation().eval()
    image, lung = torch.randint(0, 255, (16, 16, 32), dtype=torch.uint8), np.ones((16, 16, 32), bool)
    with torch.inference_mode():
        plain = scan_maps(network, image, lung, PLAIN)
        once = scan_maps(network, image.flip(2), lung, PLAIN).flip(2)
        both = scan_maps(network, image, lung, replace(PLAIN, mirror=(2,)))
    assert not torch.allclose(plain, once)
    torch.testing.assert_close(torch.sigmoid(both), (torch.sigmoid(plain) + torch.sigmoid(once)) / 2)


def test_mirrored_maps_turn_cells_and_offsets() -> None:
    maps = torch.zeros(1, 1, 2, 1, 5)
    maps[0, 0, 0, 0] = torch.tensor([9.0, 1.0, 2.0, 3.0, 4.0])
    turned = mirror_maps(maps, (0, 2))
    assert turned[0, 0, 1, 0].tolist() == [9.0, -1.0, 2.0, -3.0, 4.0]
    assert torch.equal(mirror_maps(turned, (0, 2)), maps)


def test_probabilities_are_averaged_and_places_weighted_by_them() -> None:
    views = torch.zeros(2, 1, 1, 1, 1, 5)
    views[:, ..., 0] = torch.logit(torch.tensor([0.9, 0.1])).view(2, 1, 1, 1, 1)
    views[:, ..., 1] = torch.tensor([2.0, 12.0]).view(2, 1, 1, 1, 1)
    logit, offset = average_maps(list(views))[0, 0, 0, 0, :2].tolist()
    assert torch.sigmoid(torch.tensor(logit)) == pytest.approx(0.5)
    assert offset == pytest.approx(0.9 * 2 + 0.1 * 12)


def test_very_sure_and_very_unsure_logits_are_kept_apart() -> None:
    for logit in (-100.0, -60.0, 25.0, 60.0):
        maps = torch.full((1, 1, 1, 1, 1), logit)
        assert average_maps([maps, maps]).item() == pytest.approx(logit, rel=1e-4)
