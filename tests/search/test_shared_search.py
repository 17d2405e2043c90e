"""A search that several devices share."""

from pathlib import Path

import pytest

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.search.precision import Precision
from nodule_lightning.search.predict import Detector
from nodule_lightning.search.scan_source import Source
from nodule_lightning.search.shared_search import search_share
from tests.balls import ball_entry, tiny_network


def test_the_processes_search_each_scan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scan_id in "abc":
        write_entry(tmp_path, ball_entry(scan_id, [])[0])
    preparation = PreparationSettings(spacing_mm=1.0)
    detector, source = Detector(tiny_network(), InferenceSettings(), preparation), Source(tmp_path, preparation)
    watched: list[int] = []

    def watch(entries, total):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        watched.append(total)
        return entries

    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        share = search_share(detector, source, "cpu", 0, Precision.FP32, False, None, watch)
        found.append([outcome.scan_id for outcome in share])
    assert found == [["a", "c"], ["b"]]
    assert watched == [2]
