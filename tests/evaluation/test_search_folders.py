"""Output folders of nodule-predict: how they are found, and which of them may be compared."""

from pathlib import Path

import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.search_folders import find_search_folders, select_comparable


def write_search(folder: Path, scan_ids: str | None) -> None:
    folder.mkdir(parents=True)
    (folder / "submission.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n")
    if scan_ids is not None:
        (folder / "scans.csv").write_text("seriesuid\n" + "\n".join(scan_ids) + "\n")


def test_searches_are_found_at_any_depth(tmp_path: Path) -> None:
    write_search(tmp_path / "b" / "deep", "xy")
    write_search(tmp_path / "a", "yx")
    write_search(tmp_path / "old", None)
    write_search(tmp_path / "torn", "xy")
    (tmp_path / "torn" / "submission.csv").write_text("seriesuid,coordX")
    (tmp_path / "train" / "splits").mkdir(parents=True)
    searches, left_out = find_search_folders(tmp_path)
    assert [(search.name, sorted(search.scan_ids)) for search in searches] == [
        ("a", ["x", "y"]),
        ("b/deep", ["x", "y"]),
    ]
    incomplete, damaged = left_out
    assert "old" in incomplete
    assert "torn" in damaged
    assert select_comparable(searches, None) == (searches, [])


def test_searches_of_different_scans_are_not_mixed(tmp_path: Path) -> None:
    for name, scan_ids in (("all", "abc"), ("two", "ab"), ("other", "cd")):
        write_search(tmp_path / name, scan_ids)
    searches, _ = find_search_folders(tmp_path)
    with pytest.raises(InputError) as error:
        select_comparable(searches, None)
    assert error.value.key == "argument-missing"
    assert f"scans={tmp_path / 'other' / 'scans.csv'}" in str(error.value)
    kept, [note] = select_comparable(searches, ["a", "b"])
    assert [search.name for search in kept] == ["all", "two"]
    assert "other" in note
    with pytest.raises(InputError) as error:
        select_comparable(searches, ["a", "z"])
    assert error.value.key == "split-invalid"


def test_a_folder_without_searches_is_refused(tmp_path: Path) -> None:
    for root, key in ((tmp_path, "run-missing"), (tmp_path / "gone", "file-missing")):
        with pytest.raises(InputError) as error:
            find_search_folders(root)
        assert error.value.key == key
        assert str(root) in str(error.value)
