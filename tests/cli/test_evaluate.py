"""nodule-evaluate by itself: odd paths, the files it writes, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

from nodule_lightning.cli import evaluate
from tests.commands import Runner

FILES = {"metrics.json", "froc.csv", "froc.png", "misses.csv", "false_positives.csv"}
HEADER = "seriesuid,coordX,coordY,coordZ,"


def write_inputs(folder: Path) -> list[str]:
    folder.mkdir()
    (folder / "marks, [1].csv").write_text(HEADER + "probability\none,1,2,3,0.5\n")
    (folder / "nodules=.csv").write_text(HEADER + "diameter_mm\none,1,2,3,9\n")
    (folder / "scans.csv").write_text("seriesuid\none\ntwo\n")
    return [
        f"submission={folder / 'marks, [1].csv'}",
        f"annotations={folder / 'nodules=.csv'}",
        f"excluded={folder / 'nodules=.csv'}",
        f"scans={folder / 'scans.csv'}",
        f"output={folder / 'score {肺}'}",
    ]


def test_odd_paths(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "My CT (1), 肺"
    ended = run(evaluate.main, *write_inputs(folder))
    assert ended.code == 0, ended.error
    assert "1.0000" in ended.out
    metrics = json.loads((folder / "score {肺}" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["mean"] == 1.0
    assert {path.name for path in (folder / "score {肺}").iterdir()} == FILES


def test_folds_with_odd_paths(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "My CT (1), 肺"
    _, annotations, excluded, _, output = write_inputs(folder)
    (folder / "second.csv").write_text(HEADER + "probability\ntwo,1,2,3,0.5\n")
    for name in ("one", "two"):
        (folder / f"{name}, its scans.csv").write_text(f"seriesuid\n{name}\n")
    ended = run(
        evaluate.main,
        f"submission=['{folder / 'marks, [1].csv'}', '{folder / 'second.csv'}']",
        f"scans=['{folder / 'one, its scans.csv'}','{folder / 'two, its scans.csv'}']",
        *(annotations, excluded, output, "threshold=0.4"),
    )
    assert ended.code == 0, ended.error
    metrics = json.loads((folder / "score {肺}" / "metrics.json").read_text(encoding="utf-8"))
    assert [fold["submission"] for fold in metrics["folds"]] == ["marks, [1]", "second"]
    assert [fold["counts"]["scans"] for fold in metrics["folds"]] == [1, 1]
    assert metrics["counts"]["scans"] == 2
    assert "fold" in ended.out
    [chosen] = [line for line in ended.out.splitlines() if "threshold" in line]
    for value in ("0.4", "1.0000", "0.5"):
        assert value in chosen


def test_tianchi_by_one_word(run: Runner, tmp_path: Path) -> None:
    submission, annotations, excluded, scans, output = write_inputs(tmp_path / "x")
    ended = run(evaluate.main, submission, annotations, scans, output, "protocol=tianchi")
    assert ended.code == 0, ended.error
    assert "Tianchi" in ended.out
    assert "warning" not in ended.out
    refused = run(evaluate.main, submission, annotations, excluded, scans, output, "protocol=tianchi")
    assert refused.key == "argument-conflict"
    assert "excluded=" in refused.line()


def test_neither_torch_nor_wandb_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from nodule_lightning.cli.evaluate import main; main();"
        "print(sorted({name.split('.')[0] for name in sys.modules}"
        " & {'torch', 'wandb', 'pytorch_lightning', 'lightning_fabric', 'SimpleITK', 'torchmetrics'}))"
    )
    command = [sys.executable, "-c", code, *write_inputs(tmp_path / "x")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
