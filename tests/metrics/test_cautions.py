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
    ("candidates", "nodules", "scan_ids", "words"),
    [
        (no_marks(), no_findings(), [], "The list of scans is empty"),
        (marks("a"), no_findings(), ["a"], "No scan of the list holds a nodule"),
        (marks("a", "x", "x"), findings("a"), ["a"], "2 marks of 1 scans that are not in the list"),
        (marks("a"), findings("a", "x"), ["a"], "1 nodules of 1 scans that are not in the list"),
        (marks("56"), findings("056"), ["056"], "56 looks like 056 of the list"),
        (marks("a"), findings("a", "x", "y"), ["a"], "2 of 3 annotated scans are not in the list"),
        (marks("a"), findings("a"), list("abcdef"), "None of the 5 scans without a nodule has a mark"),
        (marks("a"), findings(*"abcdef"), list("abcdef"), "5 of 6 scans have no mark at all, 5 of them with nodules"),
    ],
)
def test_what_changes_the_score_is_said(
    candidates: Table[Candidates], nodules: Table[Findings], scan_ids: list[str], words: str
) -> None:
    said = warnings(candidates, nodules, findings("a"), scan_ids)
    assert any(words in sentence for sentence in said), said


@pytest.mark.parametrize(
    ("excluded", "words"),
    [
        (findings("x", "y"), "None of the 2 excluded findings is in a scan of the list"),
        (findings("56", "057"), "56 looks like 056 of the list"),
        (findings("056"), "1 of the 1 nodules are in the list of excluded findings as well"),
    ],
)
def test_a_list_of_excluded_findings_that_does_not_fit_is_told(excluded: Table[Findings], words: str) -> None:
    [said] = warnings(marks("056", "057"), findings("056"), excluded, ["056", "057"])
    assert words in said


def test_a_list_of_scans_with_nodules_alone_is_told() -> None:
    ids = [f"{number:03}" for number in range(20)]
    away = Table(np.array(["000"]), Findings(np.full((1, 3), 50.0), np.full(1, 6.0)))
    [said] = warnings(marks(*ids), findings(*ids), away, ids)
    assert said.startswith("Each of the 20 scans of the list holds a nodule")
    assert warnings(marks(*ids), findings(*ids[1:]), away, ids) == ()


def test_an_empty_list_of_excluded_findings_is_not_called_a_missing_one() -> None:
    [missing] = warnings(marks("a"), findings("a"), None, ["a"])
    [empty] = warnings(marks("a"), findings("a"), no_findings(), ["a"])
    assert missing.startswith("No list of excluded findings was given")
    assert "annotations_excluded.csv" in missing
    assert empty.startswith("The list of excluded findings is empty")
    assert "given" not in empty
    assert "LUNA16" not in empty


def test_a_file_joined_to_itself_is_said() -> None:
    two = Candidates(np.array([[1.0, 2, 3], [1.0, 2, 4]]), np.array([0.5, 0.6]), -np.ones(2))
    once = Table(np.array(["b", "b"]), two)
    twice = Table(np.array(["b", "x", "b", "b", "x", "a"]), Candidates.concatenate([two, two, two]))
    assert warnings(once, findings("a"), findings("b"), ["a", "b"]) == ()
    said = warnings(twice, findings("a", "b", "a", "a"), findings("b", "b"), ["a", "b"])
    [marked, annotated] = [sentence for sentence in said if "stand at the very place of another" in sentence]
    assert marked.startswith("1 marks stand")
    assert "such as in scan b" in marked
    assert annotated.startswith("2 nodules stand")


def test_tianchi_needs_no_excluded_list() -> None:
    assert froc(marks("a"), findings("a"), None, ["a"], protocol=Protocol.TIANCHI, bootstraps=0).warnings == ()
    with pytest.raises(InputError, match="Tianchi has no list of excluded findings"):
        froc(marks("a"), findings("a"), findings("a"), ["a"], protocol=Protocol.TIANCHI)
