"""How much do tiles change the probabilities of candidates, for different widths of their margins?

    python -m experiments.tiles CHECKPOINT CACHE [scans=2] [rims=32,48,64] [core=64]

Searches the first scans of a cache whole and in tiles, in fp32 on the CPU, and prints a table with a row for each width
of the margin ("rim"). A tile is its core plus a rim on both sides.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import nodule_lightning as nl
from nodule_lightning.cache.entries import list_entries, open_entry

LEAST, NEAR_MM = 0.1, 3.0


def changes(one: nl.Candidates, other: nl.Candidates) -> Iterator[float]:
    """Yield, for each candidate of at least `LEAST`, the change against the closest probability at the same place."""
    for centre, probability in zip(one.centre_xyz_mm, one.probability, strict=True):
        if probability >= LEAST:
            near = other.probability[np.linalg.norm(other.centre_xyz_mm - centre, axis=1) < NEAR_MM]
            yield float(np.abs(near - probability).min(initial=probability))


def main() -> None:
    """Measure each rim and print its row."""
    given = dict(argument.split("=") for argument in sys.argv[3:])
    cache, core = Path(sys.argv[2]), int(given.get("core", "64"))
    detector = nl.load_detector(sys.argv[1], device="cpu")
    entries = [open_entry(cache, scan_id) for scan_id in list_entries(cache)[: int(given.get("scans", "2"))]]
    whole_settings = replace(detector.inference, mirror=(), memory_gb=1e6)
    detector = replace(detector, inference=whole_settings)
    began = time.perf_counter()
    whole = [detector.search(entry, precision="fp32") for entry in entries]
    took = time.perf_counter() - began
    print(*(f"crop of {entry.ct.shape} voxels" for entry in entries), sep="\n")
    print(
        "| rim, tile | marks | largest change | more than 0.02 | time against the whole crop |\n|---|---|---|---|---|"
    )
    for rim in map(int, given.get("rims", "32,48,64").split(",")):
        settings = replace(whole_settings, margin_voxels=rim, tile_voxels=max(core + 2 * rim, 3 * rim))
        began = time.perf_counter()
        tiled = [replace(detector, inference=settings).search(entry, precision="fp32") for entry in entries]
        ratio = (time.perf_counter() - began) / took
        both = [*zip(whole, tiled, strict=True), *zip(tiled, whole, strict=True)]
        moved = np.array([change for one, other in both for change in changes(one, other)])
        print(
            f"| {rim}, {settings.tile_voxels} | {len(moved)} | {moved.max(initial=0):.3f} "
            f"| {np.count_nonzero(moved > 0.02)} | {ratio:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
