"""Tables: rows by scan, in any order; failures in one line."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nodule_lightning.errors import InputError
from nodule_lightning.structures import Candidates, Failure, Table


def test_a_failure_has_a_trace_only_for_an_unexpected_error() -> None:
    assert Failure.of("a", InputError("too short", "scan-invalid")) == Failure("a", "too short", key="scan-invalid")
    unexpected = Failure.of("a", ZeroDivisionError("by zero"))
    assert unexpected.reason == "ZeroDivisionError: by zero"
    assert "ZeroDivisionError" in unexpected.trace


@given(st.lists(st.sampled_from(["b", "a", "10", "9"]), max_size=12))
def test_rows_of_a_scan_keep_their_order(ids: list[str]) -> None:
    place = np.arange(len(ids), dtype=np.float64)
    table = Table(np.array(ids, dtype=np.str_), Candidates(np.tile(place[:, None], 3), place, -place))
    found = {scan_id: rows.probability.tolist() for scan_id, rows in table.by_scan().items()}
    assert found == {scan_id: [place for place, other in enumerate(ids) if other == scan_id] for scan_id in set(ids)}
    assert list(found) == sorted(found)


@given(st.lists(st.sampled_from(["b", "a", "10", "9"]), max_size=12), st.sets(st.sampled_from(["a", "9", "c"])))
def test_rows_in_some_scans(ids: list[str], wanted: set[str]) -> None:
    nothing = np.zeros(len(ids))
    table = Table(np.array(ids, dtype=np.str_), Candidates(np.zeros((len(ids), 3)), nothing, nothing))
    assert table.in_scans(wanted).tolist() == [scan_id in wanted for scan_id in ids]
    assert table[table.in_scans(wanted)].scan_id.tolist() == [scan_id for scan_id in ids if scan_id in wanted]


def test_scans_are_numbered_as_they_appear() -> None:
    table = Table(np.array([7, 3, 3, 7, 5]), Candidates(np.zeros((5, 3)), np.zeros(5), np.zeros(5)))
    ids, number = table.numbered()
    assert ids == [7, 3, 5]
    assert number.tolist() == [0, 1, 1, 0, 2]
