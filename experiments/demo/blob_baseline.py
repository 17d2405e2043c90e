"""Score a plain blob detector on the demo's test scans: Laplacian of Gaussian in the lungs, at its best.

    python experiments/demo/blob_baseline.py outputs/demo/seed0

A phantom that such a detector could solve would prove nothing about a network. The baseline gets every advantage: each
set of scales is tried, and the best score is printed.
"""

import sys
from pathlib import Path

import edt
import numpy as np
from scipy import ndimage

import nodule_lightning as nl
from nodule_lightning.cache.catalog import Catalog

RADII_MM = (1.5, 2.0, 3.0, 4.5, 7.0)
MARKS = 100


def detect_blobs(entry: nl.Entry, radii_mm: tuple[float, ...]) -> nl.Candidates:
    """Return the maxima, over place and scale, of the scale-normalised response to bright balls."""
    # The lung mask is dilated: its rim holds the chest wall, where every edge would respond.
    spacing_mm = entry.grid.spacing_zyx_mm[0]
    rim_mm = float(entry.settings["lungs"]["dilation_mm"])
    inside = edt.edt(np.ascontiguousarray(entry.lung), anisotropy=(spacing_mm,) * 3) > rim_mm
    image = np.where(inside, entry.ct, np.median(entry.ct[inside])).astype(np.float32)
    best = np.zeros(image.shape, np.float32)
    for radius_mm in radii_mm:
        # The response to a ball of radius r is highest at sigma = r / sqrt(3).
        sigma = radius_mm / 3**0.5 / spacing_mm
        np.maximum(best, -(sigma**2) * ndimage.gaussian_laplace(image, sigma), out=best)
    peak = (best == ndimage.maximum_filter(best, 5)) & (best > 0) & inside
    index = np.argwhere(peak)
    strength = best[peak].astype(np.float64)
    order = np.argsort(-strength, kind="stable")[:MARKS]
    centre = entry.grid.to_world(index[order].astype(np.float64))
    return nl.Candidates(centre, strength[order], np.full(len(order), -1.0))


def score(catalog: Catalog, scan_ids: list[str], radii_mm: tuple[float, ...]) -> float:
    """Return the FROC score of the baseline with these scales, by LUNA16's rules."""
    marks = {scan_id: detect_blobs(catalog.entry(scan_id), radii_mm) for scan_id in scan_ids}
    owners = np.repeat(scan_ids, [len(marks[scan_id]) for scan_id in scan_ids])
    candidates = nl.Table(owners, nl.Candidates.concatenate(marks.values()))
    return nl.froc(candidates, catalog.nodule_table(), catalog.excluded_table(), scan_ids, bootstraps=0).mean


def main() -> None:
    """Print the score of each set of scales, and the best."""
    run = Path(sys.argv[1])
    catalog = Catalog.open(run / "cache")
    scan_ids = nl.read_scan_ids(run / "train" / "splits" / "test.csv")
    scores = {radii: score(catalog, scan_ids, radii) for radii in [*((radius,) for radius in RADII_MM), RADII_MM]}
    for radii, mean in scores.items():
        print(f"radii {radii} mm: mean sensitivity {mean:.3f}")
    print(f"best: {max(scores.values()):.3f} on {len(scan_ids)} scans")


if __name__ == "__main__":
    main()
