"""How fast is the full-size training on this machine, and how long would a fold of LUNA16 take?

    python -m experiments.speed outputs/speed [KEY=VALUE ...]

Trains a few steps of `experiment=luna16` on realistic phantoms, which are made if the folder has none. The
overrides are those of `nodule-train`. Uses a GPU if there is one.
"""

import os
import sys
import warnings
from pathlib import Path
from statistics import median

import torch

from experiments.bench.training import composed, phantom_cache, time_steps
from nodule_lightning.training.quiet import silence_tips

STEPS = 12
FOLD_PATCHES = 300_000


def main() -> None:
    """Measure, and print one line for each figure."""
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    silence_tips()
    warnings.filterwarnings("ignore")
    cache = folder / "cache"
    if not cache.exists():
        phantom_cache(folder, "realistic")
    config = composed(cache, *overrides, experiment="luna16")
    times = time_steps(config, STEPS)
    step, wait = median(times.steps), median(times.waits)
    rate = config.datamodule.batch_size / (step + wait)
    cuda = torch.cuda.is_available()
    print("device:", torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores", times.precision)
    print(f"patches of {config.datamodule.patch_voxels}^3 in a second: {rate:.3g}")
    print(f"hours for {FOLD_PATCHES} patches: {FOLD_PATCHES / rate / 3600:.3g}")
    print(f"training step / bare forward and backward: {step / median(times.bare):.3g}")
    print(f"share of the time spent waiting for a batch: {wait / (step + wait):.3g}")
    print(f"share of the bf16 matrix rate: {times.flops / step / times.machine_flops:.3g}")


if __name__ == "__main__":
    main()
