"""Each epoch is drawn by the rule of its stage, and all are as long; what mining found comes back."""

from collections import Counter

import numpy as np
import pytest

from nodule_lightning.data.bank import Bank
from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.curriculum_sampler import CurriculumSampler
from nodule_lightning.data.sampler import PatchDraw, PatchDraws, SamplingRule
from nodule_lightning.losses.hard_mining import HardMiningLoss

SCANS = [np.array([4.0, 6.0, 12.0]), np.zeros(0), np.array([8.0])]
RULES = (
    SamplingRule(negative_share=0.0),
    SamplingRule(negative_share=0.5, edges_mm=(5.0,), copies=(4, 1)),
    SamplingRule(negative_share=1.0),
)


def curriculum(*rules: SamplingRule) -> Curriculum:
    return Curriculum({str(place): Stage(2, HardMiningLoss(), rule) for place, rule in enumerate(rules)})


def test_every_epoch_is_as_long_as_the_longest_pass() -> None:
    sampler = CurriculumSampler(SCANS, curriculum(*RULES), seed=0, world_size=2, batch_size=3)
    passes = [PatchDraws(SCANS, rule, 0, whole=6).patches for rule in RULES]
    # Four nodules; (4 + 3) copies and as many negatives; three scans: rounded up to whole batches of both ranks.
    assert passes == [6, 18, 6]
    for epoch in range(7):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler) == 9


def test_each_epoch_follows_the_rule_of_its_stage() -> None:
    sampler = CurriculumSampler(SCANS, curriculum(*RULES), seed=0)
    shares = []
    for epoch in range(7):
        sampler.set_epoch(epoch)
        shares.append(np.mean([draw.finding_index < 0 for draw in sampler]))
    assert shares == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0]


def test_one_stage_draws_what_its_rule_alone_does() -> None:
    alone = PatchDraws(SCANS, SamplingRule(40), 3, whole=2)
    sampler = CurriculumSampler(SCANS, curriculum(SamplingRule(40)), 3, 1, 2)
    for epoch in (0, 5):
        sampler.set_epoch(epoch)
        assert list(sampler) == alone.of_epoch(epoch)[1::2]


def test_an_epoch_is_a_pure_function_of_seed_and_number() -> None:
    def epoch(seed: int, number: int) -> list[PatchDraw]:
        sampler = CurriculumSampler(SCANS, curriculum(SamplingRule(64)), seed)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(0, 5) == epoch(0, 5)
    assert epoch(0, 5) != epoch(0, 6)
    assert epoch(0, 5) != epoch(1, 5)
    assert len({draw.seed for draw in epoch(0, 5)}) == 64


def test_ranks_share_the_epoch_without_overlap() -> None:
    rule = SamplingRule(101)
    whole = list(CurriculumSampler(SCANS, curriculum(rule), 0))
    ranks = [list(CurriculumSampler(SCANS, curriculum(rule), 0, rank, 3)) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [33, 33, 33]
    assert [draw for together in zip(*ranks, strict=True) for draw in together] == whole[:99]


def test_ranks_draw_every_nodule_in_whole_batches() -> None:
    rule = SamplingRule(negative_share=0.3)
    ranks = [CurriculumSampler(SCANS, curriculum(rule), 0, rank, 3, batch_size=8) for rank in range(3)]
    assert {len(rank) % 8 for rank in ranks} == {0}
    drawn = {(draw.scan_index, draw.finding_index) for rank in ranks for draw in rank if draw.finding_index >= 0}
    assert len(drawn) == sum(map(len, SCANS))


def test_the_sizes_told_are_those_cut() -> None:
    """Of 40 draws in batches of 16 the last 8 are not cut."""
    sampler = CurriculumSampler(SCANS, curriculum(SamplingRule(40)), 0, batch_size=16)
    expected = [SCANS[draw.scan_index][draw.finding_index] for draw in list(sampler)[:32] if draw.finding_index >= 0]
    assert sampler.drawn_mm(0).tolist() == expected


def test_the_longest_rule_may_be_a_number() -> None:
    rules = (SamplingRule(12), SamplingRule(30))
    assert CurriculumSampler(SCANS, curriculum(*rules), seed=0).patches == 30


def mined(replay_share: float = 0.0, bank_share: float = 0.0, rank: int = 0, world_size: int = 1) -> CurriculumSampler:
    rule = SamplingRule(negative_share=0.5)
    stage = Stage(9, HardMiningLoss(), rule, replay_share=replay_share, bank_share=bank_share)
    scans = [np.array([4.0, 6.0, 12.0]) for _ in range(20)]
    return CurriculumSampler(scans, Curriculum({"only": stage}), 0, rank, world_size, batch_size=4)


HARDEST = [PatchDraw(0, place, 1000 + place) for place in range(90)]
PLACES = Bank(np.arange(30), np.arange(90.0).reshape(30, 3), np.full(30, 0.5), np.ones(30, np.int64))


def test_a_share_of_the_draws_comes_back_on_top_of_a_whole_pass() -> None:
    sampler = mined(replay_share=0.25)
    assert sampler.patches == 160
    assert Counter(draw.finding_index >= 0 for draw in sampler.draw_epoch(3)) == {True: 80, False: 80}
    sampler.hardest = HARDEST
    draws = sampler.draw_epoch(3)
    assert len(draws) == 160
    back = [draw for draw in draws if draw.seed in range(1000, 1090)]
    assert sorted(draw.seed for draw in back) == list(range(1000, 1040))
    # Every nodule still comes, and those that come back are spread over the epoch.
    fresh = {(draw.scan_index, draw.finding_index) for draw in draws if draw not in back and draw.finding_index >= 0}
    assert len(fresh) == 60
    first_half = sum(draw in back for draw in draws[:80])
    assert 10 < first_half < 30


def test_a_share_of_the_negatives_is_of_the_bank() -> None:
    sampler = mined(bank_share=0.25)
    before = sampler.draw_epoch(0)
    assert all(draw.place_zyx is None for draw in before)
    sampler.bank = PLACES
    after = sampler.draw_epoch(0)
    shown = [draw for draw in after if draw.place_zyx is not None]
    assert len(shown) == round(0.25 * 60)
    # Enough places are there, so that none comes twice; each is of its own scan and of no nodule.
    assert len({draw.place_zyx for draw in shown}) == len(shown)
    for draw in shown:
        assert draw.place_zyx == tuple(PLACES.place_zyx[draw.scan_index])
        assert draw.finding_index == -1
    # The nodules' draws are what they were.
    assert [draw for draw in after if draw.finding_index >= 0] == [draw for draw in before if draw.finding_index >= 0]


def test_a_small_bank_is_drawn_several_times_by_its_chances() -> None:
    sampler = mined(bank_share=1.0)
    sampler.bank = Bank(np.array([3, 5]), np.ones((2, 3)), np.array([0.9, 0.1]), np.array([1, 1]))
    drawn = Counter(draw.scan_index for epoch in range(9) for draw in sampler.draw_epoch(epoch) if draw.place_zyx)
    assert drawn[3] + drawn[5] == 9 * 60
    assert drawn[3] / (9 * 60) == pytest.approx(0.9, abs=0.05)


def test_ranks_share_the_mined_draws() -> None:
    ranks = [mined(0.25, 0.5, rank, 2) for rank in range(2)]
    for sampler in ranks:
        sampler.hardest, sampler.bank = HARDEST, PLACES
    whole = ranks[0].draw_epoch(2)
    for rank, sampler in enumerate(ranks):
        sampler.set_epoch(2)
        assert list(sampler) == whole[rank::2]
        assert sampler.drawn == whole
