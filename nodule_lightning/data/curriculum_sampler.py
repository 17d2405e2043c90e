"""Which patches each epoch of a curriculum is made of, those that mining brings back among them."""

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
    """Draw the patches of one rank, in each epoch by the rule of its stage.

    All epochs are as long as the longest of the stages', so that the number of steps of a run is known at its start.
    What comes back (`Stage.replay_share`) comes on top of a whole pass.

    The draws of an epoch are a function of seed, epoch and what mining has left here, which is the same on every rank.
    Workers are told each draw whole, and need to know of no mining.

    Args:
        diameter_mm: the nodules' diameters, for each training scan.
        curriculum: names the rules.
        seed: of all epochs.
        rank: of this process.
        world_size: number of processes; their draws are disjoint and equally many.
        batch_size: of each process.

    Attributes:
        patches_of_pass: patches of all ranks in the longest pass of a stage (see `PatchDraws`).
        patches: patches of all ranks in one epoch.
        hardest: draws of the last epoch, the hardest first.
        bank: false positives of whole scans.
        drawn: draws of all ranks in the epoch that was begun last.
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
        """Choose the epoch that the next iteration draws; Lightning calls it."""
        self.epoch = epoch

    def draw_epoch(self, epoch: int) -> list[PatchDraw]:
        """Draw the patches of all ranks."""
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
        """Give the diameters of the nodules that an epoch draws and cuts, each as often as it is drawn."""
        return drawn_mm(self.draw_epoch(epoch)[: self.patches // self.whole * self.whole], self.diameter_mm)

    def __len__(self) -> int:
        return self.patches // self.world_size

    def __iter__(self) -> Iterator[PatchDraw]:
        self.drawn = self.draw_epoch(self.epoch)
        yield from self.drawn[self.rank : len(self) * self.world_size : self.world_size]

    def _draw_from_bank(self, draws: list[PatchDraw], share: float, rng: np.random.Generator) -> None:
        """Put places of the bank where a share of the draws without a nodule are."""
        negatives = [place for place, draw in enumerate(draws) if draw.finding_index < 0]
        count = round(share * len(negatives)) if len(self.bank) else 0
        if not count:
            return
        # None twice, as long as there are enough.
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
