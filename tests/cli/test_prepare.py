"""nodule-prepare: shards in one sweep, the closing table, the exit code of a run that could not do all."""

import errno
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cache.entries import list_entries, open_entry
from nodule_lightning.cli import prepare
from tests.chest import GRID, draw_chest, write_dicom, write_image
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
    assert "2 of 5 scans" in " ".join(ended.out.split())
    assert "out/preparation.html" in ended.out
    assert len(list_entries(Path("out"))) == 5
    assert (Path("out/preparation.html").read_text(encoding="utf-8")).count("data:image/jpeg") == 5
    assert ended.error == ""


def test_a_scan_that_cannot_be_read_gives_code_1_and_its_id(run: Runner, raw: Path) -> None:
    (raw / "two.raw").write_bytes(b"cut short")
    ended = run(prepare.main, *arguments(raw))
    assert ended.code == 1
    last = ended.error.splitlines()[-1]
    assert "1 of 5" in last
    assert "two: " in last
    assert "Traceback" not in ended.error
    assert len(list_entries(Path("out"))) == 4
    [failed] = [line for line in ended.out.splitlines() if line.startswith("failed: ")]
    assert "two: " in failed
    assert f"{raw}/two.mhd" in failed
    assert "Not prepared" in Path("out/preparation.html").read_text(encoding="utf-8")


def test_a_sweep_over_shards_prepares_each_scan_once(run: Runner, raw: Path) -> None:
    ended = run(prepare.main, "-m", "shard=0,1,2", "shards=3", *arguments(raw))
    assert ended.code == 0, ended.error
    assert [ended.out.count(f"{count} scans prepared, 0 ") for count in (1, 2)] == [1, 2]
    assert sorted(list_entries(Path("out"))) == ["five", "four", "one", "three", "two"]
    assert Path("out/preparation.html").read_text(encoding="utf-8").count("data:image/jpeg") == 5


def test_a_bad_scan_in_one_shard_does_not_stop_the_others(run: Runner, raw: Path) -> None:
    (raw / "five.raw").write_bytes(b"cut short")
    ended = run(prepare.main, "-m", "shard=0,1,2", "shards=3", *arguments(raw))
    assert ended.code == 1
    assert len(list_entries(Path("out"))) == 4
    assert "five: " in ended.error


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
    assert len(list_entries(Path("out"))) == 5
    assert "out/preparation.html" in ended.error
    assert "No space left on device" in ended.error
    monkeypatch.setattr(np, "save", full_for_a_scan)
    ended = run(prepare.main, *arguments(raw, "overwrite=true", "+preparation.margin_mm=5"))
    assert ended.code == 1
    for named in ("two: ", "preparation.html "):
        assert any(named in line and "No space left on device" in line for line in ended.out.splitlines())
    assert "air: right + left lung" in ended.out
    assert "1 of 5" in ended.error
    assert "two: " in ended.error
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
    ended = run(prepare.main, *other)
    assert ended.key == "cache-settings-differ"
    for named in ("margin_mm 8.0", "5", "overwrite=true"):
        assert named in ended.line()
    assert "5 scans prepared" in run(prepare.main, *other, "overwrite=true").out
    assert "0 scans prepared" in run(prepare.main, *other).out
    ended = run(prepare.main, *other, "overwrite=perhaps")
    assert ended.key == "argument-invalid"
    assert "overwrite" in ended.line()
    assert "'perhaps'" in ended.line()


def test_notes_are_counted(run: Runner, raw: Path) -> None:
    chest = draw_chest()
    for name, first in (("one", 20), ("two", 20), ("three", 21)):
        slab = GRID.crop((first, 0, 0), GRID.shape)
        write_image(raw / f"{name}.mhd", chest.hu[first:], slab)
    notes = [line for line in run(prepare.main, *arguments(raw)).out.splitlines() if line.startswith("note: ")]
    [note] = notes[1:]
    assert "3 scans, such as one: " in note


@pytest.mark.parametrize(
    ("wrong", "key", "named"),
    [
        ("preparation.spacing_mm=0.00001", "argument-invalid", ("spacing_mm", "0.25", "10.0", "1e-05")),
        ("shard=3", "argument-invalid", ("shard=3",)),
        ("shards=0", "argument-invalid", ("shards", "0")),
        ("lungs.cures=[prayer]", "argument-invalid", ("'prayer'",)),
        ("lungs.source=stars", "argument-invalid", ("source", "'stars'")),
        ("lungs=luna16_masks", "file-missing", ("seg-lungs-LUNA16",)),
    ],
)
def test_bad_command_lines_give_code_2(run: Runner, raw: Path, wrong: str, key: str, named: tuple[str, ...]) -> None:
    ended = run(prepare.main, *arguments(raw, wrong))
    assert ended.key == key
    for value in named:
        assert value in ended.line()
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


def test_a_scan_that_was_read_with_doubts_carries_them(run: Runner, tmp_path: Path) -> None:
    chest = draw_chest()
    kept = np.r_[0:20, 21:54]
    z_mm = GRID.origin_xyz_mm[2] + 3.0 * kept
    write_dicom(tmp_path / "raw" / "1", chest.hu[kept], "1.2.3", grid=GRID, z_mm=list(z_mm))
    write_image(tmp_path / "raw" / "sound.mha", chest.hu, GRID)
    ended = run(prepare.main, *arguments(tmp_path / "raw", "reading=lenient"))
    assert ended.code == 0, ended.error
    (note,) = open_entry(Path("out"), "1.2.3").record["doubts"]
    assert "missing" in note
    assert open_entry(Path("out"), "sound").record["doubts"] == []
    assert note in Path("out/preparation.html").read_text(encoding="utf-8")
    assert ended.out.splitlines()[-1].endswith(f"1.2.3: {note}")


def test_an_offset_reaches_every_scan(run: Runner, raw: Path) -> None:
    for name in ("one", "two", "three", "four"):
        (raw / f"{name}.mhd").unlink()
    assert run(prepare.main, *arguments(raw)).code == 0
    before = open_entry(Path("out"), "five")
    highest = before.record["scan"]["hu_range"][1]
    assert run(prepare.main, *arguments(raw, "reading.offset_hu=-24")).code == 0
    assert open_entry(Path("out"), "five").record["scan"]["hu_range"][1] == highest - 24
    for wrong in ("reading.offset_hu=20000", "reading.offset_hu=much"):
        assert run(prepare.main, *arguments(raw, wrong)).key == "argument-invalid"
