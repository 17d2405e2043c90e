"""Scans are opened ahead of the search: the same entries in the same order, whatever is wrong with one of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.search.precision import Precision
from nodule_lightning.search.predict import Detector, Prediction, predict
from nodule_lightning.search.scan_source import Source
from nodule_lightning.structures import Entry, Failure
from tests.balls import tiny_network
from tests.chest import draw_chest, write_image
from tests.commands import TINY, write_cache


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a", "c", "d"):
        write_image(folder / f"{name}.mha", draw_chest().hu, draw_chest().grid)
    write_image(folder / "b.mha", np.zeros((8, 8), np.int16))
    return folder


def opened(source: Source, workers: int) -> list[Entry | Failure]:
    with source.entries(workers) as entries:
        return list(entries)


def test_raw_scans_are_the_same_ahead_and_in_turn(folder: Path) -> None:
    source = Source(folder, TINY)
    in_turn, ahead = opened(source, 0), opened(source, 2)
    assert [item.scan_id for item in ahead] == ["a", "b", "c", "d"]
    for one, other in zip(in_turn, ahead, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Entry) and isinstance(other, Entry):
            np.testing.assert_array_equal(one.ct, other.ct)
            np.testing.assert_array_equal(one.lung, other.lung)
            assert one.grid == other.grid
    failure = ahead[1]
    assert isinstance(failure, Failure)
    assert "b.mha" in failure.reason
    assert failure.trace == ""
    assert in_turn[1] == failure


def test_what_nobody_foresaw_is_told_with_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("new kind of trouble")

    monkeypatch.setattr("nodule_lightning.io.readers.read_scan", broken)
    failure = opened(Source(folder, TINY), 0)[0]
    assert isinstance(failure, Failure)
    assert failure.reason == "RuntimeError: new kind of trouble"
    assert "in broken" in failure.trace


def test_a_cache_is_read_ahead_too(tmp_path: Path) -> None:
    write_cache(tmp_path, ["one", "three", "two"])
    source = Source(tmp_path, TINY)
    entries = opened(source, 1)
    assert [item.scan_id for item in entries] == ["one", "three", "two"]
    # In memory, not on the disk.
    assert all(isinstance(item, Entry) and not isinstance(item.ct, np.memmap) for item in entries)


def test_a_search_that_is_broken_off_ends_the_work_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def watched(*arguments: object) -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            ended.append(True)

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nodule_lightning.search.scan_source.run_ahead", watched)
    monkeypatch.setattr("nodule_lightning.search.predict.search_entry", interrupted)
    detector = Detector(tiny_network(), InferenceSettings(), TINY)
    with pytest.raises(KeyboardInterrupt):
        list(predict(detector, Source(folder, TINY), 1, Precision.FP32))
    assert ended == [True]


def test_fewer_than_no_workers_are_refused(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        opened(Source(folder, TINY), -1)
    assert error.value.key == "argument-invalid"
    assert "-1" in str(error.value)


def test_searching_ahead_finds_the_same(folder: Path) -> None:
    network = tiny_network().eval()
    network.anchors.spacing_mm = TINY.spacing_mm
    detector = Detector(network, InferenceSettings(), TINY)
    source = Source(folder, TINY)
    in_turn, ahead = (list(predict(detector, source, workers)) for workers in (0, 1))
    assert [item.scan_id for item in ahead] == ["a", "b", "c", "d"]
    for one, other in zip(in_turn, ahead, strict=True):
        if isinstance(one, Prediction) and isinstance(other, Prediction):
            np.testing.assert_array_equal(one.candidates.probability, other.candidates.probability)
    assert [type(item) for item in ahead] == [Prediction, Failure, Prediction, Prediction]
