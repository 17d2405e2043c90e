"""`nodule-phantom`: write a phantom data set."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._progress import progress
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.config.values import flag, seed, whole_number, workers
from nodule_lightning.errors import InputError


def main() -> None:
    """Run the command."""
    run_application(write, "phantom", path_keys=("output",))


def write(config: DictConfig) -> None:
    """Generate the phantoms and write the scans and csv files."""
    from nodule_lightning.phantom.dataset import PhantomDataset, write_dataset

    if config.trouble is None:
        raise InputError(
            "trouble must be numbers of scans by kind, not null; leave it out for none", "argument-invalid"
        )
    dataset = PhantomDataset(
        settings=instantiate(config.phantom),
        seed=seed(config),
        scans=whole_number(config, "scans"),
        trouble={str(kind): whole_number(config.trouble, kind) for kind in config.trouble},
        layout=str(config.layout),
    )
    output = Path(config.output)
    written = write_dataset(output, dataset, workers=workers(config), truth=flag(config, "truth"))
    nodules = sum(len(scan.nodules) for scan in progress(written, "phantoms", len(dataset)))
    print(f"{len(dataset)} scans with {nodules} nodules are in {output}")
