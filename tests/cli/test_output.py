"""Two jobs of one sweep do not write over each other's results."""

from pathlib import Path

import pytest

from nodule_lightning.cache.entries import read_settings
from nodule_lightning.cli import evaluate, phantom, prepare
from nodule_lightning.cli._output import SweptOutputs
from nodule_lightning.errors import InputError
from tests.chest import GRID, draw_chest, write_image
from tests.commands import Runner

HEADER = "seriesuid,coordX,coordY,coordZ,"


@pytest.fixture
def score(tmp_path: Path) -> list[str]:
    """Write what it takes to score a submission."""
    (tmp_path / "marks.csv").write_text(HEADER + "probability\none,1,2,3,0.5\n")
    (tmp_path / "nodules.csv").write_text(HEADER + "diameter_mm\none,1,2,3,9\n")
    return [f"submission={tmp_path / 'marks.csv'}", f"annotations={tmp_path / 'nodules.csv'}", "bootstraps=20"]


def test_a_sweep_with_one_output_keeps_what_the_first_job_wrote(run: Runner, score: list[str]) -> None:
    ended = run(evaluate.main, "-m", "seed=0,1", "output=out", *score)
    assert "output=out " in ended.failed_job()
    assert Path("out/metrics.json").exists()


def test_the_cure_that_is_named_gives_each_job_its_own(run: Runner, score: list[str]) -> None:
    line = run(evaluate.main, "-m", "seed=0,1", "output=out", *score).failed_job()
    named = line.split("say output=")[1]
    # As the shell hands it over.
    assert named == "\"'out/\\${hydra:job.num}'\""
    ended = run(evaluate.main, "-m", "seed=0,1", "output='out/${hydra:job.num}'", *score)
    assert ended.code == 0, ended.error
    assert [Path(f"out/{job}/metrics.json").exists() for job in range(2)] == [True, True]


def test_without_a_sweep_results_are_written_anew(run: Runner, score: list[str]) -> None:
    for seed in (0, 1):
        assert run(evaluate.main, f"seed={seed}", "output=out", *score).code == 0


def test_overwriting_in_a_sweep_keeps_what_its_first_job_prepared(run: Runner, tmp_path: Path) -> None:
    write_image(tmp_path / "raw/scan.mhd", draw_chest().hu, GRID)
    given = ["data=folder", f"data.root={tmp_path / 'raw'}", "cache=out", "workers=1", "overwrite=true"]
    ended = run(prepare.main, "-m", "preparation.spacing_mm=4,5", *given)
    assert "cache=out " in ended.failed_job()
    assert read_settings(Path("out"))["spacing_mm"] == 4


def test_shards_share_a_place_and_other_settings_do_not() -> None:
    outputs, place = SweptOutputs(), Path("out")
    for shard in range(3):
        outputs.require_own("cache", place, {"shard": shard, "shards": 3})
    outputs.require_own("cache", Path("other"), {"shard": 0, "shards": 2})
    with pytest.raises(InputError) as error:
        outputs.require_own("cache", place.absolute().relative_to(Path.cwd()), {"shard": 0, "shards": 2})
    assert error.value.key == "output-refused"
    assert "cache=out" in str(error.value)


def test_a_phantom_data_set_is_not_made_into_another(run: Runner) -> None:
    small = ["phantom.matrix=64", "phantom.pixel_mm=[3,3]", "phantom.slice_mm=[5,5]", "scans=1", "workers=1"]
    line = run(phantom.main, "-m", "seed=0,1", "output=out", *small).failed_job()
    assert "output=out " in line
    assert "-0-" in Path("out/seriesuids.csv").read_text(encoding="utf-8")
