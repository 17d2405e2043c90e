"""Training examples of the second stage: labelled candidates, the patches around them, and their sampling."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64
from torch.utils.data import Dataset, Sampler

from nodule_lightning.boxes import (
    IGNORED,
    NODULE,
    NOTHING,
    centred_start,
    cut_patch,
    position_in_crop,
    visible,
    voxel_boxes,
)
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.data.open_scans import OpenScans
from nodule_lightning.data.patches import Patch
from nodule_lightning.io.tables import read_classed_candidates
from nodule_lightning.metrics.functional.matching import pairs_inside
from nodule_lightning.structures import UNKNOWN_DIAMETER_MM, Candidates, Entry, Findings, Table


@dataclass(frozen=True, slots=True)
class ClassedCandidates:
    """The candidates of one scan, as a file gives them.

    Attributes:
        candidates: in the order of the file.
        is_nodule: class of each in the file; None if the file has no such column.
    """

    candidates: Candidates
    is_nodule: Bool[np.ndarray, "n"] | None

    @classmethod
    def empty(cls) -> Self:
        """Return no candidates."""
        return cls(Candidates.empty(), None)

    def kinds(self, nodules: Findings, excluded: Findings) -> Int8[np.ndarray, "n"]:
        """Label each candidate as `NODULE`, `NOTHING` or `IGNORED`.

        The class of the file comes first. Without it a candidate is a nodule if it lies inside one by LUNA16's rule:
        its distance to the centre is strictly below the radius. In either case a candidate that is no nodule but lies
        inside an excluded finding is ignored.

        Args:
            nodules: of the scan.
            excluded: findings of the scan that count neither way.
        """
        is_nodule = self.is_nodule if self.is_nodule is not None else _inside(self.candidates, nodules)
        others = np.where(_inside(self.candidates, excluded), IGNORED, NOTHING)
        return np.where(is_nodule, NODULE, others).astype(np.int8)


def read_by_scan(path: Path) -> dict[str, ClassedCandidates]:
    """Read a csv file of candidates, see `read_classed_candidates`; a scan without candidates has no key.

    Raises:
        InputError: as `read_classed_candidates`.
    """
    table, given = read_classed_candidates(path)
    return {
        scan_id: ClassedCandidates(table.rows[rows], None if given is None else given[rows] == 1)
        for scan_id, rows in table.places_by_scan().items()
    }


@dataclass(frozen=True, slots=True)
class Examples:
    """Places in the training scans with their class, one row each.

    Attributes:
        scan_index: index of each one's scan in the list of training scans.
        place_zyx: centre in voxels of the scan's cache entry.
        diameter: in voxels.
        positive: whether it is a nodule.
    """

    scan_index: Int64[np.ndarray, "n"]
    place_zyx: Float64[np.ndarray, "n 3"]
    diameter: Float64[np.ndarray, "n"]
    positive: Bool[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.positive)

    @classmethod
    def of_scan(cls, index: int, entry: Entry, listed: ClassedCandidates, *, with_nodules: bool) -> Self:
        """Gather the examples of one scan; only places in the lung mask, since the detector marks no others.

        Args:
            index: of the scan in the list of training scans.
            entry: the prepared scan.
            listed: its candidates.
            with_nodules: take the annotated nodules as examples too, whether or not a candidate lies in them.
        """
        labels = entry.labels
        kinds = listed.kinds(labels.nodules, labels.excluded)
        kept = listed.candidates[kinds != IGNORED]
        diameter_mm = np.where(kept.diameter_mm > 0, kept.diameter_mm, UNKNOWN_DIAMETER_MM)
        boxes = [voxel_boxes(Findings(kept.centre_xyz_mm, diameter_mm), entry)]
        positive = [kinds[kinds != IGNORED] == NODULE]
        if with_nodules:
            boxes.append(voxel_boxes(labels.nodules, entry))
            positive.append(np.ones(len(labels.nodules), dtype=bool))
        joined = np.concatenate(boxes)
        seen = visible(joined, entry.lung)
        joined = joined[seen]
        return cls(np.full(len(joined), index), joined[:, :3], joined[:, 3], np.concatenate(positive)[seen])

    @classmethod
    def of_scans(
        cls,
        catalog: Catalog,
        scan_ids: Sequence[str],
        listed: Mapping[str, ClassedCandidates],
        *,
        with_nodules: bool,
    ) -> Self:
        """Gather the examples of the training scans; `scan_index` counts in the order of `scan_ids`."""
        parts = [
            cls.of_scan(
                index, catalog.entry(scan_id), listed.get(scan_id, ClassedCandidates.empty()), with_nodules=with_nodules
            )
            for index, scan_id in enumerate(scan_ids)
        ]
        return cls(
            np.concatenate([np.zeros(0, np.int64), *(part.scan_index for part in parts)]),
            np.concatenate([np.zeros((0, 3)), *(part.place_zyx for part in parts)]),
            np.concatenate([np.zeros(0), *(part.diameter for part in parts)]),
            np.concatenate([np.zeros(0, dtype=bool), *(part.positive for part in parts)]),
        )


class ExampleDataset(Dataset[Patch]):
    """Patches centred on the examples.

    The patch of a nodule has one box, of kind `NODULE`; the patch of any other candidate has none.

    Args:
        catalog: of the cache.
        scan_ids: the training scans, in the order of the examples' `scan_index`.
        examples: one patch each.
        patch_voxels: side of the patches.
        fill_outside_lungs: put the grey value 170 outside the lung mask.
    """

    def __init__(
        self,
        catalog: Catalog,
        scan_ids: Sequence[str],
        examples: Examples,
        patch_voxels: int,
        *,
        fill_outside_lungs: bool = True,
    ) -> None:
        self.catalog = catalog
        self.scan_ids = tuple(scan_ids)
        self.examples = examples
        self.patch_voxels = patch_voxels
        self.fill_outside_lungs = fill_outside_lungs
        self.open_scans = OpenScans[Entry]()

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Patch:
        scan_index = int(self.examples.scan_index[index])
        entry = self.open_scans.get(scan_index, lambda: self.catalog.entry(self.scan_ids[scan_index]))
        place_zyx = self.examples.place_zyx[index]
        start = centred_start(place_zyx, self.patch_voxels)
        image = cut_patch(entry, start, self.patch_voxels, fill_outside_lungs=self.fill_outside_lungs)
        box = np.array([[*(place_zyx - start), self.examples.diameter[index]]], np.float32)
        boxes = box[: int(self.examples.positive[index])]
        position = position_in_crop(start, start + self.patch_voxels, entry.ct.shape)
        return Patch(entry.scan_id, image, boxes, np.full(len(boxes), NODULE, np.int8), position)


class ExampleSampler(Sampler[int]):
    """Draw the examples of one rank, with a fixed share of nodules.

    The draws are a function of seed and epoch. Each class is drawn without replacement until all of its examples have
    been drawn once, and then again.

    Args:
        positive: which examples are nodules; each class needs at least one example.
        patches_per_epoch: of all ranks together; None for the number that shows each nodule once, in whole batches.
        positive_share: share of nodules among them.
        seed: of all epochs.
        rank: of this process.
        world_size: number of processes; their draws are disjoint and equally many.
        batch_size: of each process.
    """

    def __init__(
        self,
        positive: Bool[np.ndarray, "n"],
        patches_per_epoch: int | None,
        positive_share: float,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        self.positives, self.negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
        whole = world_size * batch_size
        one_pass = int(np.ceil(len(self.positives) / positive_share / whole - 1e-9)) * whole
        self.patches = patches_per_epoch or one_pass
        self.positive_share = positive_share
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration draws; Lightning calls this."""
        self.epoch = epoch

    def draw_epoch(self, epoch: int) -> Int64[np.ndarray, "patch"]:
        """Draw the indices of the examples of all ranks in one epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        nodules = round(self.patches * self.positive_share)
        drawn = [_in_turn(self.positives, nodules, rng), _in_turn(self.negatives, self.patches - nodules, rng)]
        return np.asarray(rng.permutation(np.concatenate(drawn)))

    def __len__(self) -> int:
        return self.patches // self.world_size

    def __iter__(self) -> Iterator[int]:
        yield from self.draw_epoch(self.epoch)[self.rank : len(self) * self.world_size : self.world_size].tolist()


def _in_turn(members: Int64[np.ndarray, "_"], count: int, rng: np.random.Generator) -> Int64[np.ndarray, "_"]:
    rounds = -(-count // len(members))
    return np.concatenate([np.zeros(0, np.int64), *(rng.permutation(members) for _ in range(rounds))])[:count]


def _inside(candidates: Candidates, findings: Findings) -> Bool[np.ndarray, "n"]:
    inside = np.zeros(len(candidates), dtype=bool)
    inside[pairs_inside(Table.of_one_scan(candidates), Table.of_one_scan(findings))[1]] = True
    return inside
