"""Components of a segmentation map: their positions, sizes and scores, and how neighbours are separated."""

import pytest
import torch

from nodule_lightning.detection.components import decode_components
from nodule_lightning.detection.decoding import ScoredBoxes

LEVELS = (0.1, 0.5)


def spheres(*balls: tuple[float, float, float, float, float], side: int = 32) -> torch.Tensor:
    """Draw (z, y, x, diameter, probability) in cells; where balls overlap, the higher probability counts."""
    index = torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij"), dim=-1)
    probability = torch.full((side, side, side), 1e-4)
    for *centre, diameter, value in balls:
        inside = torch.linalg.vector_norm(index - torch.tensor(centre, dtype=torch.float32), dim=-1) <= diameter / 2
        probability = torch.where(inside, probability.clamp(min=value), probability)
    return torch.logit(probability)


def decoded(
    maps: torch.Tensor, stride: int = 1, most: int = 100, largest: float = 60.0, least: float = 0.01
) -> ScoredBoxes:
    return decode_components(maps, stride, LEVELS, min_probability=least, most=most, largest_diameter=largest)


def test_spheres_come_back_best_first() -> None:
    found = decoded(spheres((8, 8, 8, 7, 0.3), (20, 22, 24, 10, 0.9), (24, 8, 8, 5, 0.6)))
    expected = torch.tensor([[20.0, 22, 24, 10], [24, 8, 8, 5], [8, 8, 8, 7]], dtype=torch.float64)
    torch.testing.assert_close(found.boxes[:, :3], expected[:, :3])
    torch.testing.assert_close(found.boxes[:, 3], expected[:, 3], atol=0.5, rtol=0)
    assert found.probability.tolist() == pytest.approx([0.9, 0.6, 0.3], abs=1e-5)


def test_cells_of_a_stride_are_brought_to_voxels() -> None:
    one, four = decoded(spheres((8, 9, 10, 7, 0.9))), decoded(spheres((8, 9, 10, 7, 0.9)), stride=4)
    torch.testing.assert_close(four.boxes[:, :3], one.boxes[:, :3] * 4 + 1.5)
    torch.testing.assert_close(four.boxes[:, 3], one.boxes[:, 3] * 4)


def test_probable_balls_in_an_uncertain_cloud_are_separated() -> None:
    found = decoded(spheres((16, 16, 10, 5, 0.8), (16, 16, 22, 5, 0.9), (16, 16, 16, 24, 0.2)))
    torch.testing.assert_close(found.boxes[:, :3], torch.tensor([[16.0, 16, 22], [16, 16, 10]], dtype=torch.float64))


def test_the_centre_leans_to_what_is_more_probable() -> None:
    found = decoded(spheres((16, 16, 16, 9, 0.55), (16, 16, 18, 4, 0.95)))
    assert 16.1 < found.boxes[0, 2] < 18
    assert found.boxes[0, :2].tolist() == pytest.approx([16, 16])


def test_cells_that_touch_at_a_corner_are_one_component() -> None:
    maps = torch.full((4, 4, 4), -9.0)
    maps[1, 1, 1] = maps[2, 2, 2] = 1.0
    assert decoded(maps).boxes[:, :3].tolist() == [[1.5, 1.5, 1.5]]


def test_what_is_less_probable_than_asked_is_dropped() -> None:
    maps = spheres((8, 8, 8, 7, 0.3), (24, 8, 8, 5, 0.6))
    assert decoded(maps, least=0.31).probability.tolist() == pytest.approx([0.6])
    assert len(decoded(maps, least=0.29).probability) == 2


def test_very_sure_ones_keep_their_order() -> None:
    maps = torch.full((3, 3, 9), -9.0)
    maps[1, 1, 1], maps[1, 1, 4], maps[1, 1, 7] = 18.0, 20.0, 19.0
    found = decoded(maps, most=2)
    assert found.boxes[:, 2].tolist() == [4, 7]
    assert 1 > found.probability[0] > found.probability[1]


def test_a_huge_one_is_made_smaller_and_nothing_is_an_empty_answer() -> None:
    assert decoded(spheres((16, 16, 16, 20, 0.9)), largest=12).boxes[0, 3] == 12
    found = decoded(spheres())
    assert found.boxes.shape == (0, 4)
    assert found.probability.shape == (0,)
