"""The sampler: the weights, the shares, purity, ranks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.data.sampler import PatchDraws, SamplingRule, draw_weights, drawn_mm
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import read_findings
from tests.test_every_config import composed

EDGES_MM = (5.0, 10.0, 20.0)
EQUAL = (0.25, 0.25, 0.25, 0.25)


def scans_of_diameters(scans: int = 60, seed: int = 0) -> list[np.ndarray]:
    """Every third scan has no nodule; most nodules are small."""
    rng = np.random.default_rng(seed)
    return [np.exp(rng.normal(2.0, 0.8, 0 if index % 3 == 0 else 1 + index % 4)) for index in range(scans)]


def in_bins(diameters: np.ndarray, edges_mm: tuple[float, ...] = EDGES_MM) -> np.ndarray:
    return np.bincount(np.searchsorted(edges_mm, diameters, side="right"), minlength=len(edges_mm) + 1)


def preset(name: str) -> SamplingRule:
    rule = instantiate(composed("train", f"sampler={name}").sampler)
    assert isinstance(rule, SamplingRule)
    return rule


def test_draws_meet_the_target_shares() -> None:
    scans = scans_of_diameters()
    shares = (0.4, 0.3, 0.2, 0.1)
    rule = SamplingRule(5000, negative_share=0.2, edges_mm=EDGES_MM, target_share=shares)
    counts = in_bins(drawn_mm(PatchDraws(scans, rule, 3).of_epoch(0), scans))
    assert counts.sum() == 4000
    assert chisquare(counts, 4000 * np.array(shares)).pvalue > 0.01


def test_copies_multiply_the_natural_share() -> None:
    scans = scans_of_diameters()
    rule = SamplingRule(6000, negative_share=0.0, edges_mm=(10.0,), copies=(4, 2))
    natural = in_bins(np.concatenate(scans), (10.0,)) * (4, 2)
    counts = in_bins(drawn_mm(PatchDraws(scans, rule, 0).of_epoch(0), scans), (10.0,))
    assert chisquare(counts, natural / natural.sum() * 6000).pvalue > 0.01


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("seed_team", {3: 4, 9.99: 4, 10: 2, 79: 2, 80: 1, 99: 1, 100: 0, 120: 0}),
        ("grt123", {3: 0, 5.9: 0, 6.1: 1, 29: 1, 31: 3, 41: 7}),
        ("deeplung", {2.4: 0, 2.6: 1, 9.9: 1, 10.1: 3, 19.9: 3, 20.1: 7}),
        ("natural", {3: 1, 10: 1, 50: 1}),
    ],
)
def test_presets_are_what_their_authors_drew(name: str, weights: dict[float, float]) -> None:
    rule = preset(name)
    assert draw_weights(np.array(list(weights), dtype=np.float64), rule).tolist() == list(weights.values())
    assert rule.patches_per_epoch is None
    assert rule.negative_share == 0.3


def test_balancing_only_ever_adds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        diameters = np.exp(rng.normal(rng.uniform(1, 3.5), rng.uniform(0.1, 1), rng.integers(1, 40)))
        shares = rng.dirichlet([1.0] * 4) + 1e-3
        edges = tuple(np.sort(rng.choice(np.arange(3, 30), 3, replace=False)).astype(float))
        weights = draw_weights(diameters, SamplingRule(edges_mm=edges, target_share=shares.tolist()))
        assert weights.min() == 1
        small = diameters < 10
        assert weights[small].sum() / weights.sum() >= small.mean() - 1e-9


def test_shares_that_leave_small_nodules_more_than_they_have_are_met_exactly() -> None:
    diameters = np.array([4.0] + [7.0] * 2 + [12.0] * 5 + [25.0] * 4)
    weights = draw_weights(diameters, SamplingRule(edges_mm=EDGES_MM, target_share=EQUAL))
    drawn = [weights[diameters == size].sum() for size in (4, 7, 12, 25)]
    np.testing.assert_allclose(drawn, drawn[0])


def test_where_small_nodules_would_lose_share_they_keep_theirs() -> None:
    diameters = np.array([4.0] * 2 + [7.0] * 6 + [12.0, 25.0])
    rule = SamplingRule(edges_mm=EDGES_MM, target_share=EQUAL)
    weights = draw_weights(diameters, rule)
    # 8 of 10 are small: 0.4 and 0.4 to their bins, 0.1 and 0.1 to the others; 0.4 over 6 is the rarest drawn.
    np.testing.assert_allclose(weights, [3.0] * 2 + [1.0] * 6 + [1.5, 1.5])
    taken = draw_weights(diameters, SamplingRule(edges_mm=EDGES_MM, target_share=EQUAL, small_mm=0.0))
    np.testing.assert_allclose(taken, [3.0] * 2 + [1.0] * 6 + [6.0, 6.0])


def test_a_pass_draws_each_nodule_as_often_as_its_weight_says() -> None:
    scans = scans_of_diameters()
    weights = draw_weights(np.concatenate(scans), preset("balanced"))
    for seed in range(5):
        draws = PatchDraws(scans, preset("balanced"), seed)
        drawn = Counter((draw.scan_index, draw.finding_index) for draw in draws.of_epoch(0) if draw.finding_index >= 0)
        counts = np.array(
            [drawn[scan, finding] for scan, nodules in enumerate(scans) for finding in range(len(nodules))]
        )
        assert counts.min() >= 1
        assert (np.abs(counts - weights) < 1.1).all()
        assert draws.patches * 0.7 == pytest.approx(weights.sum(), abs=1)


def test_a_pass_is_whole_batches() -> None:
    scans = scans_of_diameters()
    draws = PatchDraws(scans, SamplingRule(negative_share=0.3), 0, whole=24)
    assert draws.patches - 24 < sum(map(len, scans)) / 0.7 <= draws.patches
    assert draws.patches % 24 == 0


def test_a_number_of_patches_scales_the_draws() -> None:
    scans = scans_of_diameters()
    rule = SamplingRule(edges_mm=EDGES_MM, target_share=EQUAL)
    once = PatchDraws(scans, rule, 0)
    thrice = PatchDraws(scans, SamplingRule(3 * once.patches, edges_mm=EDGES_MM, target_share=EQUAL), 0)
    assert once.patches == once.patches_of_pass == thrice.patches_of_pass
    counts = [in_bins(drawn_mm(draws.of_epoch(0), scans)) for draws in (once, thrice)]
    np.testing.assert_allclose(counts[1], 3 * counts[0], atol=4)


def test_within_a_bin_every_nodule_comes_equally_often() -> None:
    scans = scans_of_diameters()
    nodules = sum(len(scan) for scan in scans)
    draws = PatchDraws(scans, SamplingRule(3 * nodules, negative_share=0.0), 1).of_epoch(0)
    _, counts = np.unique([(draw.scan_index, draw.finding_index) for draw in draws], axis=0, return_counts=True)
    assert counts.tolist() == [3] * nodules


def test_a_bin_without_nodules_gives_its_share_away() -> None:
    rule = SamplingRule(8, edges_mm=EDGES_MM, target_share=EQUAL)
    assert draw_weights(np.array([4.0, 7.0, 8.0]), rule).tolist() == [2, 1, 1]
    assert draw_weights(np.zeros(0), rule).shape == (0,)


def test_a_bin_without_copies_is_never_drawn() -> None:
    rule = SamplingRule(500, negative_share=0.0, edges_mm=(5.0,), copies=(0, 1))
    draws = PatchDraws([np.array([4.0, 6.0, 3.0])], rule, 0).of_epoch(0)
    assert {draw.finding_index for draw in draws} == {1}


def test_negatives_come_from_all_scans_also_from_those_without_nodules() -> None:
    scans = scans_of_diameters()
    draws = PatchDraws(scans, SamplingRule(2000, negative_share=0.5), 0).of_epoch(0)
    negatives = [draw for draw in draws if draw.finding_index == -1]
    assert len(negatives) == 1000
    counts = np.bincount([draw.scan_index for draw in negatives], minlength=len(scans))
    assert chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    ("diameters", "rule"),
    [
        (np.zeros(0), SamplingRule(negative_share=0.1)),
        (np.array([200.0]), SamplingRule(negative_share=0.1, edges_mm=(100.0,), copies=(1, 0))),
        (np.array([5.0]), SamplingRule(negative_share=1.0)),
    ],
)
def test_without_a_nodule_to_draw_a_pass_is_a_place_in_each_scan(diameters: np.ndarray, rule: SamplingRule) -> None:
    scans = [diameters, np.zeros(0), np.zeros(0)]
    draws = PatchDraws(scans, rule, 0).of_epoch(0)
    assert [draw.finding_index for draw in draws] == [-1] * 3
    assert drawn_mm(draws, scans).shape == (0,)
    assert PatchDraws(scans, rule, 0, whole=16).patches == 16


TIANCHI, LUNA16 = "tianchi/annotations_train_600.csv", "luna16/annotations.csv"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("table", "name", "draws", "patches"),
    [
        (TIANCHI, "natural", (178, 490, 227, 80), 1393),
        (TIANCHI, "seed_team", (712, 1960, 454, 160), 4695),
        (TIANCHI, "grt123", (0, 327, 227, 92), 923),
        (TIANCHI, "deeplung", (178, 490, 681, 560), 2728),
        # 668 of 975 are small: half of that share to each of their bins, and 227 nodules of 10-20 mm come once.
        (TIANCHI, "balanced", (493.93, 493.93, 227, 227), 2060),
        (LUNA16, "natural", (270, 635, 231, 50), 1695),
        (LUNA16, "balanced", (743.97, 743.97, 231, 231), 2786),
    ],
)
def test_the_sizes_of_the_challenges_before_and_after(
    real_data: Path, table: str, name: str, draws: tuple[float, ...], patches: int
) -> None:
    diameters = read_findings(real_data / table).rows.diameter_mm
    rule = preset(name)
    weights = draw_weights(diameters, rule)
    bins = np.searchsorted(EDGES_MM, diameters, side="right")
    np.testing.assert_allclose(np.bincount(bins, weights), draws, atol=0.01)
    sampled = PatchDraws([diameters], rule, 0)
    assert sampled.patches == patches
    # Whole draws, and up to one more than the weights' sum.
    np.testing.assert_allclose(in_bins(drawn_mm(sampled.of_epoch(0), [diameters])), draws, atol=1.6)
    if name == "balanced":
        assert weights.min() == 1
        assert weights[diameters < 10].sum() / weights.sum() >= (diameters < 10).mean() - 1e-12


@pytest.mark.parametrize(
    ("arguments", "key", "named"),
    [
        ({"patches_per_epoch": 0}, "argument-invalid", "0"),
        ({"negative_share": 1.5}, "argument-invalid", "1.5"),
        ({"small_mm": -1.0}, "argument-invalid", "-1.0"),
        ({"edges_mm": (10.0, 5.0)}, "argument-invalid", "[10.0, 5.0]"),
        ({"edges_mm": (10.0,), "copies": (1,)}, "argument-invalid", "[1]"),
        ({"copies": (0,)}, "argument-invalid", "[0]"),
        ({"edges_mm": (10.0,), "target_share": (0.5, 0.2, 0.3)}, "argument-invalid", "[0.5, 0.2, 0.3]"),
        ({"edges_mm": (10.0,), "target_share": (0, 1)}, "argument-invalid", "[0, 1]"),
        ({"copies": (1,), "target_share": (1,)}, "argument-conflict", "target_share"),
    ],
)
def test_bad_rules_are_refused(arguments: dict[str, object], key: str, named: str) -> None:
    with pytest.raises(InputError) as error:
        SamplingRule(**arguments)  # type: ignore[arg-type]
    assert error.value.key == key
    assert named in str(error.value)
    assert list(arguments)[-1] in str(error.value)
