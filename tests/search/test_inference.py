"""Search of a whole scan: planted marks come back at their place in the world, whole or in tiles."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nodule_lightning.boxes import OUTSIDE
from nodule_lightning.detection.anchors import AnchorGrid, encode
from nodule_lightning.detection.decoding import decode_maps
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.models.heads import AnchorDetector
from nodule_lightning.models.position import position_map
from nodule_lightning.search.inference import InferenceSettings, detect, padded_image, scan_maps
from tests.balls import ball_entry, tiny_network

WHOLE = InferenceSettings(min_probability=0.05)
TILED = replace(WHOLE, tile_voxels=48, margin_voxels=16)


class Brightness(AnchorDetector):
    """Marks every cell by the brightness of its four voxels: a stand-in that looks only at the cell itself."""

    def __init__(self) -> None:
        super().__init__(tiny_network().backbone, AnchorGrid((8.0,)))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        self.seen.append(tuple(images.shape))
        logit = 20 * torch.nn.functional.avg_pool3d(images, 4)[:, 0, ..., None, None] - 2
        return torch.cat([logit, torch.zeros_like(logit).expand(*logit.shape[:-1], 4)], dim=-1)


class Planted(AnchorDetector):
    """Answers with given boxes (z, y, x, diameter, probability), whatever it sees."""

    def __init__(self, boxes: Sequence[tuple[float, ...]]) -> None:
        super().__init__(tiny_network().backbone, AnchorGrid((8.0,)))
        self.boxes = boxes

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        cells = [size // 4 for size in images.shape[2:]]
        anchors = self.anchors.boxes(cells)
        maps = torch.full((1, *cells, 1, 5), -20.0)
        for *box, probability in self.boxes:
            place = tuple(int(value // 4) for value in box[:3])
            numbers = encode(torch.tensor(box), anchors[place][0])
            maps[0][place][0] = torch.cat([torch.logit(torch.tensor([probability])), numbers])
        return maps


def test_planted_boxes_come_back_in_the_world() -> None:
    entry, findings = ball_entry("a", [(10.3, 20.0, 30.6, 7.0), (30.0, 12.0, 14.0, 5.0)])
    network = Planted([(10.3, 20.0, 30.6, 7.0, 0.7), (30.0, 12.0, 14.0, 5.0, 0.9)])
    candidates = detect(network, entry, WHOLE)
    assert candidates.probability == pytest.approx([0.9, 0.7], abs=1e-4)
    np.testing.assert_allclose(candidates.centre_xyz_mm, findings.centre_xyz_mm[::-1], atol=1e-3)
    np.testing.assert_allclose(candidates.diameter_mm, [5.0, 7.0], atol=1e-3)


def test_sizes_and_places_follow_the_spacing() -> None:
    entry, _ = ball_entry("a", [])
    entry = replace(entry, grid=Grid(entry.grid.shape, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)))
    network = Planted([(10.0, 20.0, 30.0, 7.0, 0.7)])
    with pytest.raises(InputError) as error:
        detect(network, entry, WHOLE)
    assert all(value in str(error.value) for value in ("0.5 mm", "1.0 mm"))
    network.anchors = AnchorGrid((4.0,), spacing_mm=0.5)
    candidates = detect(network, entry, WHOLE)
    np.testing.assert_allclose(candidates.centre_xyz_mm, [[15.0, 10.0, 5.0]], atol=1e-3)
    np.testing.assert_allclose(candidates.diameter_mm, [3.5], atol=1e-3)


def test_marks_outside_the_lungs_and_the_volume_are_dropped() -> None:
    entry, _ = ball_entry("a", [])
    network = Planted([(2.0, 20.0, 30.0, 7.0, 0.9), (20.0, 20.0, 53.0, 7.0, 0.9), (20.0, 20.0, 20.0, 7.0, 0.5)])
    assert detect(network, entry, WHOLE).probability == pytest.approx([0.5], abs=1e-4)


def test_the_best_are_kept_and_the_least_probable_dropped() -> None:
    entry, _ = ball_entry("a", [])
    network = Planted([(10.0, 20.0, x, 7.0, probability) for x, probability in ((10, 0.1), (24, 0.9), (38, 0.5))])
    for kept, settings in (
        ([0.9, 0.5, 0.1], WHOLE),
        ([0.9, 0.5], replace(WHOLE, min_probability=0.2)),
        ([0.9], replace(WHOLE, most_candidates=1)),
    ):
        assert detect(network, entry, settings).probability == pytest.approx(kept, abs=1e-4)


def test_nothing_found_is_an_empty_answer() -> None:
    entry, _ = ball_entry("a", [])
    candidates = detect(Planted([]), entry, WHOLE)
    assert len(candidates) == 0
    assert candidates.centre_xyz_mm.shape == (0, 3)


def test_one_wild_size_does_not_suppress_the_others() -> None:
    entry, _ = ball_entry("a", [])
    network = Planted([(10.0, 20.0, 10.0, 400.0, 0.9), (10.0, 20.0, 40.0, 7.0, 0.8)])
    candidates = detect(network, entry, WHOLE)
    np.testing.assert_allclose(candidates.diameter_mm, [60.0, 7.0], atol=1e-3)


def test_very_sure_marks_keep_their_order() -> None:
    maps = torch.full((1, 1, 3, 1, 5), 0.0)
    maps[0, 0, :, 0, 0] = torch.tensor([18.0, 20.0, 19.0])
    found = decode_maps(maps, AnchorGrid((8.0,)), min_probability=0.5, most=2)
    assert found.boxes[:, 2].tolist() == [5.5, 9.5]
    assert 1 > found.probability[0] > found.probability[1]


def test_tiles_and_the_whole_crop_agree() -> None:
    entry, _ = ball_entry("a", [(10.0, 20.0, 30.0, 9.0), (30.0, 30.0, 14.0, 12.0)], (56, 60, 70))
    network = Brightness()
    whole, tiled = detect(network, entry, WHOLE), detect(network, entry, TILED)
    assert network.seen[0] == (1, 1, 64, 64, 80)
    # Two of them to count what the network costs.
    assert len(network.seen) > 12
    assert max(max(shape) for shape in network.seen[3:]) == 48
    assert len(whole) > 2
    np.testing.assert_array_equal(whole.probability, tiled.probability)
    np.testing.assert_array_equal(whole.centre_xyz_mm, tiled.centre_xyz_mm)


class Place(AnchorDetector):
    """Gives each cell's place in the crop in the place of its offsets."""

    def __init__(self) -> None:
        super().__init__(tiny_network().backbone, AnchorGrid((8.0,)))

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        cells = torch.nn.functional.avg_pool3d(images, 4)
        place = position_map(position, cells, images.shape[2:]).permute(0, 2, 3, 4, 1)
        return torch.cat([torch.zeros(*place.shape[:4], 2), place], dim=-1)[..., None, :]


