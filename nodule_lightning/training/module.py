"""The LightningModule of the detector, and its base class, which scores whole scans by FROC."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

import nodule_lightning
from nodule_lightning.data.augment import Augment, AugmentedBatch
from nodule_lightning.data.curriculum import Curriculum
from nodule_lightning.data.datamodule import ScanDataModule, WholeScan
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.detection.assignment import Assigner, Assignment
from nodule_lightning.detection.outlines import OutlineAssigner
from nodule_lightning.errors import InputError
from nodule_lightning.losses.hard_mining import LossTerms
from nodule_lightning.metrics.froc import FROC
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.search.inference import InferenceSettings, detect
from nodule_lightning.training.checkpoint import CHECKPOINT_KEY
from nodule_lightning.training.schedule import Schedule, scheduler

OptimizerFactory = Callable[[Iterator[Parameter]], Optimizer]


class ScoredModule(pl.LightningModule):
    """Base class of modules that train on patches and are scored by the FROC of whole validation scans.

    The score is logged as `val/froc`, which selects the best checkpoint.

    Args:
        network: the network to train.
        augment: augmentation of the patches.
        optimizer: creates the optimizer from the parameters.
        schedule: learning rate over the steps of the fit; None keeps it constant.
        curriculum: learning rate factor of each epoch; None leaves the rate alone.
        recipe: plain values from which the network can be rebuilt; saved in the checkpoint.
        seed: of augmentation and dropout.
    """

    def __init__(
        self,
        network: nn.Module,
        augment: Augment,
        optimizer: OptimizerFactory,
        schedule: Schedule | None,
        curriculum: Curriculum | None,
        recipe: dict[str, Any] | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.augment = augment
        self.optimizer = optimizer
        self.schedule = schedule
        self.curriculum = curriculum
        self.recipe = recipe or {}
        self.seed = seed
        self.froc = FROC()

    @property
    @abstractmethod
    def spacing_mm(self) -> float:
        """Voxel spacing that the network expects, in mm."""
        ...

    def on_validation_epoch_end(self) -> None:
        """Log the FROC score; the metric itself gathers the scans of all ranks."""
        for name, value in self.froc.compute().items():
            # All ranks hold the same value; a mean of three can differ in the last digit, a maximum cannot.
            self.log(f"val/{name}", value, prog_bar=name == "froc", sync_dist=True, reduce_fx="max")
        self.froc.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create the optimizer and a learning rate scheduler over all steps of the fit."""
        optimizer = self.optimizer(self.parameters())
        total_steps = int(self.trainer.estimated_stepping_batches)
        # num_training_batches needs the loader, which Lightning has created here only if the fit is limited by epochs.
        self.trainer.fit_loop.setup_data()
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        made = scheduler(optimizer, self.schedule, self.curriculum, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": made, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the version, the network recipe and the preparation settings to the checkpoint."""
        datamodule = getattr(self.trainer, "datamodule", None)
        checkpoint[CHECKPOINT_KEY] = {
            "version": nodule_lightning.__version__,
            "model": self.recipe,
            "preparation": datamodule.preparation if isinstance(datamodule, ScanDataModule) else {},
        }

    def seed_draws(self, batch_idx: int) -> torch.Generator:
        """Return a generator that depends only on seed, epoch, batch and rank, so that a resumed run repeats its draws.

        Dropout uses the global generator, which is seeded from the same four numbers but independently: otherwise
        mirroring and dropout would be correlated.
        """
        origin = np.random.SeedSequence((self.seed, self.current_epoch, batch_idx, self.global_rank))
        own, of_process = origin.generate_state(2, np.uint64).tolist()
        torch.manual_seed(of_process)
        return torch.Generator(self.device).manual_seed(own)

    def require_finite(self, terms: LossTerms, batch: PatchBatch) -> None:
        """Stop the training when the loss is not finite.

        Raises:
            FloatingPointError: on every rank; the message names the scans of the batch.
        """
        # The loss is reduced over all ranks, so they all stop together; a single one would leave the others waiting.
        if torch.isfinite(terms.total):
            return
        batches = [batch.scan_id] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(batches, batch.scan_id)
        scans = ", ".join(sorted({scan_id for scan_ids in batches for scan_id in scan_ids}))
        raise FloatingPointError(
            f"the loss is {terms.total.item()} in step {self.global_step}, in a batch of the scans {scans}; "
            "lower the learning rate or clip the gradient"
        )

    def log_loss(self, values: Mapping[str, Tensor], batch: PatchBatch) -> None:
        """Log the terms of the loss in each step; the progress bar shows `total`."""
        for name, value in values.items():
            self.log(
                f"loss/{name}",
                value.detach(),
                prog_bar=name == "total",
                on_step=True,
                on_epoch=False,
                batch_size=len(batch),
            )


class NoduleDetector(ScoredModule):
    """Train a detector on patches and score it on whole scans.

    Args:
        network: maps normalised images to output maps.
        assigner: decides which anchors are positive.
        curriculum: loss and learning rate factor of each epoch.
        augment: augmentation of the patches.
        inference: settings of the search of whole scans.
        optimizer: creates the optimizer from the parameters.
        schedule: learning rate over the steps of the fit; None keeps it constant.
        recipe: plain values from which the network can be rebuilt; saved in the checkpoint.
        seed: of augmentation, negative sampling and dropout.

    Raises:
        InputError: the assigner does not match the network's head.
        FloatingPointError: in training, on every rank, when a loss is not finite; the message names the scans of the
            batch.
    """

    def __init__(
        self,
        network: DetectionNetwork,
        assigner: Assigner,
        curriculum: Curriculum,
        augment: Augment,
        inference: InferenceSettings,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        recipe: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        _require_match(network, assigner)
        super().__init__(network, augment, optimizer, schedule, curriculum, recipe, seed)
        self.network: DetectionNetwork
        self.curriculum: Curriculum
        self.assigner = assigner
        self.inference = inference

    @property
    def spacing_mm(self) -> float:
        """Voxel spacing that the anchors expect, in mm."""
        return self.network.anchors.spacing_mm

    def training_step(self, batch: PatchBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of the batch, and the loss of each patch as `patch_loss`."""
        generator = self.seed_draws(batch_idx)
        augmented = self.augment(batch, generator)
        maps = self.network(augmented.image, augmented.position)
        anchors = self.network.anchors.boxes(maps.shape[1:4], maps.device)
        loss = self.curriculum.stage(self.current_epoch).loss
        terms = loss(maps, self._assign(anchors, augmented), generator)
        self.require_finite(terms, batch)
        parts = {"total": terms.total, "positive": terms.positive, "negative": terms.negative, "box": terms.box}
        self.log_loss(parts, batch)
        return {"loss": terms.total, "patch_loss": terms.patch}

    def _assign(self, anchors: Tensor, batch: AugmentedBatch) -> Assignment:
        if not isinstance(self.assigner, OutlineAssigner):
            return self.assigner(anchors, batch.boxes, batch.kind)
        if batch.outlines is None:
            raise InputError(
                "assign=outlines needs scans with readers' outlines, and this cache has scans without; prepare them "
                "with data=lidc, or take assign=spheres",
                "annotations-missing",
            )
        return self.assigner(anchors, batch.boxes, batch.kind, batch.outlines)

    def validation_step(self, scan: WholeScan, batch_idx: int) -> None:
        """Search one whole scan and add its candidates to the score."""
        candidates = detect(self.network, scan.entry, self.inference)
        self.froc.update(scan.index, candidates, scan.nodules, scan.excluded)


def _require_match(network: DetectionNetwork, assigner: Assigner) -> None:
    nothing = torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.int8)
    given = assigner(network.anchors.boxes((1, 1, 1)), *nothing).target.shape[-1]
    if given != network.numbers - 1:
        raise InputError(
            f"{type(assigner).__name__} is for another kind of head than {type(network).__name__}'s: "
            "assign=spheres, assign=outlines and loss=segmentation are for segmentations, the others for anchors",
            "argument-conflict",
        )
