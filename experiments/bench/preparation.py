"""Preparation of the two real scans: reading, lung crop, resampling, window, writing."""

from pathlib import Path

import nodule_lightning as nl
from experiments.bench.figures import Figure, figure, forget_peak, peak_mb, timed
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.io.scan_folders import find_scans


def preparation(real_data: Path, folder: Path) -> list[Figure]:
    """Prepare each scan with the defaults, on all cores."""
    figures = []
    for scan_id, path in find_scans(real_data / "lidc").items():

        def prepare(path: Path = path) -> None:
            write_entry(folder / "cache", nl.prepare(path))

        slices = nl.read_scan(path).grid.shape[0]
        forget_peak()
        seconds = timed(prepare, 3)
        figures.append(figure(f"preparing ...{scan_id[-4:]}, {slices} slices", seconds, "s", "reading to writing"))
        figures.append(figure("its peak memory", [peak_mb()], "MB"))
    return figures
