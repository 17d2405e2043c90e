"""Tiny cache entries made without raw scans: bright balls in dark, noisy lungs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.data.augment import Augment
from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.datamodule import NoduleDataModule
from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.detection.assignment import Assigner, CentreAssigner
from nodule_lightning.detection.spheres import SphereAssigner
from nodule_lightning.geometry import Grid
from nodule_lightning.losses.hard_mining import HardMiningLoss, Loss
from nodule_lightning.losses.segmentation import SegmentationLoss
from nodule_lightning.models.heads import AnchorDetector, DetectionNetwork, SegmentationDetector
from nodule_lightning.models.res_unet import ResUNet
from nodule_lightning.models.unet import UNet
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.structures import Entry, Findings, Labels
from nodule_lightning.training.module import NoduleDetector
from nodule_lightning.training.schedule import WarmUpAndDecay

ORIGIN_XYZ_MM = (-50.0, 20.0, 300.0)
# As read from a cache.
SETTINGS = json.loads(json.dumps(PreparationSettings(spacing_mm=1.0).to_dict()))


def ball_entry(
    scan_id: str, boxes_zyxd: Sequence[tuple[float, ...]], shape: tuple[int, int, int] = (40, 44, 52), seed: int = 0
) -> tuple[Entry, Findings]:
    rng = np.random.default_rng(seed)
    lung = np.zeros(shape, np.uint8)
    lung[4:-4, 4:-4, 4:-4] = 1
    ct = np.where(lung, 50, 170) + rng.normal(0, 4, shape)
    index = np.indices(shape)
    for *centre, diameter in boxes_zyxd:
        ct[((index - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) < (diameter / 2) ** 2] = 180
    grid = Grid(shape, (1.0, 1.0, 1.0), ORIGIN_XYZ_MM)
    boxes = np.array(boxes_zyxd, dtype=np.float64).reshape(-1, 4)
    findings = Findings(grid.to_world(boxes[:, :3]), boxes[:, 3])
    return Entry(scan_id, ct.clip(0, 255).astype(np.uint8), lung, grid, grid, SETTINGS), findings


def write_balls(cache: Path, scans: int, seed: int = 0) -> Path:
    """Write scans 0, 1, ...: every third has no nodule, the others have one; the subset is the index modulo 3."""
    rng = np.random.default_rng(seed)
    for index in range(scans):
        boxes = [] if index % 3 == 2 else [(*rng.uniform(12, 28, 3), rng.uniform(5, 11))]
        entry, nodules = ball_entry(f"scan{index}", boxes, seed=seed + index)
        write_entry(cache, replace(entry, labels=Labels(str(index % 3), nodules)))
    return cache


def tiny_network() -> AnchorDetector:
    backbone = ResUNet((8, 8, 16, 16, 16), (0, 1, 1, 1), (16, 16), (1, 1), "batch", stem_stride=2, dropout=0.0)
    return AnchorDetector(backbone, AnchorGrid((6.0, 10.0)), hidden=16)


def tiny_segmentation(norm: str = "batch") -> SegmentationDetector:
    return SegmentationDetector(UNet(3, (8, 16, 16), decoder_stride=1, stride=1, norm=norm, dropout=0.0))


def one_stage(rule: SamplingRule | int = 16, loss: Loss | None = None) -> Curriculum:
    """Make a curriculum with one stage, from a sampling rule or a number of patches per epoch."""
    if isinstance(rule, int):
        rule = SamplingRule(rule, negative_share=0.25)
    return Curriculum({"only": Stage(1, loss or HardMiningLoss(hard_per_patch=4), rule)})


def tiny_module(
    network: DetectionNetwork | None = None, seed: int = 0, curriculum: Curriculum | None = None
) -> NoduleDetector:
    assigner: Assigner = CentreAssigner()
    loss: Loss | None = None
    if isinstance(network, SegmentationDetector):
        assigner, loss = SphereAssigner(), SegmentationLoss(HardMiningLoss(pool=4000, hard_per_patch=200))
    return NoduleDetector(
        network or tiny_network(),
        assigner,
        curriculum or one_stage(loss=loss),
        Augment(gain=0.1, shift=0.05),
        InferenceSettings(),
        optimizer=partial(torch.optim.AdamW, lr=4e-3),
        schedule=WarmUpAndDecay(0.3),
        recipe={"channels": [8, 8]},
        seed=seed,
    )


def tiny_datamodule(
    cache: Path, patches_per_epoch: int = 16, workers: int = 0, curriculum: Curriculum | None = None
) -> NoduleDataModule:
    chosen = curriculum or one_stage(patches_per_epoch)
    return NoduleDataModule(cache, chosen, 32, 4, workers, validation_fraction=0.25, border_voxels=4.0)
