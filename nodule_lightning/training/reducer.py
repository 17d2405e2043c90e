"""The LightningModule of the second stage, a classifier that reduces the false positives of a detector."""

from typing import Any

from torch import Tensor, nn

from nodule_lightning.boxes import NODULE
from nodule_lightning.data.augment import Augment
from nodule_lightning.data.datamodule import WholeScan
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.losses.classification import ClassificationLoss
from nodule_lightning.metrics.froc import FROC
from nodule_lightning.models.classifier import CandidateClassifier
from nodule_lightning.search.rescoring import RULES, RescoringSettings, combined, reducer_probability
from nodule_lightning.training.module import OptimizerFactory, ScoredModule
from nodule_lightning.training.schedule import Schedule

DETECTOR = "detector"
"""Name of the score of the detector's candidates before rescoring."""


class FalsePositiveReducer(ScoredModule):
    """Train a classifier on patches around candidates, and score the rescored candidates of whole scans.

    The rule in `rescoring` gives `val/froc`, which selects the checkpoint. Each validation also logs `val/froc_NAME`
    for every other rule, and `val/froc_detector` for the candidates before rescoring: the baseline of the second stage.

    Args:
        network: maps normalised patches to logits.
        loss: classification loss.
        augment: augmentation of the patches.
        rescoring: how candidates are classified, and how both probabilities are combined.
        optimizer: creates the optimizer from the parameters.
        schedule: learning rate over the steps of the fit; None keeps it constant.
        recipe: plain values from which the network can be rebuilt; saved in the checkpoint.
        seed: of augmentation and dropout.

    Raises:
        InputError: the patches do not fit the network.
        FloatingPointError: in training, on every rank, when a loss is not finite; the message names the scans of the
            batch.
    """

    def __init__(
        self,
        network: CandidateClassifier,
        loss: ClassificationLoss,
        augment: Augment,
        rescoring: RescoringSettings,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        recipe: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        network.require_patch(rescoring.patch_voxels)
        super().__init__(network, augment, optimizer, schedule, None, recipe, seed)
        self.network: CandidateClassifier
        self.loss = loss
        self.rescoring = rescoring
        self.other_scores = nn.ModuleDict({name: FROC() for name in (DETECTOR, *RULES) if name != rescoring.combine})

    @property
    def spacing_mm(self) -> float:
        """Voxel spacing that the classifier expects, in mm."""
        return self.network.spacing_mm

    def training_step(self, batch: PatchBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of the batch, and the loss of each patch as `patch_loss`."""
        augmented = self.augment(batch, self.seed_draws(batch_idx))
        # Augmentation keeps the centre of a patch, so the labels before it still hold.
        positive = (batch.kind == NODULE).any(dim=1)
        terms = self.loss(self.network(augmented.image), positive)
        self.require_finite(terms, batch)
        self.log_loss({"total": terms.total, "positive": terms.positive, "negative": terms.negative}, batch)
        return {"loss": terms.total, "patch_loss": terms.patch}

    def validation_step(self, scan: WholeScan, batch_idx: int) -> None:
        """Rescore the candidates of one whole scan and add them to the score of each rule."""
        probability = reducer_probability(self.network, scan.entry, scan.candidates, self.rescoring)
        for name, score in [(self.rescoring.combine, self.froc), *self.other_scores.items()]:
            assert isinstance(score, FROC)
            candidates = scan.candidates if name == DETECTOR else combined(scan.candidates, probability, name)
            score.update(scan.index, candidates, scan.nodules, scan.excluded)

    def on_validation_epoch_end(self) -> None:
        """Log the FROC score of every rule and of the candidates before rescoring."""
        super().on_validation_epoch_end()
        for name, score in self.other_scores.items():
            assert isinstance(score, FROC)
            self.log(f"val/froc_{name}", score.compute()["froc"], sync_dist=True, reduce_fx="max")
            score.reset()
