"""Cache entries: memory-mapped round trips, atomic replacement, and comparison of settings."""

import errno
import fcntl
import json
import os
import stat
import unicodedata
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from nodule_lightning.cache.completeness import require_complete
from nodule_lightning.cache.entries import (
    FORMAT_VERSION,
    list_entries,
    open_entry,
    read_settings,
    require_settings,
    settings_differences,
    update_labels,
    write_entry,
)
from nodule_lightning.cache.replacing import LOCK, held, remove_leftovers
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.structures import Entry, Findings, Labels
from tests.commands import write_cache


def entry(scan_id: str = "肺 1.2.3", spacing_mm: float = 1.0) -> Entry:
    ct = np.random.default_rng(0).integers(0, 256, (4, 5, 6)).astype(np.uint8)
    grid = Grid((4, 5, 6), (1.0, 1.0, 1.0), (1.5, -2.0, 3.0))
    original = Grid((2, 9, 9), (2.5, 0.7, 0.7), (0.0, 0.0, 0.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    settings = {"spacing_mm": spacing_mm, "lungs": {"closing_mm": 10.0}}
    labels = Labels("3", findings(5.5, 12.25), findings(-1))
    return Entry(scan_id, ct, (ct > 99).astype(np.uint8), grid, original, settings, {"notes": ["a note"]}, labels)


def findings(*diameter_mm: float) -> Findings:
    return Findings(np.arange(3.0 * len(diameter_mm)).reshape(-1, 3) / 7, np.array(diameter_mm, dtype=np.float64))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def test_round_trip(tmp_path: Path) -> None:
    written = entry()
    write_entry(tmp_path, written)
    opened = open_entry(tmp_path, written.scan_id)
    assert list_entries(tmp_path) == [written.scan_id]
    assert isinstance(opened.ct, np.memmap)
    assert isinstance(opened.lung, np.memmap)
    assert not opened.ct.flags.writeable
    assert np.array_equal(opened.ct, written.ct)
    assert np.array_equal(opened.lung, written.lung)
    assert (opened.grid, opened.original_grid) == (written.grid, written.original_grid)
    assert (opened.settings, opened.record) == (written.settings, written.record)
    assert opened.labels.to_dict() == written.labels.to_dict()
    np.testing.assert_array_equal(opened.labels.nodules.centre_xyz_mm, written.labels.nodules.centre_xyz_mm)
    assert opened.labels.excluded.diameter_mm.tolist() == [-1]
    assert str(tmp_path) not in (tmp_path / "scans" / written.scan_id / "scan.json").read_text(encoding="utf-8")


def test_a_new_entry_replaces_the_old_one(tmp_path: Path) -> None:
    write_entry(tmp_path, entry())
    write_entry(tmp_path, replace(entry(), ct=np.zeros((4, 5, 6), np.uint8)))
    assert open_entry(tmp_path, entry().scan_id).ct.max() == 0
    assert names(tmp_path / "scans") == [entry().scan_id]


def test_a_failed_write_leaves_the_old_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path, entry())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError) as error:
        write_entry(tmp_path, replace(entry(), ct=np.zeros((4, 5, 6), np.uint8)))
    assert error.value.key == "disk-full"
    assert open_entry(tmp_path, entry().scan_id).ct.max() > 0
    assert names(tmp_path / "scans") == [entry().scan_id]


def test_half_written_folders_are_no_entries_and_those_of_killed_runs_are_removed(tmp_path: Path) -> None:
    write_entry(tmp_path, entry())
    for name in (".tmp-a-1", f".old-{entry().scan_id}", ".tmp-b-2"):
        (tmp_path / "scans" / name).mkdir()
        (tmp_path / "scans" / name / "scan.json").write_text("{}")
    assert list_entries(tmp_path) == [entry().scan_id]
    with held(tmp_path / "scans/.tmp-b-2" / LOCK):
        remove_leftovers(tmp_path)
    assert names(tmp_path / "scans") == [".tmp-b-2", entry().scan_id]
    remove_leftovers(tmp_path)
    assert list_entries(tmp_path) == names(tmp_path / "scans") == [entry().scan_id]


def test_only_what_nfs_can_lock_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = 0

    def lock_as_nfs_does(handle: int, operation: int) -> None:
        nonlocal locked
        locked += 1
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EISDIR, "Is a directory")
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", lock_as_nfs_does)
    write_entry(tmp_path, entry("a"))
    update_labels(tmp_path, "a", Labels("7"))
    (tmp_path / "scans/.tmp-b-1").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path / "scans") == ["a"]
    assert open_entry(tmp_path, "a").labels.subset == "7"
    assert locked >= 6


def test_a_draft_is_never_taken_for_a_killed_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder, others = Path.mkdir, []

    def make_and_be_overtaken(
        folder: Path, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False
    ) -> None:
        make_folder(folder, mode, parents, exist_ok)
        if folder.name.startswith(".tmp-"):
            others.append(Thread(target=remove_leftovers, args=(tmp_path,)))
            others[0].start()
            others[0].join(timeout=0.3)

    monkeypatch.setattr(Path, "mkdir", make_and_be_overtaken)
    write_entry(tmp_path, entry("a"))
    others[0].join()
    assert names(tmp_path / "scans") == ["a"]


