"""nodule-leaderboard on files with odd paths, and on what nodule-predict has written."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from nodule_lightning.cli import leaderboard, predict
from nodule_lightning.io.tables import read_scan_ids
from tests.commands import Runner

HEADER = "seriesuid,coordX,coordY,coordZ,"


def write_inputs(folder: Path) -> list[str]:
    folder.mkdir()
    (folder / "good, [1].csv").write_text(HEADER + "probability\none,1,2,3,0.5\n")
    (folder / "poor=.csv").write_text(HEADER + "probability\none,90,2,3,0.5\n")
    (folder / "nodules=.csv").write_text(HEADER + "diameter_mm\none,1,2,3,9\n")
    (folder / "scans.csv").write_text("seriesuid\none\ntwo\n")
    return [
        f"submissions=['{folder / 'good, [1].csv'}','{folder / 'poor=.csv'}']",
        f"annotations={folder / 'nodules=.csv'}",
        f"excluded={folder / 'nodules=.csv'}",
        f"scans={folder / 'scans.csv'}",
        f"output={folder / 'board {肺}'}",
    ]


def test_odd_paths(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "My CT (1), 肺"
    ended = run(leaderboard.main, *write_inputs(folder), "bootstraps=20")
    assert ended.code == 0, ended.error
    assert "LUNA16 rules, 1 nodules in 2 scans" in ended.out
    assert ended.out.index("good, [1]") < ended.out.index("poor=")
    assert "by size" in ended.out
    with (folder / "board {肺}" / "leaderboard.csv").open(encoding="utf-8") as file:
        assert [row["submission"] for row in csv.DictReader(file) if row["size"] == "all"] == ["good, [1]", "poor="]


def test_runs_of_nodule_predict(run: Runner, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "nodules.csv").write_text(HEADER + "diameter_mm\none,1,2,3,9\n")
    for name in ("first", "second"):
        ended = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"output={tmp_path / 'outputs' / name}")
        assert ended.code == 0, ended.error
    assert read_scan_ids(tmp_path / "outputs" / "first" / "scans.csv") == ["one", "three", "two"]
    given = [f"annotations={tmp_path / 'nodules.csv'}", "protocol=tianchi", "output=out", "bootstraps=10"]
    ended = run(leaderboard.main, f"runs={tmp_path / 'outputs'}", *given)
    assert ended.code == 0, ended.error
    assert "1 nodules in 3 scans" in ended.out
    assert "1.000" in ended.out

    # A run over fewer scans cannot stand beside them, unless those are named.
    (tmp_path / "some.csv").write_text("seriesuid\none\ntwo\n")
    run(
        predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"scans={tmp_path / 'some.csv'}",
        f"output={tmp_path / 'outputs' / 'third'}",
    )  # fmt: skip
    refused = run(leaderboard.main, f"runs={tmp_path / 'outputs'}", *given)
    assert refused.key == "argument-missing"
    for named in ("first 3", "third 2", "scans="):
        assert named in refused.line()
    ended = run(leaderboard.main, f"runs={tmp_path / 'outputs'}", f"scans={tmp_path / 'some.csv'}", *given)
    assert ended.code == 0, ended.error
    assert "1 nodules in 2 scans" in ended.out
    assert "third" in ended.out
    (tmp_path / "all.csv").write_text("seriesuid\none\nthree\ntwo\n")
    ended = run(leaderboard.main, f"runs={tmp_path / 'outputs'}", f"scans={tmp_path / 'all.csv'}", *given)
    assert ended.code == 0, ended.error
    board = json.loads(Path("out/leaderboard.json").read_text(encoding="utf-8"))
    assert [standing["submission"] for standing in board["standings"]] == ["first", "second"]
    [left_out] = [warning for warning in board["warnings"] if "third" in warning]
    assert "three" in left_out
    assert left_out in " ".join(ended.out.split())


def test_files_or_runs_but_not_both(run: Runner, tmp_path: Path) -> None:
    submissions, *others = write_inputs(tmp_path / "x")
    for given in ([submissions, "runs=outputs"], []):
        ended = run(leaderboard.main, *given, *others)
        assert ended.key == "argument-conflict"
        for named in ("submissions=", "runs="):
            assert named in ended.line()
    twice = f"submissions=[{tmp_path / 'x' / 'poor=.csv'},{tmp_path / 'x' / 'poor=.csv'}]"
    ended = run(leaderboard.main, twice, *others)
    assert ended.key == "argument-invalid"
    assert "poor=.csv" in ended.line()
    ended = run(leaderboard.main, "runs=gone", *others)
    assert ended.key == "file-missing"
    assert "gone" in ended.line()


def test_neither_torch_nor_wandb_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from nodule_lightning.cli.leaderboard import main; main();"
        "print(sorted({name.split('.')[0] for name in sys.modules}"
        " & {'torch', 'wandb', 'pytorch_lightning', 'lightning_fabric', 'SimpleITK', 'torchmetrics'}))"
    )
    command = [sys.executable, "-c", code, *write_inputs(tmp_path / "x")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
