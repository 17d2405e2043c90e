"""Making phantoms, and preparing a full-size one."""

from functools import partial
from pathlib import Path

from hydra import compose, initialize_config_module

from experiments.bench.figures import Figure, figure, forget_peak, peak_mb, timed
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan

FULL_SIZE = ("phantom.slice_mm=[0.8,0.8]", "phantom.body_scale=[1,1]")


def phantoms(folder: Path) -> list[Figure]:
    """Make scans of the demo and of full size in one process; with one on each core, as many more come in that time."""
    figures = []
    for name, values, repeats in (("demo", (), 5), ("realistic", FULL_SIZE, 2)):
        with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
            settings = instantiate(compose("phantom", ["output=unused", f"phantom={name}", *values]).phantom)
        made = make_phantom(settings, 0, 0)
        forget_peak()
        seconds = timed(partial(make_phantom, settings, 0, 0), repeats, warm=False)
        shape = "x".join(map(str, made.scan.hu.shape))
        figures.append(figure(f"a phantom of {shape}, one process", seconds, "s"))
        figures.append(figure("its peak memory", [peak_mb()], "MB"))
    forget_peak()
    seconds = timed(lambda: write_entry(folder / "cache", prepare_scan(made.scan, PreparationSettings())), 3)
    figures.append(figure(f"preparing the phantom of {shape}", seconds, "s", "from memory to the cache"))
    figures.append(figure("its peak memory", [peak_mb()], "MB", "the scan and its masks, held beside, counted in"))
    return figures
