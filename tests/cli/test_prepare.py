"""nodule-prepare: shards in one sweep, the closing table, the exit code of a run that could not do all."""

from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cli import prepare
from nodule_lightning.data.cache import list_entries, open_entry
from tests.chest import GRID, draw_chest, write_image
from tests.cli.commands import Runner


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "CT von Müller (1)"
    chest = draw_chest()
    for name in ("one", "two", "three", "four", "five"):
        write_image(root / f"{name}.mhd", chest.hu, GRID)
    return root


def arguments(raw: Path, *more: str) -> list[str]:
    return ["data=folder", f"data.root={raw}", "cache=out", "preparation.spacing_mm=4", "workers=1", *more]


def test_it_ends_with_a_table_and_a_page(run: Runner, raw: Path) -> None:
    ended = run(prepare.main, *arguments(raw, "show=2"))
    assert ended.code == 0
    assert ended.out.count("│ ") >= 2
    assert "the 2 of 5 scans that most need to be looked at" in " ".join(ended.out.split())
    assert (
        "5 scans prepared, 0 were there already, 0 failed; the cache is out, look at out/preparation.html" in ended.out
    )
    assert (Path("out/preparation.html").read_text(encoding="utf-8")).count("data:image/jpeg") == 5
    assert ended.error == ""


def test_a_scan_that_cannot_be_read_gives_code_1_and_its_id(run: Runner, raw: Path) -> None:
    (raw / "two.raw").write_bytes(b"cut short")
    ended = run(prepare.main, *arguments(raw))
    assert ended.code == 1
    assert ended.error.splitlines()[-1].startswith("error: 1 of 5 scans failed; two: ")
    assert "Traceback" not in ended.error
    assert len(list_entries(Path("out"))) == 4
    assert "Not prepared in the last run" in Path("out/preparation.html").read_text(encoding="utf-8")


def test_a_sweep_over_shards_prepares_each_scan_once(run: Runner, raw: Path) -> None:
    ended = run(prepare.main, "-m", "shard=0,1,2", "shards=3", *arguments(raw))
    assert ended.code == 0, ended.error
    assert [ended.out.count(f"{count} scans prepared, 0 were there already") for count in (1, 2)] == [1, 2]
    assert sorted(list_entries(Path("out"))) == ["five", "four", "one", "three", "two"]
    assert Path("out/preparation.html").read_text(encoding="utf-8").count("data:image/jpeg") == 5


def test_a_bad_scan_in_one_shard_does_not_stop_the_others(run: Runner, raw: Path) -> None:
    (raw / "five.raw").write_bytes(b"cut short")
    ended = run(prepare.main, "-m", "shard=0,1,2", "shards=3", *arguments(raw))
    assert ended.code == 1
    assert len(list_entries(Path("out"))) == 4
    assert "scans failed; five: " in ended.error


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("shard=3", "shard=3 is not among the 1 shards 0 to 0"),
        ("shards=0", "shards must be a whole number of at least 1"),
        ("lungs.cures=[prayer]", "there is no cure 'prayer'"),
        ("lungs.source=stars", "source must be one of"),
        ("lungs=luna16_masks", "there is no seg-lungs-LUNA16"),
    ],
)
def test_bad_command_lines_give_code_2(run: Runner, raw: Path, wrong: str, says: str) -> None:
    assert says in run(prepare.main, *arguments(raw, wrong)).line()
    assert not Path("out/scans").exists()


def test_every_source_is_one_argument(run: Runner, raw: Path) -> None:
    assert run(prepare.main, *arguments(raw, "lungs=none")).code == 0
    assert not open_entry(Path("out"), "one").record["lungs"]["found"]
    # Each scan says what it lacks.
    ended = run(prepare.main, *arguments(raw, "lungs=lungmask", "cache=other"))
    assert ended.code == 1
    assert "pip install lungmask" in ended.error


def test_cures_are_switched_off_by_an_argument(run: Runner, raw: Path) -> None:
    dense = draw_chest()
    values = np.random.default_rng(0).normal(-560, 150, GRID.shape).clip(-900, -330)
    lung = dense.hu == -850
    dense.hu[lung] = values[lung]
    write_image(raw / "one.mhd", dense.hu, GRID)
    for cures, used in (("", ["pieces"]), ("lungs.cures=[slices,unequal,one_lung]", [])):
        assert run(prepare.main, *arguments(raw, *filter(None, [cures]))).code == 0
        record = open_entry(Path("out"), "one").record["lungs"]
        assert record["cures"] == used
        assert record["found"] == bool(used)
