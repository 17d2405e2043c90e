"""The sampler: the target shares, purity, ranks."""

import numpy as np
import pytest
from scipy.stats import chisquare

from nodule_lightning.data.sampler import PatchDraw, PatchSampler, SamplingRule, draw_probability
from nodule_lightning.errors import InputError

EDGES_MM = (5.0, 10.0, 20.0)


def scans_of_diameters(scans: int = 60, seed: int = 0) -> list[np.ndarray]:
    """Every third scan has no nodule; most nodules are small."""
    rng = np.random.default_rng(seed)
    return [np.exp(rng.normal(2.0, 0.8, 0 if index % 3 == 0 else 1 + index % 4)) for index in range(scans)]


def drawn_bins(sampler: PatchSampler, scans: list[np.ndarray], edges_mm: tuple[float, ...]) -> np.ndarray:
    diameters = [scans[draw.scan_index][draw.finding_index] for draw in sampler if draw.finding_index >= 0]
    return np.bincount(np.searchsorted(edges_mm, diameters, side="right"), minlength=len(edges_mm) + 1)


def test_draws_meet_the_target_shares() -> None:
    scans = scans_of_diameters()
    shares = (0.4, 0.3, 0.2, 0.1)
    rule = SamplingRule(5000, negative_share=0.2, edges_mm=EDGES_MM, target_share=shares)
    counts = drawn_bins(PatchSampler(scans, rule, seed=3), scans, EDGES_MM)
    assert counts.sum() == 4000
    assert chisquare(counts, 4000 * np.array(shares)).pvalue > 0.01


def test_copies_multiply_the_natural_share() -> None:
    scans = scans_of_diameters()
    rule = SamplingRule(6000, negative_share=0.0, edges_mm=(10.0,), copies=(4, 2))
    natural = np.bincount(np.concatenate(scans) >= 10, minlength=2) * (4, 2)
    counts = drawn_bins(PatchSampler(scans, rule, seed=0), scans, (10.0,))
    assert chisquare(counts, natural / natural.sum() * 6000).pvalue > 0.01


def test_within_a_bin_every_nodule_comes_equally_often() -> None:
    scans = scans_of_diameters()
    nodules = sum(len(scan) for scan in scans)
    sampler = PatchSampler(scans, SamplingRule(3 * nodules, negative_share=0.0), seed=1)
    _, counts = np.unique([(draw.scan_index, draw.finding_index) for draw in sampler], axis=0, return_counts=True)
    assert counts.tolist() == [3] * nodules


def test_a_bin_without_nodules_gives_its_share_away() -> None:
    rule = SamplingRule(8, edges_mm=EDGES_MM, target_share=(0.25, 0.25, 0.25, 0.25))
    assert draw_probability(np.array([4.0, 7.0, 8.0]), rule).tolist() == [0.5, 0.25, 0.25]


def test_a_bin_without_copies_is_never_drawn() -> None:
    rule = SamplingRule(500, negative_share=0.0, edges_mm=(5.0,), copies=(0, 1))
    sampler = PatchSampler([np.array([4.0, 6.0, 3.0])], rule, seed=0)
    assert {draw.finding_index for draw in sampler} == {1}


def test_negatives_come_from_all_scans_also_from_those_without_nodules() -> None:
    scans = scans_of_diameters()
    negatives = [
        draw for draw in PatchSampler(scans, SamplingRule(2000, negative_share=0.5), 0) if draw.finding_index == -1
    ]
    assert len(negatives) == 1000
    assert {draw.scan_index for draw in negatives} == set(range(len(scans)))


def test_scans_without_any_nodule_can_be_sampled() -> None:
    draws = list(PatchSampler([np.zeros(0), np.zeros(0)], SamplingRule(10, negative_share=0.1), 0))
    assert len(draws) == 10
    assert all(draw.finding_index == -1 for draw in draws)


def test_an_epoch_is_a_pure_function_of_seed_and_number() -> None:
    scans = scans_of_diameters()

    def epoch(seed: int, number: int) -> list[PatchDraw]:
        sampler = PatchSampler(scans, SamplingRule(64), seed)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(0, 5) == epoch(0, 5)
    assert epoch(0, 5) != epoch(0, 6)
    assert epoch(0, 5) != epoch(1, 5)
    assert len({draw.seed for draw in epoch(0, 5)}) == 64


def test_ranks_share_the_epoch_without_overlap() -> None:
    scans = scans_of_diameters()
    rule = SamplingRule(101)
    whole = list(PatchSampler(scans, rule, 0))
    ranks = [list(PatchSampler(scans, rule, 0, rank, 3)) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [33, 33, 33]
    assert [draw for together in zip(*ranks, strict=True) for draw in together] == whole[:99]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"patches_per_epoch": 0}, "patches_per_epoch"),
        ({"patches_per_epoch": 9, "negative_share": 1.5}, "negative_share"),
        ({"patches_per_epoch": 9, "edges_mm": (10.0, 5.0)}, "rise"),
        ({"patches_per_epoch": 9, "edges_mm": (10.0,), "copies": (1,)}, "2 numbers"),
        ({"patches_per_epoch": 9, "copies": (0,)}, "1 numbers"),
        ({"patches_per_epoch": 9, "copies": (1,), "target_share": (1,)}, "not both"),
    ],
)
def test_bad_rules_are_refused(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SamplingRule(**arguments)  # type: ignore[arg-type]
