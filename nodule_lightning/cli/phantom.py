"""`nodule-phantom`: write a phantom data set."""

import os
from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._instantiate import instantiate
from nodule_lightning.cli._progress import progress


def main() -> None:
    """Run the command."""
    run_application(write, "phantom", path_keys=("output",))


def write(config: DictConfig) -> None:
    """Write the scans and csv files."""
    from nodule_lightning.phantom.dataset import write_dataset

    output = Path(config.output)
    written = write_dataset(
        output, config.scans, config.seed, instantiate(config.phantom), config.workers or os.cpu_count() or 1
    )
    nodules = sum(len(scan.nodules) for scan in progress(written, "phantoms", config.scans))
    print(f"{config.scans} scans with {nodules} nodules are in {output}")
