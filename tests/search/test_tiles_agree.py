"""Tiles against the whole crop, in fp32, with a network that has learnt to find balls."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from experiments.tiles.__main__ import changes
from nodule_lightning.detection.assignment import CentreAssigner
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.losses.hard_mining import HardMiningLoss
from nodule_lightning.metrics.functional import froc
from nodule_lightning.models.heads import AnchorDetector
from nodule_lightning.search.inference import InferenceSettings, detect
from nodule_lightning.structures import Candidates, Entry, Findings, Table
from tests.balls import ball_entry, tiny_network

pytestmark = pytest.mark.slow

WHOLE = InferenceSettings()
SHAPE = (48, 48, 368)


def long_entry(seed: int) -> tuple[Entry, Findings]:
    """Make a scan whose tiles meet five times along x, with a ball in each stretch and some at the borders."""
    rng = np.random.default_rng(seed)
    places = [*np.arange(20, 350, 36) + rng.uniform(-8, 8, 10), 64 * rng.integers(1, 5) + rng.uniform(-2, 2)]
    far = [x for x, following in pairwise([*sorted(places), 999.0]) if following - x > 16]
    return ball_entry(f"{seed}", [(*rng.uniform(14, 34, 2), x, rng.uniform(4, 11)) for x in far], SHAPE, seed)


def trained() -> AnchorDetector:
    torch.manual_seed(0)
    network = tiny_network().train()
    optimizer, assigner = torch.optim.AdamW(network.parameters(), lr=4e-3), CentreAssigner()
    loss, generator = HardMiningLoss(hard_per_patch=4), torch.Generator().manual_seed(0)
    for step in range(60):
        rng = np.random.default_rng(step)
        boxes = [(*rng.uniform(12, 32, 3), rng.uniform(4, 11)) for _ in range(4)]
        images = torch.stack([torch.from_numpy(ball_entry("a", [box], (48, 48, 48), step)[0].ct) for box in boxes])
        maps = network(normalise(images)[:, None])
        anchors = network.anchors.boxes(maps.shape[1:4])
        target = assigner(
            anchors, torch.tensor(boxes, dtype=torch.float32)[:, None], torch.ones(4, 1, dtype=torch.int8)
        )
        optimizer.zero_grad()
        loss(maps, target, generator).total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


def test_tiles_find_what_the_whole_crop_does() -> None:
    network, margin = trained(), InferenceSettings().margin_voxels
    tiled_settings = InferenceSettings(tile_voxels=3 * margin)
    found: dict[str, list[Candidates]] = {"whole": [], "tiles": []}
    nodules, ids = [], []
    for seed in range(3):
        entry, findings = long_entry(seed)
        nodules.append(findings)
        ids.append(np.full(len(findings), str(seed)))
        found["whole"].append(detect(network, entry, WHOLE))
        found["tiles"].append(detect(network, entry, tiled_settings))
    for one, other in zip(found["whole"], found["tiles"], strict=True):
        assert (one.probability >= 0.1).sum() > 5
        assert max([*changes(one, other), *changes(other, one)]) <= 0.02
    truth = Table(np.concatenate(ids), Findings.concatenate(nodules))
    scores = {}
    for name, candidates in found.items():
        owner = np.repeat(["0", "1", "2"], [len(item) for item in candidates])
        marks = Table(owner, Candidates.concatenate(candidates))
        scores[name] = froc(marks, truth, None, ["0", "1", "2"], bootstraps=0).mean
    assert scores["whole"] > 0.3
    assert abs(scores["whole"] - scores["tiles"]) <= 0.003
