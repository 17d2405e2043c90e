"""Incomplete caches are recognised by the list of scans that they should hold."""

import re
from pathlib import Path

import pytest

from nodule_lightning.cache.completeness import LIST, note_scans, require_complete
from nodule_lightning.cache.failures import keep_failure
from nodule_lightning.errors import InputError
from nodule_lightning.preparation.filling import fill_cache
from nodule_lightning.preparation.layouts import Folder
from tests.balls import write_balls
from tests.cache.runs import COARSE, write_scans


def lacks(cache: Path, named: str) -> tuple[int, ...]:
    """Return how many scans are missing, and of how many, from the message of the refusal."""
    with pytest.raises(InputError) as error:
        require_complete(cache)
    assert error.value.key == "cache-incomplete"
    assert named in str(error.value)
    found = re.search(r"(\d+) of (\d+)", str(error.value))
    assert found
    return int(found[1]), int(found[2])


def test_a_cache_is_incomplete_until_each_scan_is_prepared_or_has_failed(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 3)), tmp_path / "cache"
    raw.scans["scan-1"].with_suffix(".raw").write_bytes(b"cut short")
    results = fill_cache(raw, cache, COARSE)
    for lacking, first in ((3, "scan-0"), (2, "scan-1"), (1, "scan-2")):
        assert lacks(cache, first) == (lacking, 3)
        next(results)
    assert (line := require_complete(cache))
    assert line.startswith(f"1 of 3 scans of {cache} ")
    assert "scan-1 (its file " in line


def test_a_shard_that_was_not_run_is_missing(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 3)), tmp_path / "cache"
    list(fill_cache(raw, cache, COARSE, ["scan-0"]))
    assert lacks(cache, "scan-1") == (2, 3)
    list(fill_cache(raw, cache, COARSE, ["scan-1", "scan-2"]))
    assert require_complete(cache) is None


def test_deleted_entries_are_named_with_the_list_to_delete(tmp_path: Path) -> None:
    cache = write_balls(tmp_path, 4)
    # A cache without a list.
    assert require_complete(cache) is None
    note_scans(cache, [f"scan{index}" for index in range(4)])
    assert require_complete(cache) is None
    (cache / "scans/scan1").rename(tmp_path / "elsewhere")
    assert lacks(cache, "scan1") == lacks(cache, str(cache / LIST)) == (1, 4)
    (cache / LIST).unlink()
    assert require_complete(cache) is None


def test_a_folder_without_its_json_is_missed_even_without_a_list(tmp_path: Path) -> None:
    cache = write_balls(tmp_path, 4)
    (cache / "scans/scan1/scan.json").unlink()
    (cache / "scans/.tmp-scan9-1-ab").mkdir()
    assert lacks(cache, "scan1") == (1, 4)
    keep_failure(cache, "scan1", "cut short")
    assert (line := require_complete(cache))
    assert "scan1 (cut short)" in line


def test_no_cache_lacks_nothing(tmp_path: Path) -> None:
    assert require_complete(tmp_path / "gone") is None
