"""Bank of hard negatives: false positives of the current model in whole training scans (mining of level 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import torch
from jaxtyping import Float64, Int64

from nodule_lightning.metrics.functional.matching import match
from nodule_lightning.structures import Candidates, Findings, Table

SAME_PLACE_VOXELS: Final = 5.0
"""Candidates of one scan that are closer than this count as the same place."""


@dataclass(frozen=True, slots=True)
class Bank:
    """False positives, in the order of the scans.

    Attributes:
        scan_index: index of each one's scan in the list of training scans.
        place_zyx: centre in voxels of the scan's cache entry.
        score: probability that the model gave.
        rounds: number of consecutive mining rounds in which it was found, the last one included; the more, the harder.
    """

    scan_index: Int64[np.ndarray, "n"]
    place_zyx: Float64[np.ndarray, "n 3"]
    score: Float64[np.ndarray, "n"]
    rounds: Int64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.score)

    def chances(self) -> Float64[np.ndarray, "n"]:
        """Return the probability of each to be drawn, proportional to score times rounds."""
        weight = self.score * self.rounds
        return np.asarray(weight / weight.sum())

    def after(self, former: Self) -> Self:
        """Add the rounds of a former bank to the false positives that it holds at about the same place."""
        rounds = np.ones(len(self), np.int64)
        for scan in np.intersect1d(self.scan_index, former.scan_index):
            here, there = np.flatnonzero(self.scan_index == scan), np.flatnonzero(former.scan_index == scan)
            apart = np.linalg.norm(self.place_zyx[here, None] - former.place_zyx[None, there], axis=2)
            nearest = apart.argmin(axis=1)
            survived = apart.min(axis=1) < SAME_PLACE_VOXELS
            rounds[here[survived]] += former.rounds[there[nearest[survived]]]
        return replace(self, rounds=rounds)

    def to_state(self) -> dict[str, torch.Tensor]:
        """Return the columns as tensors, for a checkpoint."""
        return {
            "scan_index": torch.from_numpy(self.scan_index),
            "place_zyx": torch.from_numpy(self.place_zyx),
            "score": torch.from_numpy(self.score),
            "rounds": torch.from_numpy(self.rounds),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore a bank from the result of `to_state`."""
        return cls(**{name: value.numpy() for name, value in state.items()})

    @classmethod
    def empty(cls) -> Self:
        """Return a bank without false positives."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the banks of different scans, given in any order."""
        parts = [cls.empty(), *parts]
        scan_index = np.concatenate([part.scan_index for part in parts])
        order = np.argsort(scan_index, kind="stable")
        return cls(
            scan_index[order],
            np.concatenate([part.place_zyx for part in parts])[order],
            np.concatenate([part.score for part in parts])[order],
            np.concatenate([part.rounds for part in parts])[order],
        )


def false_positives(
    candidates: Candidates, nodules: Findings, excluded: Findings, most: int, min_probability: float
) -> Candidates:
    """Return the most probable false positives of a scan, by LUNA16's rules: in no nodule and no excluded finding.

    Args:
        candidates: of one scan.
        nodules: of the scan.
        excluded: findings of the scan on which a candidate counts neither way.
        most: largest number to return.
        min_probability: candidates below it are no hard negatives.
    """
    matching = match(Table.of_one_scan(candidates), Table.of_one_scan(nodules), Table.of_one_scan(excluded))
    wrong = matching.false_positive & (candidates.probability >= min_probability)
    return candidates[wrong].best_first()[np.arange(min(most, int(wrong.sum())))]
