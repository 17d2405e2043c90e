"""`nodule-phantom`: write a phantom data set."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._instantiate import instantiate
from nodule_lightning.cli._progress import progress
from nodule_lightning.cli._values import seed, whole_number, workers


def main() -> None:
    """Run the command."""
    run_application(write, "phantom", path_keys=("output",))


def write(config: DictConfig) -> None:
    """Write the scans and csv files."""
    from nodule_lightning.phantom.dataset import write_dataset

    output, scans = Path(config.output), whole_number(config, "scans", least=1)
    written = write_dataset(output, scans, seed(config), instantiate(config.phantom), workers(config))
    nodules = sum(len(scan.nodules) for scan in progress(written, "phantoms", scans))
    print(f"{scans} scans with {nodules} nodules are in {output}")
