"""Candidates are looked at again, and both probabilities are joined by a named rule."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from nodule_lightning.errors import InputError
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.search.rescoring import RULES, RescoringSettings, combined, reducer_probability, rescore
from nodule_lightning.structures import Candidates
from tests.balls import ball_entry
from tests.marked_balls import SIDE, tiny_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = RescoringSettings(SIDE)


class Bright(CandidateClassifier):
    """Believes in what is bright in the middle."""

    def __init__(self) -> None:
        super().__init__((4, 4), (1, 1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b"]:
        self.seen.append(tuple(images.shape))
        assert not self.training
        return 4 * images[:, 0, 7:9, 7:9, 7:9].mean(dim=(1, 2, 3))


def marks(*places_zyx: tuple[float, float, float]) -> tuple[Any, Candidates]:
    entry, _ = ball_entry("scan", [(20.0, 22.0, 26.0, 9.0)])
    centres = entry.grid.to_world(np.array(places_zyx).reshape(-1, 3))
    probability = np.linspace(0.9, 0.5, len(centres))
    return entry, Candidates(centres, probability, np.arange(len(centres), dtype=np.float64))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("product", [0.18, 0.36]), ("geometric", [0.18**0.5, 0.6]), ("mean", [0.55, 0.65]), ("reducer", [0.2, 0.9])],
)
def test_rules_by_hand(rule: str, expected: list[float]) -> None:
    detector, reducer = np.array([0.9, 0.4]), np.array([0.2, 0.9])
    np.testing.assert_allclose(RULES[rule](detector, reducer), expected)
    assert RULES[rule](np.zeros(0), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_monotone_and_stays_a_probability(rule: str) -> None:
    grid = np.linspace(0, 1, 11)
    detector, reducer = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    table = RULES[rule](detector, reducer).reshape(11, 11)
    assert table.min() >= 0
    assert table.max() == 1
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()


def test_what_the_second_stage_believes_in_comes_first() -> None:
    entry, candidates = marks((10.0, 10.0, 10.0), (30.0, 30.0, 40.0), (20.0, 22.0, 26.0))
    again = rescore(Bright(), entry, candidates, SETTINGS)
    # The diameters tell the candidates apart: the last is in the ball.
    assert again.diameter_mm[0] == 2
    assert (np.diff(again.probability) <= 0).all()
    np.testing.assert_allclose(again.centre_xyz_mm[0], candidates.centre_xyz_mm[2])
    alone = reducer_probability(Bright(), entry, candidates, SETTINGS)
    np.testing.assert_allclose(again.probability[0], candidates.probability[2] * alone[2])


def test_equal_ones_keep_their_order() -> None:
    _, candidates = marks((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (3.0, 3.0, 3.0))
    again = combined(candidates, np.array([0.5, 0.9, 0.5]), "reducer")
    assert again.diameter_mm.tolist() == [1, 0, 2]


def test_no_candidate_gives_none() -> None:
    entry, candidates = marks()
    network = Bright()
    again = rescore(network, entry, candidates, SETTINGS)
    assert len(again) == 0
    assert again.centre_xyz_mm.shape == (0, 3)
    assert network.seen == []


def test_batches_change_nothing() -> None:
    rng = np.random.default_rng(0)
    entry, candidates = marks(*rng.uniform(-3, 45, (11, 3)).tolist())
    torch.manual_seed(0)
    network = tiny_classifier().train()
    whole = reducer_probability(network, entry, candidates, SETTINGS)
    parts = reducer_probability(network, entry, candidates, replace(SETTINGS, batch_size=4))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)
    assert len(np.unique(whole)) > 5
    assert network.training


def test_a_candidate_beyond_the_crop_sees_what_lies_outside_the_lungs() -> None:
    entry, candidates = marks((-100.0, 0.0, 0.0), (500.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    found = reducer_probability(Bright(), entry, candidates, SETTINGS)
    expected = 1 / (1 + np.exp(-4 * (170 - 128) / 128))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_outside_is_filled_only_where_asked() -> None:
    entry, candidates = marks((1.0, 20.0, 20.0))
    dark = replace(entry, ct=np.zeros_like(entry.ct))
    filled, bare = (
        reducer_probability(Bright(), dark, candidates, replace(SETTINGS, fill_outside_lungs=fill))
        for fill in (True, False)
    )
    assert filled[0] > 0.5 > bare[0]


def test_other_voxels_are_refused() -> None:
    entry, candidates = marks((10.0, 10.0, 10.0))
    network = tiny_classifier()
    network.spacing_mm = 2.0
    with pytest.raises(InputError) as error:
        reducer_probability(network, entry, candidates, SETTINGS)
    assert error.value.key == "cache-settings-differ"
    assert all(value in str(error.value) for value in ("scan", "1.0 mm", "2.0 mm"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"combine": "vote"}, "'vote'"),
        ({"batch_size": 0}, "32 and 0"),
        ({"patch_voxels": 0}, "0 and 64"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        RescoringSettings(**arguments)
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)
