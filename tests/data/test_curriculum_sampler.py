"""Each epoch is drawn by the rule of its stage, and all are as long."""

import numpy as np

from nodule_lightning.curriculum import Curriculum, Stage
from nodule_lightning.data.curriculum_sampler import CurriculumSampler
from nodule_lightning.data.sampler import PatchSampler, SamplingRule
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
    passes = [PatchSampler(SCANS, rule, 0, 0, 2, 3).patches for rule in RULES]
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
    alone = PatchSampler(SCANS, SamplingRule(40), 3, 1, 2)
    sampler = CurriculumSampler(SCANS, curriculum(SamplingRule(40)), 3, 1, 2)
    for epoch in (0, 5):
        alone.set_epoch(epoch)
        sampler.set_epoch(epoch)
        assert list(sampler) == list(alone)


def test_the_longest_rule_may_be_a_number() -> None:
    rules = (SamplingRule(12), SamplingRule(30))
    assert CurriculumSampler(SCANS, curriculum(*rules), seed=0).patches == 30
