"""Fusion of the marks of several members, against a reference that handles one mark at a time."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.ensemble.fusion import fuse
from nodule_lightning.ensemble.members import Member
from nodule_lightning.errors import InputError
from nodule_lightning.structures import Candidates, Table
from tests.ensemble.naive_fusion import naive_fusion

Row = tuple[str, float, float, float, float, float]


def table(rows: Sequence[Row]) -> Table[Candidates]:
    numbers = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 5)
    scan_id = np.array([row[0] for row in rows], dtype=np.str_)
    return Table(scan_id, Candidates(numbers[:, :3], numbers[:, 3], numbers[:, 4]))


def rows_of(marks: Table[Candidates]) -> list[Row]:
    columns = np.column_stack([marks.rows.centre_xyz_mm, marks.rows.probability, marks.rows.diameter_mm])
    return [(str(scan_id), *row) for scan_id, row in zip(marks.scan_id, columns.tolist(), strict=True)]


def content(marks: Table[Candidates]) -> tuple[object, ...]:
    rows = marks.rows
    arrays = (rows.centre_xyz_mm, rows.probability, rows.diameter_mm)
    return marks.scan_id.tolist(), *(array.tobytes() for array in arrays)


def member(name: str, *rows: tuple[str, float, float], diameter: float = 10.0, searched: str | None = None) -> Member:
    """Make a member from (scan, x, probability)."""
    marks = table([(scan_id, x, 0.0, 0.0, probability, diameter) for scan_id, x, probability in rows])
    return Member(name, marks, None if searched is None else frozenset(searched))


# A coarse lattice of numbers without rounding, so that ties and exact radii abound and are the same in any formula.
places = st.integers(0, 9).map(lambda step: step * 1.25)
mark_rows = st.tuples(
    st.sampled_from("abc"), places, places, st.sampled_from([0.0, 2.0]),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.sampled_from([-1.0, 4.0, 10.0, 30.0]),
)  # fmt: skip
searches = st.one_of(st.none(), st.frozensets(st.sampled_from("abcd")))
some_members = st.lists(
    st.tuples(st.lists(mark_rows, max_size=14), searches), min_size=1, max_size=5
).map(lambda given: [Member(f"m{place}", table(rows), scans) for place, (rows, scans) in enumerate(given)])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(some_members, st.lists(st.sampled_from([0.0, 0.3, 1.0, 7.0]), min_size=5, max_size=5), st.data())
def test_fusion_equals_the_reference(members: list[Member], weights: list[float], data: st.DataObject) -> None:
    weights = [*weights[: len(members) - 1], 0.6]
    agree = data.draw(st.one_of(st.none(), st.integers(0, sum(map(bool, weights)))))
    fused = sorted(rows_of(fuse(members, weights, agree)))
    expected = sorted(naive_fusion(members, weights, agree))
    # Sorted by centres that differ in their last digit at most: the rows may stand in another order.
    assert [row[0] for row in fused] == [row[0] for row in expected]
    key = [[round(value, 6) for value in row[1:]] for row in fused]
    other = [[round(value, 6) for value in row[1:]] for row in expected]
    np.testing.assert_allclose(
        np.array(sorted(key)).reshape(-1, 5), np.array(sorted(other)).reshape(-1, 5), rtol=0, atol=2e-6
    )


@settings(max_examples=50, deadline=None)
@given(some_members, st.randoms(use_true_random=False), st.sampled_from([None, 0, 1]))
def test_the_order_of_members_and_rows_changes_no_bit(members: list[Member], random: object, agree: int | None) -> None:
    weights = [1.0 + place for place in range(len(members))]
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    order = rng.permutation(len(members)).tolist()
    shuffled = [
        Member(members[place].name, members[place].marks[rng.permutation(len(members[place].marks))],
               members[place].searched)
        for place in order
    ]  # fmt: skip
    first = fuse(members, weights, agree)
    assert content(fuse(shuffled, [weights[place] for place in order], agree)) == content(first)


@settings(max_examples=50, deadline=None)
@given(st.lists(mark_rows, max_size=30), searches, st.sampled_from([0.1, 1.0, 3.0]), st.sampled_from([None, 0, 1]))
def test_one_member_gives_itself_back(
    rows: list[Row], searched: frozenset[str] | None, weight: float, agree: int | None
) -> None:
    fused = fuse([Member("alone", table(rows), searched)], [weight], agree)
    assert sorted(rows_of(fused)) == sorted(rows)
    silent = Member("silent", table([]), frozenset())
    assert sorted(rows_of(fuse([Member("alone", table(rows), searched), silent], [weight, 5.0], agree))) == sorted(rows)


def test_a_member_without_the_mark_counts_as_zero_where_it_searched() -> None:
    members = [
        member("one", ("a", 0, 0.9), ("b", 0, 0.8)),
        member("two", ("a", 2, 0.3), searched="a"),
        member("none"),
    ]
    fused = rows_of(fuse(members, [1, 1, 2]))
    # The second did not search b, the third found nothing there.
    assert [row[0] for row in fused] == ["a", "b"]
    assert [row[4] for row in fused] == [pytest.approx(1.2 / 4), pytest.approx(0.8 / 3)]
    assert [row[1] for row in fused] == [pytest.approx(0.5), 0.0]
    assert [row[5] for row in fused] == [10.0, 10.0]
    assert fused == rows_of(fuse(members, [10, 10, 20]))


def test_marks_lie_strictly_within_each_others_radius() -> None:
    def fused(x: float, first: float, second: float) -> int:
        return len(
            fuse([member("a", ("s", 0, 0.9), diameter=first), member("b", ("s", x, 0.8), diameter=second)], [1, 1])
        )

    assert fused(4.9, 10, 10) == 1
    assert fused(5.0, 10, 10) == 2
    assert fused(4.9, 30, 9) == 2
    assert fused(4.9, -1, 30) == 1
    assert fused(5.0, -1, 30) == 2


def test_marks_of_one_member_never_fuse() -> None:
    fused = fuse([member("a", ("s", 0, 0.9), ("s", 1, 0.8)), member("b", ("s", 0.4, 0.7))], [1, 1])
    # The most probable mark takes the other member's; the second of the same member stays.
    assert [row[4] for row in rows_of(fused)] == [pytest.approx(0.8), pytest.approx(0.4)]


def test_the_leader_takes_the_nearest_and_the_rest_goes_to_the_next() -> None:
    fused = fuse([member("a", ("s", 0, 0.9), ("s", 3, 0.8)), member("b", ("s", 1, 0.5), ("s", 2, 0.6))], [1, 1])
    assert [row[4] for row in rows_of(fused)] == [pytest.approx(0.7), pytest.approx(0.7)]
    assert [row[1] for row in rows_of(fused)] == [pytest.approx(0.5 / 1.4), pytest.approx(3.6 / 1.4)]


def test_consensus_counts_members_and_averages_those_that_agree() -> None:
    members = [
        member("one", ("a", 0, 0.9), ("a", 50, 0.9)),
        member("two", ("a", 1, 0.6), ("a", 80, 0.4)),
        member("three", ("a", 81, 0.2), ("b", 0, 0.5), searched="ab"),
        member("four", searched="a"),
    ]
    assert [row[4] for row in rows_of(fuse(members, [1, 1, 1, 1], 2))] == [pytest.approx(0.75), pytest.approx(0.3)]
    # Half of four is no majority; b was searched by three, of whom one is none either.
    assert rows_of(fuse(members, [1, 1, 1, 1], 0)) == []
    # All must agree where fewer than wanted have searched.
    alone = [member("one", ("b", 0, 0.5)), member("two", ("a", 0, 0.5), searched="a")]
    assert [row[0] for row in rows_of(fuse(alone, [1, 1], 2))] == ["b"]


def test_a_weight_of_zero_leaves_a_member_out() -> None:
    members = [member("one", ("a", 0, 0.9)), member("two", ("a", 1, 0.6), ("b", 0, 0.1))]
    assert rows_of(fuse(members, [1, 0])) == rows_of(members[0].marks)


def test_nothing_found_gives_an_empty_table() -> None:
    for members in ([member("one")], [member("one"), member("two", searched="a")]):
        for agree in (None, 0):
            assert rows_of(fuse(members, [1.0] * len(members), agree)) == []


@pytest.mark.parametrize(
    ("weights", "agree", "named"),
    [
        ([1], None, "1 weights"),
        ([1, -1], None, "[1.0, -1.0]"),
        ([0, 0], None, "[0.0, 0.0]"),
        ([1, float("nan")], None, "[1.0, nan]"),
        ([1, 1], 3, "agree=3"),
        ([1, 0], 2, "agree=2"),
    ],
)
def test_what_cannot_be_fused_is_refused(weights: list[float], agree: int | None, named: str) -> None:
    with pytest.raises(InputError) as error:
        fuse([member("one"), member("two")], weights, agree)
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)
