"""nodule-prepare: shards in one sweep, the closing table, the exit code of a run that could not do all."""

import errno
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cache.entries import list_entries, open_entry
from nodule_lightning.cli import prepare
from tests.chest import GRID, draw_chest, write_image
from tests.commands import Runner


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
    assert (
        f"failed: two: its file cannot be read: it is damaged or cut short, copy it again ({raw}/two.mhd)" in ended.out
    )
    assert "Not prepared" in Path("out/preparation.html").read_text(encoding="utf-8")


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


def test_a_full_disk_leaves_what_the_terminal_says(run: Runner, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, write = np.save, Path.write_bytes

    def full_for_a_scan(path: Path, values: np.ndarray) -> None:
        if "two" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, values)

    def full_for_a_page(path: Path, content: bytes) -> int:
        if path.name.startswith(".preparation") or path.parent.name == "failures":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_for_a_page)
    ended = run(prepare.main, *arguments(raw))
    assert ended.code == 1
    assert "5 scans prepared" in ended.out
    assert ended.error.startswith("error: out/preparation.html cannot be written: No space left on device")
    monkeypatch.setattr(np, "save", full_for_a_scan)
    ended = run(prepare.main, *arguments(raw, "overwrite=true", "+preparation.margin_mm=5"))
    assert ended.code == 1
    assert "failed: two: its entry cannot be written: No space left on device" in ended.out
    assert "preparation.html cannot be written: No space left on device" in ended.out
    assert "air: right + left lung" in ended.out
    assert ended.error.startswith("error: 1 of 5 scans failed; two: its entry cannot be written")
    assert not Path("out/preparation.html").exists()


def test_old_and_damaged_entries_are_named_and_do_not_stop_a_sweep(run: Runner, raw: Path) -> None:
    assert run(prepare.main, *arguments(raw)).code == 0
    for name, text in (("two", '{"format": 2}'), ("stranger", "{"), ("odd", '{"format": 3, "settings": {}}')):
        Path("out/scans", name).mkdir(exist_ok=True)
        Path("out/scans", name, "scan.json").write_text(text)
    ended = run(prepare.main, "-m", "shard=0,1,2", "shards=3", *arguments(raw))
    assert ended.code == 0, ended.error
    tables = ended.out.split("┏")[1:]
    assert [[name in table and "unreadable" in table for name in ("stranger", "odd")] for table in tables] == [
        [True, True]
    ] * 3
    assert tables[2].count("unreadable") == 2
    page = Path("out/preparation.html").read_text(encoding="utf-8")
    assert page.index("<h2>odd</h2>") < page.index("<h2>stranger</h2>") < page.index("<h2>five</h2>")
    assert page.count("data:image/jpeg") == 5


def test_a_cache_made_otherwise_is_refused_unless_it_is_to_be_overwritten(run: Runner, raw: Path) -> None:
    assert run(prepare.main, *arguments(raw)).code == 0
    other = arguments(raw, "+preparation.margin_mm=5")
    line = run(prepare.main, *other).line()
    assert "margin_mm 8.0 and 5" in line
    assert "overwrite=true" in line
    assert "5 scans prepared" in run(prepare.main, *other, "overwrite=true").out
    assert "0 scans prepared, 5 were there already" in run(prepare.main, *other).out
    assert "overwrite must be true or false" in run(prepare.main, *other, "overwrite=perhaps").line()


def test_notes_are_counted(run: Runner, raw: Path) -> None:
    chest = draw_chest()
    for name, first in (("one", 20), ("two", 20), ("three", 21)):
        slab = GRID.crop((first, 0, 0), GRID.shape)
        write_image(raw / f"{name}.mhd", chest.hu[first:], slab)
    notes = [line for line in run(prepare.main, *arguments(raw)).out.splitlines() if line.startswith("note: ")]
    assert notes[1:] == ["note: 3 scans, such as one: the lungs reach the scan's border (…) and may be cut off"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("preparation.spacing_mm=0.00001", "spacing_mm must be from 0.25 to 10.0, not 1e-05"),
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
        assert run(prepare.main, *arguments(raw, "overwrite=true", *filter(None, [cures]))).code == 0
        record = open_entry(Path("out"), "one").record["lungs"]
        assert record["cures"] == used
        assert record["found"] == bool(used)
