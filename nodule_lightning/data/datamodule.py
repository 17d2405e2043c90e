"""The LightningDataModules: a prepared cache in three sets; patches for training, whole scans for validation."""

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
        index: place among the scans of its set, so that the metric knows a scan that comes twice.
        entry: the prepared scan.
        nodules: to be found.
        excluded: neither right nor wrong.
        candidates: what a second stage looks at again.
    """

    index: int
    entry: Entry
    nodules: Findings
    excluded: Findings
    candidates: Candidates = field(default_factory=Candidates.empty)

    def to(self, device: torch.device) -> Self:
        """Stay where it is: the search moves to the device what it needs; Lightning calls this."""
        return self


class WholeScanDataset(Dataset[WholeScan]):
    """The scans of one set, in order, with the candidates that are known of them."""

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
    """Begin an epoch when its first batch is asked for, not before.

    Lightning opens the iterator of a resumed run's first epoch before it tells the sampler which epoch it is, and
    workers would begin at once, with the draws of epoch 0.
    """

    def __iter__(self) -> Iterator[PatchBatch]:  # type: ignore[override]
        yield from super().__iter__()


class RankStride(Sampler[int]):
    """Give each rank its own scans, without repeating any to make the counts equal.

    A rank that would have none searches one of another's again, because Lightning leaves the loop of a rank without
    batches out, and the others would wait for it. The metric counts a scan that comes twice once.
    """

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self.indices = range(rank % max(min(count, world_size), 1), count, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def patch_sampler(trainer: pl.Trainer) -> CurriculumSampler:
    """Give the sampler of a fit's training patches."""
    sampler: object = getattr(trainer.train_dataloader, "sampler", None)
    assert isinstance(sampler, CurriculumSampler)
    return sampler


class ScanDataModule(pl.LightningDataModule, ABC):
    """A prepared cache in three sets of scans, for a Trainer made with `use_distributed_sampler=False`.

    Args:
        cache: folder that `nodule-prepare` wrote.
        batch_size: patches of a training batch on each device.
        workers: processes that cut patches; 0 cuts them in the training process.
        test_subsets: subsets that training never sees.
        validation_fraction: share of the other scans that choose the checkpoint.
        seed: of the split and of the draws.
        unannotated_subsets: see `split_scans`.

    Raises:
        InputError: in `setup`, when a set that is needed holds no scan.
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
            raise InputError(f"batch_size must be at least 1 and workers not negative, not {batch_size} and {workers}")
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
        """Count the epochs that the training is planned for."""
        ...

    def setup(self, stage: str | None = None) -> None:
        """Open the cache as `catalog`, split its scans as `split`, and read the settings of its `preparation`."""
        self.catalog = Catalog.open(self.cache)
        self.preparation = read_settings(self.cache)
        self.split = split_scans(
            self.catalog, self.test_subsets, self.validation_fraction, self.seed, self.unannotated_subsets
        )
        for scan_id in (*self.split.train, *self.split.validation):
            # A damaged entry is found before hours were spent, not in the middle of them.
            self.catalog.entry(scan_id)
        needed = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        for name in needed.get(stage or "fit", ()):
            if not getattr(self.split, name):
                raise InputError(
                    f"no scan of {self.cache} is left for {name} (test_subsets={list(self.test_subsets)}, "
                    f"validation_fraction={self.validation_fraction}); change these or prepare more scans"
                )

    def patch_loader(self, dataset: Dataset[Patch], sampler: Sampler[Any]) -> DataLoader[Patch]:
        """Serve the patches that the sampler draws, in whole batches."""
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
        """Serve the scans of this rank, each once."""
        sampler = RankStride(len(scan_ids), *self.rank())
        return DataLoader(WholeScanDataset(self.catalog, scan_ids, candidates), batch_size=None, sampler=sampler)

    def rank(self) -> tuple[int, int]:
        """Give the rank of this process, and the number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


class NoduleDataModule(ScanDataModule):
    """Serve patches, and whole scans to be searched.

    Args:
        cache: folder that `nodule-prepare` wrote.
        curriculum: names what each epoch is made of.
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
            raise InputError(f"patch_voxels must be a multiple of 16, not {patch_voxels}")
        self.curriculum = curriculum
        self.patch_voxels = patch_voxels
        self.fill_outside_lungs = fill_outside_lungs
        self.border_voxels = border_voxels

    @property
    def epochs(self) -> int:
        """Count the epochs of the curriculum."""
        return self.curriculum.epochs

    def setup(self, stage: str | None = None) -> None:
        """Prepare the sets; see `ScanDataModule`."""
        lengths = [stage.sampler.patches_per_epoch for stage in self.curriculum.stages]
        if None not in lengths and (longest := max(length or 0 for length in lengths)) < self.batch_size:
            raise InputError(f"patches_per_epoch={longest} is less than one batch of {self.batch_size}; raise it")
        super().setup(stage)

    def train_dataloader(self) -> DataLoader[Patch]:
        """Serve the patches of this rank."""
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
                f"on each of {sampler.world_size} devices; raise it"
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
        """Serve the validation scans of this rank, each once."""
        return self.whole_scans(self.split.validation)

    def test_dataloader(self) -> DataLoader[WholeScan]:
        """Serve the test scans of this rank, each once."""
        return self.whole_scans(self.split.test)
