"""The bank: what enters it, what survives a round, and that a checkpoint gives it back."""

import numpy as np
import pytest

from nodule_lightning.data.bank import Bank, false_positives
from nodule_lightning.structures import Candidates, Findings


def bank(rows: list[tuple[int, float, float, float, float, int]]) -> Bank:
    """Make one of (scan, z, y, x, score, rounds)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Bank(table[:, 0].astype(np.int64), table[:, 1:4], table[:, 4], table[:, 5].astype(np.int64))


def candidates(rows: list[tuple[float, float]]) -> Candidates:
    """Make one at each (x mm, probability)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    centre = np.stack([table[:, 0], np.zeros(len(table)), np.zeros(len(table))], axis=1)
    return Candidates(centre, table[:, 1], np.full(len(table), 5.0))


def findings(rows: list[tuple[float, float]]) -> Findings:
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    centre = np.stack([table[:, 0], np.zeros(len(table)), np.zeros(len(table))], axis=1)
    return Findings(centre, table[:, 1])


def test_only_what_lies_in_no_finding_is_a_false_positive() -> None:
    marks = candidates([(0.0, 0.9), (3.9, 0.9), (4.1, 0.5), (20.0, 0.8), (24.9, 0.7), (25.1, 0.6), (60.0, 0.05)])
    # A nodule of 8 mm, and an excluded finding whose reader gave no size: 10 mm by LUNA16's rules.
    wrong = false_positives(marks, findings([(0.0, 8.0)]), findings([(20.0, -1.0)]), 10, 0.1)
    assert wrong.centre_xyz_mm[:, 0].tolist() == [25.1, 4.1]


def test_the_surest_of_a_scan_are_kept() -> None:
    marks = candidates([(float(10 * place), 0.2 + place / 100) for place in range(50)])
    wrong = false_positives(marks, findings([]), findings([]), 3, 0.1)
    assert wrong.probability.tolist() == pytest.approx([0.69, 0.68, 0.67])


def test_a_scan_without_candidates_gives_none() -> None:
    assert len(false_positives(Candidates.empty(), findings([]), findings([]), 3, 0.1)) == 0
    assert len(false_positives(candidates([(0.0, 0.5)]), findings([(0.0, 8.0)]), findings([]), 3, 0.1)) == 0


def test_what_is_found_again_has_survived() -> None:
    former = bank([(0, 10, 10, 10, 0.9, 2), (0, 30, 10, 10, 0.9, 1), (2, 10, 10, 10, 0.9, 5)])
    found = bank([(0, 12, 11, 10, 0.5, 1), (0, 35.5, 10, 10, 0.5, 1), (1, 10, 10, 10, 0.5, 1), (2, 10, 10, 10, 0.5, 1)])
    after = found.after(former)
    # Within 5 voxels of the same scan; the second is 5.5 away, and the third scan's place is another scan's.
    assert after.rounds.tolist() == [3, 1, 1, 6]
    assert len(former.after(Bank.empty())) == 3
    assert len(Bank.empty().after(former)) == 0


def test_survivors_and_the_surest_are_drawn_most() -> None:
    assert bank([(0, 1, 1, 1, 0.5, 1), (0, 9, 9, 9, 0.5, 2), (1, 1, 1, 1, 0.25, 2)]).chances().tolist() == [
        0.25, 0.5, 0.25
    ]  # fmt: skip


def test_ranks_make_one_bank_in_the_order_of_the_scans() -> None:
    joined = Bank.concatenate([bank([(0, 1, 2, 3, 0.5, 1), (2, 4, 5, 6, 0.6, 1)]), bank([(1, 7, 8, 9, 0.7, 1)])])
    assert joined.scan_index.tolist() == [0, 1, 2]
    assert joined.place_zyx[:, 2].tolist() == [3, 9, 6]
    assert len(Bank.concatenate([])) == 0


@pytest.mark.parametrize("rows", [[], [(3, 1.5, 2, 3, 0.5, 4)]])
def test_a_checkpoint_gives_it_back(rows: list[tuple[int, float, float, float, float, int]]) -> None:
    there = bank(rows)
    back = Bank.from_state(there.to_state())
    for name in ("scan_index", "place_zyx", "score", "rounds"):
        assert np.array_equal(getattr(back, name), getattr(there, name))
