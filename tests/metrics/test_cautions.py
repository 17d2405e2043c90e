"""Warnings about input that changes the score without an error: when each is given, and the values it names."""

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import Protocol, froc
from nodule_lightning.structures import Candidates, Findings, Table
from tests.metrics.cases import no_findings, no_marks


def marks(*scan_ids: str) -> Table[Candidates]:
    number = len(scan_ids)
    return Table(
        np.array(scan_ids, dtype=np.str_), Candidates(np.zeros((number, 3)), np.ones(number), -np.ones(number))
    )


def findings(*scan_ids: str) -> Table[Findings]:
    number = len(scan_ids)
    return Table(np.array(scan_ids, dtype=np.str_), Findings(np.zeros((number, 3)), np.full(number, 6.0)))


def warnings(
    candidates: Table[Candidates], nodules: Table[Findings], excluded: Table[Findings] | None, scan_ids: list[str]
) -> tuple[str, ...]:
    return froc(candidates, nodules, excluded, scan_ids, bootstraps=0).warnings


def test_a_fair_comparison_has_no_warning() -> None:
    assert warnings(marks("a", "b"), findings("a"), findings("b"), ["a", "b"]) == ()


@pytest.mark.parametrize(
    ("candidates", "nodules", "scan_ids", "named"),
    [
        (no_marks(), no_findings(), [], ["list of scans"]),
        (marks("a"), no_findings(), ["a"], ["nodule", "0"]),
        (marks("a", "x", "x"), findings("a"), ["a"], ["2 marks", "1 scans", "such as x"]),
        (marks("a"), findings("a", "x"), ["a"], ["1 nodules", "1 scans", "such as x"]),
        (marks("56"), findings("056"), ["056"], ["1 marks", "56", "056"]),
        (marks("a"), findings("a", "x", "y"), ["a"], ["2 of 3", "LUNA16"]),
        (marks("a"), findings("a"), list("abcdef"), ["5 scans"]),
        (marks("a"), findings(*"abcdef"), list("abcdef"), ["5 of 6 scans", "5 of them"]),
    ],
)
def test_what_changes_the_score_gives_a_warning(
    candidates: Table[Candidates], nodules: Table[Findings], scan_ids: list[str], named: list[str]
) -> None:
    given = warnings(candidates, nodules, findings("a"), scan_ids)
    assert any(all(value in sentence for value in named) for sentence in given), given


@pytest.mark.parametrize(
    ("excluded", "named"),
    [
        (findings("x", "y"), ["2 excluded findings", "such as x"]),
        (findings("56", "057"), ["56", "056"]),
        (findings("056"), ["1 of the 1 nodules"]),
    ],
)
def test_a_list_of_excluded_findings_that_does_not_fit_gives_a_warning(
    excluded: Table[Findings], named: list[str]
) -> None:
    [given] = warnings(marks("056", "057"), findings("056"), excluded, ["056", "057"])
    assert all(value in given for value in named), given


def test_a_list_of_only_scans_with_nodules_gives_a_warning() -> None:
    ids = [f"{number:03}" for number in range(20)]
    away = Table(np.array(["000"]), Findings(np.full((1, 3), 50.0), np.full(1, 6.0)))
    [given] = warnings(marks(*ids), findings(*ids), away, ids)
    assert "20" in given
    assert warnings(marks(*ids), findings(*ids[1:]), away, ids) == ()


def test_an_empty_list_of_excluded_findings_is_not_called_a_missing_one() -> None:
    [missing] = warnings(marks("a"), findings("a"), None, ["a"])
    [empty] = warnings(marks("a"), findings("a"), no_findings(), ["a"])
    assert "annotations_excluded.csv" in missing
    assert "given" not in empty
    assert "LUNA16" not in empty


def test_a_file_appended_to_itself_gives_a_warning() -> None:
    two = Candidates(np.array([[1.0, 2, 3], [1.0, 2, 4]]), np.array([0.5, 0.6]), -np.ones(2))
    once = Table(np.array(["b", "b"]), two)
    twice = Table(np.array(["b", "x", "b", "b", "x", "a"]), Candidates.concatenate([two, two, two]))
    assert warnings(once, findings("a"), findings("b"), ["a", "b"]) == ()
    said = warnings(twice, findings("a", "b", "a", "a"), findings("b", "b"), ["a", "b"])
    [marked] = [sentence for sentence in said if "1 marks" in sentence]
    assert "scan b" in marked
    assert any("2 nodules" in sentence for sentence in said)


def test_tianchi_needs_no_excluded_list() -> None:
    assert froc(marks("a"), findings("a"), None, ["a"], protocol=Protocol.TIANCHI, bootstraps=0).warnings == ()
    with pytest.raises(InputError) as error:
        froc(marks("a"), findings("a"), findings("a"), ["a"], protocol=Protocol.TIANCHI)
    assert error.value.key == "argument-conflict"