@pytest.mark.parametrize("settings", [WHOLE, TILED], ids=["whole", "tiles"])
def test_places_are_those_of_the_unpadded_crop_also_in_tiles(settings: InferenceSettings) -> None:
    crop = (56, 60, 70)
    image = torch.zeros(64, 64, 80, dtype=torch.uint8)
    maps = scan_maps(Place(), image, np.ones(crop, dtype=bool), settings)[..., 0, 2:]
    centres = AnchorGrid((8.0,)).boxes(maps.shape[:3])[..., 0, :3]
    torch.testing.assert_close(maps, 2 * centres / (torch.tensor(crop) - 1) - 1)


def test_the_image_is_filled_outside_the_lungs_and_padded() -> None:
    ct, lung = np.full((5, 16, 17), 9, np.uint8), np.zeros((5, 16, 17), bool)
    lung[2] = True
    image = padded_image(ct, lung, 16, WHOLE)
    assert image.shape == (16, 16, 32)
    assert (image[2, :, :17] == 9).all()
    assert (image == OUTSIDE).sum() == image.size - 16 * 17
    assert (padded_image(ct, lung, 16, replace(WHOLE, fill_outside_lungs=False)) == 9).sum() == ct.size


def test_the_network_is_left_in_its_mode() -> None:
    entry, _ = ball_entry("a", [])
    network = tiny_network().train()
    before = network.state_dict()["backbone.stem.1.running_mean"].clone()
    detect(network, entry, WHOLE)
    assert network.training
    assert torch.equal(before, network.state_dict()["backbone.stem.1.running_mean"])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tile_voxels": 200}, "200"),
        ({"tile_voxels": 96, "margin_voxels": 48}, "96 with margin_voxels=48"),
        ({"margin_voxels": 8}, "8"),
        ({"margin_voxels": -16}, "-16"),
        ({"memory_gb": 0}, "0"),
        ({"memory_gb": float("nan")}, "nan"),
        ({"mirror": [3]}, "[3]"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        InferenceSettings(**wrong)
    assert error.value.key == "argument-invalid"
    assert next(iter(wrong)) in str(error.value)
    assert named in str(error.value)
