"""Candidates for the tiny scans of balls, and a second stage of the same size."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.data.augment import Augment
from nodule_lightning.data.candidate_datamodule import CandidateDataModule
from nodule_lightning.io.tables import write_candidates
from nodule_lightning.losses.classification import ClassificationLoss
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.search.rescoring import RescoringSettings
from nodule_lightning.structures import Candidates, Table
from nodule_lightning.training.reducer import FalsePositiveReducer
from nodule_lightning.training.schedule import WarmUpAndDecay

SIDE = 16


def mark_balls(cache: Path, path: Path, wrong: int = 6, seed: int = 0) -> Path:
    """Write candidates: one of low probability in each ball, and false positives of mostly higher probability."""
    rng = np.random.default_rng(seed)
    catalog = Catalog.open(cache)
    ids: list[str] = []
    parts = []
    for scan_id in catalog.scan_ids:
        nodules, grid = catalog.nodules(scan_id), catalog.entry(scan_id).grid
        places = grid.to_world(rng.uniform(8, 32, (4 * wrong, 3)))
        gaps = np.linalg.norm(places[:, None] - nodules.centre_xyz_mm[None], axis=2).min(axis=1, initial=np.inf)
        wrongly = places[gaps > 12][:wrong]
        centres = np.concatenate([nodules.centre_xyz_mm + 0.5, wrongly])
        probability = np.concatenate([np.full(len(nodules), 0.4), rng.uniform(0.3, 0.9, len(wrongly))])
        parts.append(Candidates(centres, probability, np.full(len(centres), 8.0)))
        ids += [scan_id] * len(centres)
    write_candidates(path, Table(np.array(ids, dtype=np.str_), Candidates.concatenate(parts)))
    return path


def tiny_classifier() -> CandidateClassifier:
    return CandidateClassifier((4, 8, 8), (1, 1, 1), dropout=0.1)


def tiny_reducer(seed: int = 0, combine: str = "product") -> FalsePositiveReducer:
    return FalsePositiveReducer(
        tiny_classifier(),
        ClassificationLoss(),
        Augment(gain=0.1, shift=0.05, rotation_degrees=20, resampled_share=0.5),
        RescoringSettings(SIDE, combine=combine),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        schedule=WarmUpAndDecay(0.3),
        recipe={"channels": [4, 8, 8]},
        seed=seed,
    )


def tiny_candidate_datamodule(
    cache: Path, candidates: Path, test_subsets: tuple[str, ...] = (), patches: int = 32, workers: int = 0
) -> CandidateDataModule:
    return CandidateDataModule(
        cache,
        candidates,
        patch_voxels=SIDE,
        batch_size=8,
        patches_per_epoch=patches,
        workers=workers,
        test_subsets=test_subsets,
        validation_fraction=0.3,
    )