def test_an_entry_whose_successor_was_killed_comes_back(tmp_path: Path) -> None:
    write_entry(tmp_path, entry("a"))
    (tmp_path / "scans/a").rename(tmp_path / "scans/.old-a")
    assert list_entries(tmp_path) == []
    remove_leftovers(tmp_path)
    assert open_entry(tmp_path, "a").ct.max() > 0


def refusal(cache: Path, scan_id: str = "a") -> str:
    with pytest.raises(InputError) as error:
        open_entry(cache, scan_id)
    assert scan_id in str(error.value)
    return error.value.key


def test_damaged_and_absent_entries(tmp_path: Path) -> None:
    assert list_entries(tmp_path / "gone") == []
    assert refusal(tmp_path) == "scan-unknown"
    assert refusal(tmp_path, "../a") == "scan-invalid"
    write_entry(tmp_path, entry("a"))
    folder = tmp_path / "scans/a"
    whole = (folder / "scan.json").read_text(encoding="utf-8")
    np.save(folder / "lung.npy", np.zeros((1, 1, 1), np.uint8))
    assert refusal(tmp_path) == "file-damaged"
    os.truncate(folder / "ct.npy", 100)
    assert refusal(tmp_path) == "file-damaged"
    # An empty file, an archive, and a header on which Python's tokenizer fails.
    for content in (b"", b"PK\x03\x04 and so on", b"\x93NUMPY\x01\x00\x76\x00" + b"(" * 118):
        (folder / "ct.npy").write_bytes(content)
        assert refusal(tmp_path) == "file-damaged"
    (folder / "scan.json").write_text(json.dumps({"format": FORMAT_VERSION}))
    assert refusal(tmp_path) == "file-damaged"
    for broken in ("[1]", whole.replace('"labels": {', '"labels": [], "old": {'), whole.replace('"shape"', '"form"')):
        (folder / "scan.json").write_text(broken, encoding="utf-8")
        assert refusal(tmp_path) == "file-damaged"
    (folder / "scan.json").write_text(json.dumps({"format": 99}))
    assert refusal(tmp_path) == "file-foreign"
    (folder / "scan.json").write_text("{")
    assert refusal(tmp_path) == "file-damaged"


def test_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_settings(tmp_path)
    assert error.value.key == "cache-empty"
    write_entry(tmp_path, entry("a"))
    settings = entry().settings
    assert read_settings(tmp_path) == settings
    require_settings(tmp_path, settings)
    with pytest.raises(InputError) as error:
        require_settings(tmp_path, {"spacing_mm": 2, "lungs": {"closing_mm": 5}})
    assert error.value.key == "cache-settings-differ"
    assert "lungs.closing_mm 10.0 and 5; spacing_mm 1.0 and 2" in str(error.value)
    write_entry(tmp_path, entry("b", spacing_mm=2.0))
    with pytest.raises(InputError) as error:
        require_settings(tmp_path, settings)
    assert error.value.key == "cache-settings-differ"
    assert "spacing_mm 1.0 and 2.0" in str(error.value)


def test_settings_compare_by_value() -> None:
    assert settings_differences({"w": (1, 2), "s": 1}, {"w": [1.0, 2.0], "s": 1.0}) == []
    assert settings_differences({"new": 3}, {}) == ["new 3 and None"]


def test_new_labels_replace_the_old_ones(tmp_path: Path) -> None:
    write_entry(tmp_path, entry("a"))
    volume = (tmp_path / "scans/a/ct.npy").stat()
    update_labels(tmp_path, "a", Labels("4", findings(7), findings()))
    opened = open_entry(tmp_path, "a")
    assert opened.labels.subset == "4"
    assert opened.labels.nodules.diameter_mm.tolist() == [7]
    assert opened.labels.excluded.centre_xyz_mm.shape == (0, 3)
    assert (opened.settings, opened.record) == (entry().settings, entry().record)
    assert (tmp_path / "scans/a/ct.npy").stat().st_mtime_ns == volume.st_mtime_ns
    assert sorted(path.name for path in (tmp_path / "scans/a").iterdir()) == ["ct.npy", "lung.npy", "scan.json"]
    written = (tmp_path / "scans/a/scan.json").stat()
    update_labels(tmp_path, "a", opened.labels)
    assert (tmp_path / "scans/a/scan.json").stat().st_ino == written.st_ino


def test_an_entry_comes_back_when_its_successor_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_entry(tmp_path, entry())
    rename = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name.startswith(".tmp"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError) as error:
        write_entry(tmp_path, replace(entry(), ct=np.zeros((4, 5, 6), np.uint8)))
    assert error.value.key == "output-refused"
    assert "Input/output error" in str(error.value)
    assert open_entry(tmp_path, entry().scan_id).ct.max() > 0


def test_an_entry_that_is_named_in_decomposed_text_is_found(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    write_cache(tmp_path, [composed])
    (tmp_path / "scans" / composed).rename(tmp_path / "scans" / decomposed)
    assert list_entries(tmp_path) == [composed]
    assert require_complete(tmp_path) is None
    entry = open_entry(tmp_path, decomposed)
    write_entry(tmp_path, replace(entry, scan_id=composed))
    assert [path.name for path in (tmp_path / "scans").iterdir() if path.is_dir()] == [decomposed]
