"""Search for weights on held-out scans."""

import numpy as np
import pytest

from nodule_lightning.ensemble.fusion import fuse
from nodule_lightning.ensemble.members import Member
from nodule_lightning.ensemble.weight_search import Truth, search_weights
from nodule_lightning.errors import InputError
from nodule_lightning.structures import Candidates, Findings, Table

SCANS = [f"scan{place:02d}" for place in range(30)]


def world() -> tuple[list[Member], Truth]:
    """Draw nodules, two detectors that see them, and one that is sure of nothing but noise."""
    rng = np.random.default_rng(3)
    nodules = rng.uniform(-100, 100, (len(SCANS), 3))
    members = []
    for name, sees in (("noise", 0.0), ("good", 0.9), ("fair", 0.6)):
        seen = rng.random(len(SCANS)) < sees
        false = rng.uniform(-100, 100, (6 * len(SCANS), 3))
        scan_id = np.array([*np.array(SCANS)[seen], *np.repeat(SCANS, 6)])
        centre = np.concatenate([nodules[seen] + rng.normal(0, 1, (seen.sum(), 3)), false])
        probability = np.concatenate([rng.uniform(0.3, 1, seen.sum()), rng.uniform(0, 0.9, len(false))])
        members.append(Member(name, Table(scan_id, Candidates(centre, probability, np.full(len(scan_id), -1.0)))))
    findings = Table(np.array(SCANS), Findings(nodules, np.full(len(SCANS), 8.0)))
    return members, Truth(findings, None, SCANS)


def test_the_noisy_member_loses_its_weight() -> None:
    members, truth = world()
    found = search_weights(members, truth)
    assert found.score > found.equal_score + 0.02
    assert found.weights[0] < 0.25 < min(found.weights[1:])
    assert sum(found.weights) == pytest.approx(1)
    # What was found is the score of the very fusion that uses it.
    assert truth.score(fuse(members, found.weights)) == pytest.approx(found.score)
    assert truth.score(fuse(members, [1, 1, 1])) == pytest.approx(found.equal_score)


def test_the_same_seed_finds_the_same_in_any_order() -> None:
    members, truth = world()
    found, again = search_weights(members, truth, seed=5), search_weights(members[::-1], truth, seed=5)
    assert again.weights == found.weights[::-1]
    assert (again.score, again.tried) == (found.score, found.tried)


def test_it_searches_the_consensus_that_will_be_used() -> None:
    members, truth = world()
    found = search_weights(members, truth, agree=2)
    assert truth.score(fuse(members, found.weights, 2)) == pytest.approx(found.score)
    assert found.score != search_weights(members, truth).score


def test_one_member_has_all_the_weight() -> None:
    members, truth = world()
    found = search_weights(members[1:2], truth)
    assert found.weights == (1.0,)
    assert found.score == found.equal_score


def test_scans_without_a_nodule_tell_nothing() -> None:
    members, truth = world()
    with pytest.raises(InputError) as error:
        search_weights(members, Truth(truth.nodules, None, ["elsewhere"]))
    assert error.value.key == "annotations-missing"
