"""Time training steps in one of several processes that torchrun has started; rank 0 prints the result.

torchrun --nproc-per-node 2 --module experiments.scaling.steps CACHE [KEY=VALUE ...]
"""

import json
import os
import sys
import warnings
from pathlib import Path
from statistics import median

import torch
from torch import distributed

from experiments.bench.figures import timed
from experiments.bench.training import StepClock, composed, short_trainer
from nodule_lightning.cli.train import decided
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.training.quiet import silence_tips

STEPS, EXCHANGES = 10, 20


def main() -> None:
    """Train a few steps of the full-size network, then time the all-reduce of its gradients alone."""
    cache, overrides = Path(sys.argv[1]), sys.argv[2:]
    silence_tips()
    warnings.filterwarnings("ignore")
    config = composed(cache, "datamodule.workers=0", *overrides, experiment="luna16")
    module, datamodule = instantiate(config.module), instantiate(config.datamodule)
    processes = int(os.environ["WORLD_SIZE"])
    precision = decided({"accelerator": "auto", "precision": config.trainer.precision})["precision"]
    clock = StepClock()
    short_trainer(clock, STEPS, precision, processes).fit(module, datamodule)
    size = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    exchange_s = 0.0
    if processes > 1:
        gradients = torch.zeros(size, device=module.device)
        exchange_s = median(timed(lambda: distributed.all_reduce(gradients), EXCHANGES))
    if not int(os.environ["RANK"]):
        taken = [step + wait for step, wait in zip(clock.seconds, clock.waits, strict=True)]
        # The first steps allocate the optimizer's state.
        told = {"step_s": median(taken[2:]), "gradient_bytes": 4 * size, "exchange_s": exchange_s}
        print(json.dumps({**told, "batch": datamodule.batch_size, "patch": datamodule.patch_voxels}))


if __name__ == "__main__":
    main()
