"""How far do tiles move the probabilities of what a whole search finds, by the width of their rims?

    python -m experiments.tiles CHECKPOINT CACHE [scans=2] [rims=32,48,64] [core=64]

Searches the first scans of a cache whole and in tiles, in fp32, and prints a table with a row for each rim. A
tile is its core and a rim on both sides.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from nodule_lightning.cache.entries import list_entries, open_entry
from nodule_lightning.models.folding import folded
from nodule_lightning.search.inference import detect
from nodule_lightning.structures import Candidates
from nodule_lightning.training.checkpoint import load_detector

LEAST, NEAR_MM = 0.1, 3.0


def changes(one: Candidates, other: Candidates) -> Iterator[float]:
    """Give, for each mark of some probability, how far it is from the nearest one that the other has at its place."""
    for centre, probability in zip(one.centre_xyz_mm, one.probability, strict=True):
        if probability >= LEAST:
            near = other.probability[np.linalg.norm(other.centre_xyz_mm - centre, axis=1) < NEAR_MM]
            yield float(np.abs(near - probability).min(initial=probability))


def main() -> None:
    """Measure, and print a line for each rim."""
    given = dict(argument.split("=") for argument in sys.argv[3:])
    cache, core = Path(sys.argv[2]), int(given.get("core", "64"))
    detector = load_detector(Path(sys.argv[1]))
    network = folded(detector.network)
    entries = [open_entry(cache, scan_id) for scan_id in list_entries(cache)[: int(given.get("scans", "2"))]]
    whole_settings = replace(detector.inference, mirror=(), memory_gb=1e6)
    began = time.perf_counter()
    whole = [detect(network, entry, whole_settings) for entry in entries]
    took = time.perf_counter() - began
    print(*(f"crop of {entry.ct.shape} voxels" for entry in entries), sep="\n")
    print(
        "| rim, tile | marks | largest change | more than 0.02 | time against the whole crop |\n|---|---|---|---|---|"
    )
    for rim in map(int, given.get("rims", "32,48,64").split(",")):
        settings = replace(whole_settings, margin_voxels=rim, tile_voxels=max(core + 2 * rim, 3 * rim))
        began = time.perf_counter()
        tiled = [detect(network, entry, settings) for entry in entries]
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
