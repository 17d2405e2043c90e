"""`nodule-prepare`: turn raw CT into a cache."""

from pathlib import Path

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._instantiate import instantiate
from nodule_lightning.cli._values import workers
from nodule_lightning.errors import InputError

PATH_KEYS = ("cache", "data.root", "data.annotations", "data.excluded", "data.subsets")


def main() -> None:
    """Run the command."""
    run_application(prepare, "prepare", PATH_KEYS)


def prepare(config: DictConfig) -> None:
    """Prepare every scan of the data set; an error at the end says if some could not be."""
    from nodule_lightning.prepare import prepare_dataset

    if config.data.root is None:
        raise InputError("missing: data.root=DIR, the folder of the raw scans")
    dataset, settings = instantiate(config.data.layout), instantiate(config.preparation)
    summary = prepare_dataset(dataset, Path(config.cache), settings, workers(config))
    for note in summary.notes:
        print(f"note: {note}")
    for scan_id, reason in summary.failed.items():
        print(f"failed: {scan_id}: {reason}")
    print(
        f"{len(summary.prepared)} scans prepared, {len(summary.skipped)} were there already, "
        f"{len(summary.failed)} failed; the cache is {config.cache}"
    )
    if summary.failed:
        scan_id, reason = next(iter(summary.failed.items()))
        raise InputError(f"{len(summary.failed)} of {len(dataset.scans)} scans failed; {scan_id}: {reason}")
