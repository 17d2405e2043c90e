"""The folders that nodule-predict writes, and which of them may be compared."""

from pathlib import Path

import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.runs import comparable, find_runs


def write_run(folder: Path, scan_ids: str | None) -> None:
    folder.mkdir(parents=True)
    (folder / "submission.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n")
    if scan_ids is not None:
        (folder / "scans.csv").write_text("seriesuid\n" + "\n".join(scan_ids) + "\n")


def test_runs_are_found_at_any_depth(tmp_path: Path) -> None:
    write_run(tmp_path / "b" / "deep", "xy")
    write_run(tmp_path / "a", "yx")
    write_run(tmp_path / "old", None)
    write_run(tmp_path / "torn", "xy")
    (tmp_path / "torn" / "submission.csv").write_text("seriesuid,coordX")
    (tmp_path / "train" / "splits").mkdir(parents=True)
    runs, left_out = find_runs(tmp_path)
    assert [(run.name, sorted(run.scan_ids)) for run in runs] == [("a", ["x", "y"]), ("b/deep", ["x", "y"])]
    assert left_out[0] == "old was left out: no scans.csv beside its submission.csv says what it searched."
    assert left_out[1].startswith("torn was left out: ")
    assert len(left_out) == 2
    assert comparable(runs, None) == (runs, [])


def test_runs_over_different_scans_are_not_mixed(tmp_path: Path) -> None:
    for name, scan_ids in (("all", "abc"), ("two", "ab"), ("other", "cd")):
        write_run(tmp_path / name, scan_ids)
    runs, _ = find_runs(tmp_path)
    with pytest.raises(InputError, match="all 3 and other 2, with 1 in common; say which count, scans="):
        comparable(runs, None)
    kept, left_out = comparable(runs, ["a", "b"])
    assert [run.name for run in kept] == ["all", "two"]
    assert left_out == ["other was left out: it has not searched 2 of the scans, such as a."]
    with pytest.raises(InputError, match="none of the 3 runs searched all 2 scans that count"):
        comparable(runs, ["a", "z"])


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no folder with submission\.csv and scans\.csv"):
        find_runs(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        find_runs(tmp_path / "gone")
