"""nodule-evaluate by itself: odd paths, the files it writes, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

from nodule_lightning.cli import evaluate
from tests.cli.commands import Runner

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
    assert {path.name for path in (folder / "score {肺}").iterdir()} == {"metrics.json", "froc.csv", "froc.png"}


def test_neither_torch_nor_wandb_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from nodule_lightning.cli.evaluate import main; main();"
        "print(sorted({name.split('.')[0] for name in sys.modules}"
        " & {'torch', 'wandb', 'pytorch_lightning', 'lightning_fabric', 'SimpleITK', 'torchmetrics'}))"
    )
    command = [sys.executable, "-c", code, *write_inputs(tmp_path / "x")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
