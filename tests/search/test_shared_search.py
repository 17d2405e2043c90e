"""A search that several devices share."""

from pathlib import Path

import torch

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.search.precision import Precision
from nodule_lightning.search.predict import Detector, Reducer
from nodule_lightning.search.rescoring import RescoringSettings
from nodule_lightning.search.scan_source import Source
from nodule_lightning.search.shared_search import ScanSearch
from tests.balls import ball_entry, tiny_network
from tests.marked_balls import SIDE, tiny_classifier


def test_both_stages_move_to_the_ranks_device(tmp_path: Path) -> None:
    write_entry(tmp_path, ball_entry("a", [])[0])
    preparation = PreparationSettings(spacing_mm=1.0)
    reducer = Reducer(tiny_classifier(), RescoringSettings(SIDE))
    detector = Detector(tiny_network(), InferenceSettings(), preparation, reducer)
    ScanSearch(detector, Source(tmp_path, preparation), 0, Precision.FP32).to("meta")
    stages = (detector.network, reducer.network)
    assert {weight.device for stage in stages for weight in stage.parameters()} == {torch.device("meta")}
