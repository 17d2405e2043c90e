"""The README's Python example runs as it stands."""

import doctest
import re
from pathlib import Path

import pytest

from tests.chest import NODULE_XYZ_MM, draw_chest, write_image
from tests.commands import write_checkpoint

README = Path(__file__).parents[1] / "README.md"
SUBMISSION = "seriesuid,coordX,coordY,coordZ,probability\n"


def write_files_of_the_example(folder: Path) -> None:
    write_checkpoint(folder / "best.ckpt")
    write_image(folder / "scan.mha", draw_chest().hu, draw_chest().grid)
    x, y, z = NODULE_XYZ_MM.tolist()
    (folder / "seriesuids.csv").write_text("seriesuid\nscan\nempty\n")
    (folder / "annotations.csv").write_text(f"seriesuid,coordX,coordY,coordZ,diameter_mm\nscan,{x},{y},{z},12\n")
    (folder / "annotations_excluded.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n")
    (folder / "seed0.csv").write_text(f"{SUBMISSION}scan,{x},{y},{z},0.9\nempty,0,0,0,0.95\n")
    (folder / "seed1.csv").write_text(f"{SUBMISSION}scan,{x},{y},{z},0.8\n")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    write_files_of_the_example(tmp_path)
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(blocks[0], {}, "README.md", str(README), 0)
    assert len(example.examples) > 5
    told: list[str] = []
    ended = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert ended.failed == 0, "".join(told)
    assert ended.attempted == len(example.examples)
