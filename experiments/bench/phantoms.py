"""Generation of phantoms, and preparation of a full-size one."""

from functools import partial
from pathlib import Path

from hydra import compose, initialize_config_module

import nodule_lightning as nl
from experiments.bench.figures import Figure, figure, forget_peak, peak_mb, timed
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.phantom.scan import make_phantom

FULL_SIZE = ("phantom.slice_mm=[0.8,0.8]", "phantom.body_scale=[1,1]")


def phantoms(folder: Path) -> list[Figure]:
    """Make phantoms of the demo and of full size in one process, and prepare the full-size one."""
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
    seconds = timed(lambda: write_entry(folder / "cache", nl.prepare(made.scan)), 3)
    figures.append(figure(f"preparing the phantom of {shape}", seconds, "s", "from memory to the cache"))
    figures.append(figure("its peak memory", [peak_mb()], "MB", "the scan and its masks, held beside, counted in"))
    return figures
