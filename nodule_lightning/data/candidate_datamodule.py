"""The LightningDataModule of the second stage: patches around candidates, from a cache and a csv file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from nodule_lightning.data.candidates import ClassedCandidates, ExampleDataset, Examples, ExampleSampler, read_by_scan
from nodule_lightning.data.datamodule import ScanDataModule, WholeScan
from nodule_lightning.data.patches import Patch
from nodule_lightning.errors import InputError


class CandidateDataModule(ScanDataModule):
    """Serve patches centred on candidates for training, and scans with their candidates for validation.

    The split is that of the detector's training with the same subsets, fraction and seed. Candidates of test scans are
    dropped when the file is read, so that training never sees one.

    Args:
        cache: folder that `nodule-prepare` wrote.
        candidates: csv file of a detector's candidates (`nodule-predict`), or LUNA16's `candidates_V2.csv`.
        epochs: number of epochs, unless the trainer sets another.
        patch_voxels: side of the patches.
        batch_size: patches of a batch on each device.
        patches_per_epoch: patches of all ranks together; None for the number that shows each nodule once.
        positive_share: share of nodules among them.
        with_nodules: train on the annotated nodules too, and not only on the candidates that lie in them.
        workers: processes that cut patches; 0 cuts them in the training process.
        test_subsets: subsets that training never sees.
        validation_fraction: share of the other scans that choose the checkpoint.
        seed: of the split and of the draws.
        unannotated_subsets: see `split_scans`.
        fill_outside_lungs: put the grey value 170 outside the lung mask.

    Raises:
        InputError: in `setup`, when the file cannot be read, holds no candidate of the validation scans, or leaves one
            of the two classes without a member to train on.
    """

    def __init__(
        self,
        cache: Path | str,
        candidates: Path | str,
        epochs: int = 20,
        patch_voxels: int = 32,
        batch_size: int = 64,
        patches_per_epoch: int | None = None,
        positive_share: float = 0.5,
        workers: int = 0,
        test_subsets: Sequence[str | int] = (),
        validation_fraction: float = 0.1,
        seed: int = 0,
        unannotated_subsets: Sequence[str | int] = (),
        *,
        with_nodules: bool = True,
        fill_outside_lungs: bool = True,
    ) -> None:
        super().__init__(cache, batch_size, workers, test_subsets, validation_fraction, seed, unannotated_subsets)
        if epochs < 1 or patch_voxels < 1:
            raise InputError(
                f"epochs and patch_voxels must be at least 1, not {epochs} and {patch_voxels}", "argument-invalid"
            )
        if not 0 < positive_share < 1:
            raise InputError(f"positive_share must lie between 0 and 1, not {positive_share}", "argument-invalid")
        if patches_per_epoch is not None and patches_per_epoch < batch_size:
            raise InputError(
                f"patches_per_epoch={patches_per_epoch} is less than one batch of {batch_size}; raise it",
                "argument-invalid",
            )
        self.candidates = Path(candidates)
        self.planned_epochs = epochs
        self.patch_voxels = patch_voxels
        self.patches_per_epoch = patches_per_epoch
        self.positive_share = positive_share
        self.with_nodules = with_nodules
        self.fill_outside_lungs = fill_outside_lungs
        self.listed: dict[str, ClassedCandidates]
        self.examples: Examples
        self.remarks: tuple[str, ...]

    @property
    def epochs(self) -> int:
        """The planned number of epochs, unless the trainer sets another."""
        return self.planned_epochs

    def setup(self, stage: str | None = None) -> None:
        """Split the scans, read the candidates of the training and validation scans, and gather the examples."""
        super().setup(stage)
        found = read_by_scan(self.candidates)
        wanted = (*self.split.train, *self.split.validation)
        self.listed = {scan_id: found[scan_id] for scan_id in wanted if scan_id in found}
        if not any(scan_id in self.listed for scan_id in self.split.validation):
            raise InputError(
                f"{self.candidates} has no candidate of the {len(self.split.validation)} validation scans, such as "
                f"{self.split.validation[0]}, which choose the checkpoint; search training and validation scans",
                "split-invalid",
            )
        self.examples = Examples.of_scans(self.catalog, self.split.train, self.listed, with_nodules=self.with_nodules)
        positives = int(self.examples.positive.sum())
        if not positives or positives == len(self.examples):
            missing = "is none" if positives else "is a nodule"
            raise InputError(
                f"of the {len(self.examples)} candidates of training scans in {self.candidates} not one {missing}: "
                "a classifier needs both classes; give the candidates of more training scans, or less probable ones",
                "annotations-missing",
            )
        self.remarks = tuple(self._remarks(found))

    def train_dataloader(self) -> DataLoader[Patch]:
        """Serve the patches of this rank."""
        for remark in self.remarks:
            rank_zero_info(remark)
        rank, world_size = self.rank()
        sampler = ExampleSampler(
            self.examples.positive,
            self.patches_per_epoch,
            self.positive_share,
            self.seed,
            rank,
            world_size,
            self.batch_size,
        )
        if len(sampler) < self.batch_size:
            raise InputError(
                f"patches_per_epoch={sampler.patches} is less than one batch of {self.batch_size} "
                f"on each of {world_size} devices; raise it",
                "argument-invalid",
            )
        dataset = ExampleDataset(
            self.catalog,
            self.split.train,
            self.examples,
            self.patch_voxels,
            fill_outside_lungs=self.fill_outside_lungs,
        )
        return self.patch_loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[WholeScan]:
        """Serve the validation scans of this rank with their candidates, each once."""
        candidates = {scan_id: listed.candidates for scan_id, listed in self.listed.items()}
        return self.whole_scans(self.split.validation, candidates)

    def _remarks(self, found: dict[str, ClassedCandidates]) -> Iterator[str]:
        """Describe how many candidates are trained on, and which are left out."""
        positive = self.examples.positive
        yield (f"{positive.sum()} nodules and {(~positive).sum()} other candidates to train on")
        left_out = {
            "of test scans, which training never sees,": self.split.test,
            "of scans that no set holds": tuple(set(found) - {*self.listed, *self.split.test}),
        }
        for what, scan_ids in left_out.items():
            count = sum(len(found[scan_id].candidates) for scan_id in scan_ids if scan_id in found)
            if count:
                yield (f"{count} candidates {what} are left out")
        bare = [scan_id for scan_id in self.split.validation if scan_id not in self.listed]
        if bare:
            yield (
                f"{len(bare)} of {len(self.split.validation)} validation scans have no candidate, such as {bare[0]}: "
                "this is right only if the detector searched them and found nothing"
            )
