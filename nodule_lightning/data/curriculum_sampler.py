"""Which patches each epoch of a curriculum is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from torch.utils.data import Sampler

from nodule_lightning.curriculum import Curriculum
from nodule_lightning.data.sampler import PatchDraw, PatchSampler


class CurriculumSampler(Sampler[PatchDraw]):
    """Draw the patches of one rank, in each epoch by the rule of its stage.

    All epochs are as long as the longest of the stages', so that the number of steps of a run is known at its start.

    Args:
        diameter_mm: the nodules' diameters, for each training scan.
        curriculum: names the rules.
        seed: of all epochs.
        rank: of this process.
        world_size: number of processes; their draws are disjoint and equally many.
        batch_size: of each process.

    Attributes:
        patches_of_pass: patches of all ranks in the longest pass of a stage (see `PatchSampler`).
        patches: patches of all ranks in one epoch.
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
        self.curriculum = curriculum
        self.world_size = world_size
        self.epoch = 0
        place = (seed, rank, world_size, batch_size)
        own = [PatchSampler(diameter_mm, stage.sampler, *place) for stage in curriculum.stages]
        self.patches_of_pass = max(sampler.patches_of_pass for sampler in own)
        self.patches = max(sampler.patches for sampler in own)
        self._samplers = [
            PatchSampler(diameter_mm, replace(stage.sampler, patches_per_epoch=self.patches), *place)
            for stage in curriculum.stages
        ]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws; Lightning calls it."""
        self.epoch = epoch

    def of_epoch(self, epoch: int) -> PatchSampler:
        """Give the sampler of an epoch's stage, set to the epoch."""
        sampler = self._samplers[self.curriculum.index(epoch)]
        sampler.set_epoch(epoch)
        return sampler

    def __len__(self) -> int:
        return self.patches // self.world_size

    def __iter__(self) -> Iterator[PatchDraw]:
        yield from self.of_epoch(self.epoch)
