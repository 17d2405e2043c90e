"""`nodule-plant`: plant nodules in copies of real scans."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._progress import progress
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.config.values import flag, seed
from nodule_lightning.errors import IncompleteError


def main() -> None:
    """Run the command."""
    run_application(
        write, "plant", ("input", "output", "annotations", "excluded"), optional_paths=("annotations", "excluded")
    )


def write(config: DictConfig) -> None:
    """Write the planted scans and the csv files; raise an error at the end if some scans failed."""
    from nodule_lightning.phantom.planted_dataset import PlantedScan, PlantSource, plant_dataset
    from nodule_lightning.structures import Failure

    seed(config)
    settings = instantiate(config.plant)
    reading = instantiate(config.reading)
    source = PlantSource(Path(config.input), _path(config.annotations), _path(config.excluded), reading)
    output = Path(config.output)
    total = len(source) * settings.copies
    outcomes = list(progress(plant_dataset(source, output, settings, truth=flag(config, "truth")), "planting", total))
    written = [scan for scan in outcomes if isinstance(scan, PlantedScan)]
    failed = [scan for scan in outcomes if isinstance(scan, Failure)]
    for scan in failed:
        print(f"failed: {scan.scan_id}: {scan.reason}")
    nodules = sum(len(scan.nodules) for scan in written)
    print(f"{len(written)} scans with {nodules} planted nodules are in {output}")
    if failed:
        raise IncompleteError(f"{len(failed)} of {len(source)} scans failed; {failed[0].scan_id}: {failed[0].reason}")


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
