"""Ranking of submission files: outputs, warnings and refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.leaderboard import Leaderboard, rank_submissions
from nodule_lightning.io.tables import read_candidates, write_candidates
from nodule_lightning.metrics.functional import FrocResult, Protocol
from nodule_lightning.report import froc_figure
from nodule_lightning.report.canvas import new_figure
from nodule_lightning.structures import Candidates, Table

HEADER = "seriesuid,coordX,coordY,coordZ,"
FILES = ["changed_nodules.csv", "leaderboard.csv", "leaderboard.json", "leaderboard.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in {
        "good": "a,0,0,0,0.9\nb,0,0,0,0.8\nb,60,0,0,0.1\n",
        "poor": "a,0,0,0,0.9\nb,60,0,0,0.8\nx,0,0,0,0.4\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(HEADER + "probability\n" + rows)
    (tmp_path / "annotations.csv").write_text(HEADER + "diameter_mm\na,0,0,0,4\nb,0,0,0,12\n")
    (tmp_path / "excluded.csv").write_text(HEADER + "diameter_mm\nb,0,50,0,6\n")
    (tmp_path / "scans.csv").write_text("a\nb\n")
    return tmp_path


def ranked(folder: Path, names: list[str], excluded: bool = True, scans: bool = True) -> Leaderboard:
    return rank_submissions(
        {name: folder / f"{name}.csv" for name in names},
        folder / "annotations.csv",
        folder / "excluded.csv" if excluded else None,
        [folder / "scans.csv"] if scans else [],
        folder / "out",
        bootstraps=20,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_the_ranking(folder: Path) -> None:
    board = ranked(folder, ["poor", "good"])
    assert sorted(path.name for path in (folder / "out").iterdir()) == FILES
    table = rows(folder / "out" / "leaderboard.csv")
    overall = [row for row in table if row["size"] == "all"]
    assert [(row["rank"], row["submission"], row["nodules"]) for row in overall] == [
        ("1", "good", "2"),
        ("2", "poor", "2"),
    ]
    assert overall[0]["mean"] == "1.0"
    assert overall[0]["p_value"] == ""
    assert 0 < float(overall[1]["p_value"]) <= 1
    assert float(overall[1]["low_95_percent"]) <= float(overall[1]["mean"]) <= float(overall[1]["high_95_percent"])
    assert [row["size"] for row in table if row["rank"] == "1"] == [
        "all", "3-5 mm", "5-6 mm", "6-10 mm", "10-20 mm", "20 mm and over", "3-10 mm", "10-30 mm"
    ]  # fmt: skip
    assert rows(folder / "out" / "changed_nodules.csv") == [
        {
            "submission": "poor", "change": "lost", "seriesuid": "b", "coordX": "0.0", "coordY": "0.0",
            "coordZ": "0.0", "diameter_mm": "12.0", "probability": "", "probability_of_best": "0.8",
        }
    ]  # fmt: skip
    written = json.loads((folder / "out" / "leaderboard.json").read_text(encoding="utf-8"))
    assert [standing["submission"] for standing in written["standings"]] == ["good", "poor"]
    assert written["standings"][1]["lost_at_1_fp_per_scan"] == 1
    assert written["standings"][1]["ratings"][0]["p_value"] == board.standings[1].overall.p_value
    assert "two-sided" in written["p_value"]


def test_the_picture_shows_the_best_under_their_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, FrocResult]] = []

    def draw_frocs(results: list[tuple[str, FrocResult]]) -> Figure:
        shown.extend(results)
        return new_figure(1, 1)

    monkeypatch.setattr(froc_figure, "draw_frocs", draw_frocs)
    for copy in range(8):
        (folder / f"copy{copy}.csv").write_bytes((folder / "poor.csv").read_bytes())
    board = ranked(folder, [*(f"copy{copy}" for copy in range(8)), "good"])
    assert [name for name, _ in shown] == ["good", *(f"copy{copy}" for copy in range(6))]
    for (name, result), standing in zip(shown, board.standings, strict=False):
        assert name == standing.name
        assert result.mean == pytest.approx(standing.overall.mean)
        assert result.interval == pytest.approx(standing.overall.interval)


def test_same_input_in_any_order_gives_same_bytes(folder: Path) -> None:
    ranked(folder, ["poor", "good"])
    before = {name: (folder / "out" / name).read_bytes() for name in FILES}
    ranked(folder, ["good", "poor"])
    assert {name: (folder / "out" / name).read_bytes() for name in FILES} == before


def test_a_warning_names_the_submissions_it_concerns(folder: Path) -> None:
    said = ranked(folder, ["poor", "good"], excluded=False).warnings
    [concerns_poor] = [sentence for sentence in said if sentence.startswith("poor: ")]
    assert "such as x" in concerns_poor
    [concerns_all] = set(said) - {concerns_poor}
    assert not concerns_all.startswith(("poor", "good"))
    assert "annotations_excluded.csv" in concerns_all
    assert ranked(folder, ["good"]).warnings == ()


def test_without_a_list_all_meet_the_scans_of_all(folder: Path) -> None:
    board = ranked(folder, ["poor", "good"], scans=False)
    assert board.scans == 3
    assert any("3 scans" in sentence for sentence in board.warnings)


def test_what_cannot_be_ranked_is_refused(folder: Path) -> None:
    (folder / "other.csv").write_text(HEADER + "probability\nelsewhere,0,0,0,0.9\n")
    with pytest.raises(InputError) as error:
        ranked(folder, ["good", "other"])
    assert error.value.key == "scan-unknown"
    assert str(folder / "other.csv") in str(error.value)
    files = (folder / "annotations.csv", folder / "excluded.csv")
    with pytest.raises(InputError) as error:
        rank_submissions({"good": folder / "good.csv"}, *files, [], folder / "out", protocol=Protocol.TIANCHI)
    assert error.value.key == "argument-conflict"
    assert not (folder / "out").exists()
    (folder / "out").write_text("mine")
    with pytest.raises(InputError) as error:
        ranked(folder, ["good"])
    assert str(folder / "out") in str(error.value)


@pytest.mark.real_data
def test_the_golden_submission_leads_its_blurred_copies(real_data: Path, tmp_path: Path) -> None:
    golden = read_candidates(real_data / "froc_golden" / "deeplung_dpn26.csv")
    rng = np.random.default_rng(0)
    odds = np.log(golden.rows.probability / (1 - golden.rows.probability))
    for name, noise in (("same", 0.0), ("blurred", 1.0)):
        probability = 1 / (1 + np.exp(-odds - noise * rng.standard_normal(len(golden))))
        order = rng.permutation(len(golden))
        table = Table(golden.scan_id, Candidates(golden.rows.centre_xyz_mm, probability, golden.rows.diameter_mm))
        write_candidates(tmp_path / f"{name}.csv", table[order] if noise else golden[order])
    luna = real_data / "luna16"
    board = rank_submissions(
        {"blurred": tmp_path / "blurred.csv", "same": tmp_path / "same.csv",
         "golden": real_data / "froc_golden" / "deeplung_dpn26.csv"},
        luna / "annotations.csv",
        luna / "annotations_excluded.csv",
        [luna / "seriesuids.csv"],
        tmp_path / "out",
        bootstraps=300,
    )  # fmt: skip
    first, same, blurred = board.standings
    assert (first.name, same.name, blurred.name) == ("golden", "same", "blurred")
    assert first.overall.mean == pytest.approx(0.841965791, abs=1e-6)
    assert first.overall.interval == pytest.approx((0.8116, 0.8679), abs=0.006)
    assert same.overall.p_value == 1.0
    assert blurred.overall.p_value is not None
    assert blurred.overall.p_value < 0.02
    assert len(blurred.lost) > len(blurred.gained) > 0
    assert board.warnings == ()
