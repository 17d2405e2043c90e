"""LightningDataModules: a cache split into three sets, patches for training, whole scans for validation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset, Sampler

from nodule_lightning.cache.catalog import Catalog, Split, split_scans
from nodule_lightning.cache.entries import read_settings
from nodule_lightning.data.curriculum import Curriculum
from nodule_lightning.data.curriculum_sampler import CurriculumSampler
from nodule_lightning.data.patches import Patch, PatchBatch, PatchDataset, collate
from nodule_lightning.errors import InputError
from nodule_lightning.structures import Candidates, Entry, Findings


@dataclass(frozen=True, slots=True)
class WholeScan:
    """One scan to be searched and scored.

    Attributes:
        index: in its set, by which the metric recognises a scan that two ranks have searched.
        entry: the prepared scan.
        nodules: the annotations.
        excluded: findings on which a candidate counts neither way.
        candidates: those that a second stage scores again.
    """

    index: int
    entry: Entry
    nodules: Findings
    excluded: Findings
    candidates: Candidates = field(default_factory=Candidates.empty)

    def to(self, device: torch.device) -> Self:
        """Return itself: the search moves what it needs to the device; Lightning calls this."""
        return self


class WholeScanDataset(Dataset[WholeScan]):
    """The scans of one set, in order, with their candidates for a second stage."""

    def __init__(
        self, catalog: Catalog, scan_ids: Sequence[str], candidates: Mapping[str, Candidates] | None = None
    ) -> None:
        self.catalog = catalog
        self.scan_ids = tuple(scan_ids)
        self.candidates = candidates or {}

    def __len__(self) -> int:
        return len(self.scan_ids)

    def __getitem__(self, index: int) -> WholeScan:
        scan_id = self.scan_ids[index]
        return WholeScan(
            index,
            self.catalog.entry(scan_id),
            self.catalog.nodules(scan_id),
            self.catalog.excluded(scan_id),
            self.candidates.get(scan_id, Candidates.empty()),
        )


class LateLoader(DataLoader[Patch]):
    """A DataLoader that starts an epoch when its first batch is requested.

    In a resumed run Lightning creates the iterator of the first epoch before it calls `set_epoch` of the sampler.
    Workers would start at once, with the draws of epoch 0.
    """

    def __iter__(self) -> Iterator[PatchBatch]:  # type: ignore[override]
        yield from super().__iter__()


class RankStride(Sampler[int]):
    """Assign each rank every n-th scan, without padding to equal counts.

    With fewer scans than ranks, a rank without a scan repeats one of another rank: Lightning skips the loop of a rank
    without batches, and the others would wait for it forever. The metric counts a repeated scan once.
    """

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self.indices = range(rank % max(min(count, world_size), 1), count, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def patch_sampler(trainer: pl.Trainer) -> CurriculumSampler:
    """Return the sampler of the training patches during a fit."""
    sampler: object = getattr(trainer.train_dataloader, "sampler", None)
    assert isinstance(sampler, CurriculumSampler)
    return sampler


class ScanDataModule(pl.LightningDataModule, ABC):
    """A cache split into three sets of scans, for a Trainer made with `use_distributed_sampler=False`.

    Args:
        cache: folder that `nodule-prepare` wrote.
        batch_size: patches of a training batch on each device.
        workers: processes that cut patches; 0 cuts them in the training process.
        test_subsets: subsets that training never sees.
        validation_fraction: share of the other scans that choose the checkpoint.
        seed: of the split and of the draws.
        unannotated_subsets: see `split_scans`.

    Raises:
        InputError: in `setup`, if a set that is needed holds no scan.
    """

    def __init__(
        self,
        cache: Path | str,
        batch_size: int,
        workers: int,
        test_subsets: Sequence[str | int],
        validation_fraction: float,
        seed: int,
        unannotated_subsets: Sequence[str | int],
    ) -> None:
        super().__init__()
        if batch_size < 1 or workers < 0:
            raise InputError(
                f"batch_size must be at least 1 and workers not negative, not {batch_size} and {workers}",
                "argument-invalid",
            )
        self.cache = Path(cache)
        self.batch_size = batch_size
        self.workers = workers
        self.test_subsets = tuple(test_subsets)
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.unannotated_subsets = tuple(unannotated_subsets)
        self.catalog: Catalog
        self.split: Split
        self.preparation: dict[str, Any]

    @property
    @abstractmethod
    def epochs(self) -> int:
        """The number of epochs that the training is planned for."""
        ...

    def setup(self, stage: str | None = None) -> None:
        """Open the cache, split its scans and read its preparation settings: `catalog`, `split`, `preparation`."""
        self.catalog = Catalog.open(self.cache)
        self.preparation = read_settings(self.cache)
        self.split = split_scans(
            self.catalog, self.test_subsets, self.validation_fraction, self.seed, self.unannotated_subsets
        )
        for scan_id in (*self.split.train, *self.split.validation):
            # Open each entry once, so that a damaged one stops the run at its start and not hours later.
            self.catalog.entry(scan_id)
        needed = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        for name in needed.get(stage or "fit", ()):
            if not getattr(self.split, name):
                raise InputError(
                    f"no scan of {self.cache} is left for {name} (test_subsets={list(self.test_subsets)}, "
                    f"validation_fraction={self.validation_fraction}); change these or prepare more scans",
                    "split-invalid",
                )

    def patch_loader(self, dataset: Dataset[Patch], sampler: Sampler[Any]) -> DataLoader[Patch]:
        """Return a loader of the patches that the sampler draws, in whole batches."""
        return LateLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
            persistent_workers=self.workers > 0,
        )

    def whole_scans(
        self, scan_ids: Sequence[str], candidates: Mapping[str, Candidates] | None = None
    ) -> DataLoader[WholeScan]:
        """Return a loader of the scans of this rank, each once."""
        sampler = RankStride(len(scan_ids), *self.rank())
        return DataLoader(WholeScanDataset(self.catalog, scan_ids, candidates), batch_size=None, sampler=sampler)

    def rank(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


class NoduleDataModule(ScanDataModule):
    """Patches for training a detector, and whole scans for validation and test.

    Args:
        cache: folder that `nodule-prepare` wrote.
        curriculum: the stages with their sampling rules.
        patch_voxels: side of the training patches, a multiple of the network's total stride.
        batch_size: patches of a batch on each device.
        workers: processes that cut patches; 0 cuts them in the training process.
        test_subsets: subsets that training never sees.
        validation_fraction: share of the other scans that choose the checkpoint.
        seed: of the split and of the draws.
        unannotated_subsets: see `split_scans`.
        fill_outside_lungs: see `PatchDataset`.
        border_voxels: see `PatchDataset`.

    Raises:
        InputError: in `setup`, when a set that is needed holds no scan.
    """

    def __init__(
        self,
        cache: Path | str,
        curriculum: Curriculum,
        patch_voxels: int = 96,
        batch_size: int = 8,
        workers: int = 0,
        test_subsets: Sequence[str | int] = (),
        validation_fraction: float = 0.1,
        seed: int = 0,
        unannotated_subsets: Sequence[str | int] = (),
        *,
        fill_outside_lungs: bool = True,
        border_voxels: float = 8.0,
    ) -> None:
        super().__init__(cache, batch_size, workers, test_subsets, validation_fraction, seed, unannotated_subsets)
        if patch_voxels < 16 or patch_voxels % 16:
            raise InputError(f"patch_voxels must be a multiple of 16, not {patch_voxels}", "argument-invalid")
        self.curriculum = curriculum
        self.patch_voxels = patch_voxels
        self.fill_outside_lungs = fill_outside_lungs
        self.border_voxels = border_voxels

    @property
    def epochs(self) -> int:
        """The number of epochs of the curriculum."""
        return self.curriculum.epochs

    def setup(self, stage: str | None = None) -> None:
        """Check the length of the epochs, and split the scans; see `ScanDataModule`."""
        lengths = [stage.sampler.patches_per_epoch for stage in self.curriculum.stages]
        if None not in lengths and (longest := max(length or 0 for length in lengths)) < self.batch_size:
            raise InputError(
                f"patches_per_epoch={longest} is less than one batch of {self.batch_size}; raise it", "argument-invalid"
            )
        super().setup(stage)

    def train_dataloader(self) -> DataLoader[Patch]:
        """Return a loader of the patches of this rank."""
        dataset = PatchDataset(
            self.catalog,
            self.split.train,
            self.patch_voxels,
            fill_outside_lungs=self.fill_outside_lungs,
            border_voxels=self.border_voxels,
        )
        diameters_mm = dataset.diameters_mm()
        sampler = CurriculumSampler(diameters_mm, self.curriculum, self.seed, *self.rank(), self.batch_size)
        if len(sampler) < self.batch_size:
            raise InputError(
                f"patches_per_epoch={sampler.patches} is less than one batch of {self.batch_size} "
                f"on each of {sampler.world_size} devices; raise it",
                "argument-invalid",
            )
        marked = sum(len(self.catalog.nodules(scan_id)) for scan_id in self.split.train)
        if hidden := marked - sum(map(len, diameters_mm)):
            rank_zero_info(f"{hidden} of {marked} training nodules lie outside the lung mask and are not drawn")
        if sampler.patches < sampler.patches_of_pass:
            rank_zero_info(
                f"patches_per_epoch={sampler.patches} is less than one pass of {sampler.patches_of_pass}: "
                "not every nodule is drawn in each epoch; null draws one pass"
            )
        return self.patch_loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[WholeScan]:
        """Return a loader of the validation scans of this rank, each once."""
        return self.whole_scans(self.split.validation)

    def test_dataloader(self) -> DataLoader[WholeScan]:
        """Return a loader of the test scans of this rank, each once."""
        return self.whole_scans(self.split.test)
