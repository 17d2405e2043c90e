"""Sampler of a curriculum: the patches of each epoch, including those that hard-example mining repeats."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from torch.utils.data import Sampler

from nodule_lightning.data.bank import Bank
from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.sampler import PatchDraw, PatchDraws, drawn_mm


class CurriculumSampler(Sampler[PatchDraw]):
    """Draw the patches of one rank, in each epoch by the sampling rule of its stage.

    All epochs are as long as the longest one of any stage, so that the number of steps of a run is known at its start.
    Replayed draws (`Stage.replay_share`) are added to a complete pass.

    The draws of an epoch are a function of seed, epoch and the mined examples (`hardest`, `bank`), which are the same
    on every rank. A draw describes its patch completely, so that workers need no mined examples.

    Args:
        diameter_mm: diameters of the nodules of each training scan.
        curriculum: the stages with their sampling rules.
        seed: of all epochs.
        rank: of this process.
        world_size: number of processes; their draws are disjoint and equally many.
        batch_size: of each process.

    Attributes:
        patches_of_pass: patches of all ranks in the longest pass of any stage (see `PatchDraws`).
        patches: patches of all ranks in one epoch.
        hardest: draws of the last epoch, by falling loss.
        bank: false positives found in whole scans.
        drawn: draws of all ranks in the epoch that started last.
    """

    def __init__(
        self,
        diameter_mm: Sequence[Float64[np.ndarray, "_"]],
        curriculum: Curriculum,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        self.diameter_mm = diameter_mm
        self.curriculum = curriculum
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.whole = world_size * batch_size
        self.epoch = 0
        self.hardest: Sequence[PatchDraw] = ()
        self.bank = Bank.empty()
        self.drawn: Sequence[PatchDraw] = ()
        passes = [self._pass(stage) for stage in curriculum.stages]
        self.patches_of_pass = max(passes)
        wanted = [stage.sampler.patches_per_epoch for stage in curriculum.stages]
        self.patches = max(length or own for length, own in zip(wanted, passes, strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration draws; Lightning calls this."""
        self.epoch = epoch

    def draw_epoch(self, epoch: int) -> list[PatchDraw]:
        """Draw the patches of all ranks in one epoch."""
        stage = self.curriculum.stage(epoch)
        replayed = self._replayed(stage)
        fresh = self._draws(stage, self.patches - len(replayed)).of_epoch(epoch)
        rng = np.random.default_rng((self.seed, epoch, 1))
        self._draw_from_bank(fresh, stage.bank_share, rng)
        if not replayed:
            return fresh
        mixed = [*fresh, *replayed]
        return [mixed[place] for place in rng.permutation(len(mixed))]

    def drawn_mm(self, epoch: int) -> Float64[np.ndarray, "draw"]:
        """Return the diameters of the nodules that an epoch draws, one value for each draw in a whole batch."""
        return drawn_mm(self.draw_epoch(epoch)[: self.patches // self.whole * self.whole], self.diameter_mm)

    def __len__(self) -> int:
        return self.patches // self.world_size

    def __iter__(self) -> Iterator[PatchDraw]:
        self.drawn = self.draw_epoch(self.epoch)
        yield from self.drawn[self.rank : len(self) * self.world_size : self.world_size]

    def _draw_from_bank(self, draws: list[PatchDraw], share: float, rng: np.random.Generator) -> None:
        """Replace a share of the draws without a nodule by places of the bank."""
        negatives = [place for place, draw in enumerate(draws) if draw.finding_index < 0]
        count = round(share * len(negatives)) if len(self.bank) else 0
        if not count:
            return
        # Without replacement, as long as the bank is large enough.
        rows = rng.choice(len(self.bank), count, replace=count > len(self.bank), p=self.bank.chances())
        for place, row in zip(rng.choice(negatives, count, replace=False), rows, strict=True):
            z, y, x = self.bank.place_zyx[row].tolist()
            draws[place] = PatchDraw(int(self.bank.scan_index[row]), -1, draws[place].seed, (z, y, x))

    def _replayed(self, stage: Stage) -> Sequence[PatchDraw]:
        return self.hardest[: round(stage.replay_share * self.patches)]

    def _draws(self, stage: Stage, patches: int | None) -> PatchDraws:
        rule = replace(stage.sampler, patches_per_epoch=patches)
        return PatchDraws(self.diameter_mm, rule, self.seed, self.whole)

    def _pass(self, stage: Stage) -> int:
        patches = self._draws(stage, None).patches_of_pass
        return math.ceil(patches / (1 - stage.replay_share) / self.whole - 1e-9) * self.whole
