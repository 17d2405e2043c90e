"""A search that several processes share."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.search.precision import Precision
from nodule_lightning.search.predict import Detector, Prediction, Reducer
from nodule_lightning.search.rescoring import RescoringSettings
from nodule_lightning.search.scan_source import Source
from nodule_lightning.search.shared_search import search_share
from nodule_lightning.structures import Entry, Failure
from tests.balls import ball_entry, tiny_network
from tests.marked_balls import SIDE, tiny_classifier

PREPARATION = PreparationSettings(spacing_mm=1.0)


def both_stages() -> Detector:
    reducer = Reducer(tiny_classifier(), RescoringSettings(SIDE))
    return Detector(tiny_network(), InferenceSettings(), PREPARATION, reducer)


def test_both_stages_move_to_the_device_and_the_first_detector_stays() -> None:
    detector = both_stages()
    for one, kind in ((detector.on(torch.device("meta")), "meta"), (detector, "cpu")):
        assert one.reducer is not None
        stages = (one.network, one.reducer.network)
        assert {weight.device.type for stage in stages for weight in stage.parameters()} == {kind}


def test_the_processes_search_each_scan_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scan_id in "abc":
        write_entry(tmp_path, ball_entry(scan_id, [])[0])
    source = Source(tmp_path, PREPARATION)
    watched: list[int] = []

    def watch(entries: Iterable[Entry | Failure], total: int) -> Iterator[Entry | Failure]:
        watched.append(total)
        yield from entries

    shares = []
    for rank in range(2):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        shares.append(search_share(both_stages(), source, "cpu", 0, Precision.FP32, False, None, watch))
    assert [[outcome.scan_id for outcome in share] for share in shares] == [["a", "c"], ["b"]]
    assert all(isinstance(outcome, Prediction) for share in shares for outcome in share)
    # Only the first process shows how far it is.
    assert watched == [2]
