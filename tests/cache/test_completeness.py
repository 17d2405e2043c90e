"""A cache that lacks scans is known by the list of those that it is to hold, whatever else is gone."""

from pathlib import Path

import pytest

from nodule_lightning.cache.completeness import LIST, note_scans, require_complete
from nodule_lightning.cache.failures import keep_failure
from nodule_lightning.errors import InputError
from nodule_lightning.preparation.filling import fill_cache
from nodule_lightning.preparation.layouts import Folder
from tests.balls import write_balls
from tests.cache.runs import COARSE, write_scans


def test_a_cache_is_incomplete_until_each_scan_has_had_its_turn(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 3)), tmp_path / "cache"
    raw.scans["scan-1"].with_suffix(".raw").write_bytes(b"cut short")
    outcomes = fill_cache(raw, cache, COARSE)
    for lacking, first in ((3, "scan-0"), (2, "scan-1"), (1, "scan-2")):
        with pytest.raises(InputError, match=rf"cache lacks {lacking} of 3 scans .*such as {first}: it is still at"):
            require_complete(cache)
        next(outcomes)
    assert (said := require_complete(cache))
    assert said.startswith(f"1 of 3 scans of {cache} could not be prepared, such as scan-1 (its file cannot be read")


def test_a_shard_that_nobody_has_begun_is_missing(tmp_path: Path) -> None:
    raw, cache = Folder(write_scans(tmp_path / "raw", 3)), tmp_path / "cache"
    list(fill_cache(raw, cache, COARSE, ["scan-0"]))
    with pytest.raises(InputError, match="lacks 2 of 3 scans"):
        require_complete(cache)
    list(fill_cache(raw, cache, COARSE, ["scan-1", "scan-2"]))
    assert require_complete(cache) is None


def test_entries_that_are_gone_are_named_with_the_cures(tmp_path: Path) -> None:
    cache = write_balls(tmp_path, 4)
    # As one that was filled before there was such a list.
    assert require_complete(cache) is None
    note_scans(cache, [f"scan{index}" for index in range(4)])
    assert require_complete(cache) is None
    (cache / "scans/scan1").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"lacks 1 of 4 .* scan1: .* run it again, .* delete .*scans\.csv"):
        require_complete(cache)
    (cache / LIST).unlink()
    assert require_complete(cache) is None


def test_a_folder_without_its_json_is_missed_even_without_a_list(tmp_path: Path) -> None:
    cache = write_balls(tmp_path, 4)
    (cache / "scans/scan1/scan.json").unlink()
    (cache / "scans/.tmp-scan9-1-ab").mkdir()
    with pytest.raises(InputError, match=r"lacks 1 of 4 scans .* scan1"):
        require_complete(cache)
    keep_failure(cache, "scan1", "cut short")
    assert require_complete(cache) == f"1 of 4 scans of {cache} could not be prepared, such as scan1 (cut short)"


def test_no_cache_lacks_nothing(tmp_path: Path) -> None:
    assert require_complete(tmp_path / "gone") is None
