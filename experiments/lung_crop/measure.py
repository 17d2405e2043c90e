"""Measure the lung crop on phantoms with each trouble and without, and with each cure switched off.

    python experiments/lung_crop/measure.py outputs/lung_crop [phantom=demo] [scans=20] [workers=2] \
        [kinds=fluid,head] [without=slices,slices+leaks]

Writes scans.csv, a row for each phantom and set of cures as they are done, and prints the tables of README.md.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from hydra import compose, initialize_config_module

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.io.processes import run_in_processes
from nodule_lightning.lungs.morphology import world_box
from nodule_lightning.lungs.segmentation import LungMask, segment_lungs
from nodule_lightning.lungs.settings import EVERY_CURE, LungSettings
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.trouble import TROUBLES
from nodule_lightning.phantom.truth import Phantom
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.resampling import resample

SEED: Final = 11
# Truncated scans cannot be read, and are no matter of the crop.
KINDS: Final = ("", *(kind for kind in TROUBLES if kind != "truncated"))
OWN_TROUBLES: Final = {
    "pieces": ("diffuse",),
    "slices": ("head",),
    "unequal": ("unequal",),
    "leaks": (),
    "one_lung": ("fluid",),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The result for one phantom.

    Attributes:
        kind: its trouble; "" for none.
        index: its number among those of its kind.
        without: the cures that were switched off, joined by +; "" for none.
        cures: the cures that were used.
        nodules: how many it has.
        in_crop: how many of them lie in the crop.
        in_mask: how many of them lie in the mask.
        crop_ratio: volume of the crop against that of the true lungs' box.
        fallback: whether the body's box was used instead of the lungs.
        dice: Dice coefficient of the lungs and the true lungs.
    """

    kind: str
    index: int
    without: str
    cures: str
    nodules: int
    in_crop: int
    in_mask: int
    crop_ratio: float
    fallback: bool
    dice: float

    @property
    def failed(self) -> bool:
        """Whether the phantom misses a goal of the study."""
        least = 0.93 if self.kind else 0.97
        return self.fallback or self.in_crop < self.nodules or self.crop_ratio > 1.5 or self.dice < least


def main(output: Path, phantom: str, scans: int, workers: int, kinds: Sequence[str], withouts: Sequence[str]) -> None:
    """Measure kinds of trouble, with all cures and without some, and print the tables."""
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        settings = instantiate(compose("phantom", ["output=none", f"phantom={phantom}"]).phantom)
    # By index first, so that an interrupted run has equally many of each kind.
    tasks = sorted(
        ((kind, index) for kind in kinds for index in range(scans if kind else 2 * scans)),
        key=lambda task: task[1] / (1 if task[0] else 2),
    )
    output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with (output / "scans.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        work = partial(measure, settings=settings, withouts=withouts)
        for some in run_in_processes(work, tasks, workers, lambda _: []):
            writer.writerows([getattr(row, field.name) for field in fields(Row)] for row in some)
            file.flush()
            rows += some
    print_kinds([row for row in rows if not row.without])
    print_cures(rows, withouts)


def measure(task: tuple[str, int], settings: PhantomSettings, withouts: Sequence[str]) -> list[Row]:
    """Make one phantom; find its lungs with all cures, and without some of those that were used."""
    kind, index = task
    phantom = make_phantom(settings, SEED, index, kind)
    found = segment_lungs(phantom.scan, LungSettings())
    rows = [compare(kind, index, "", found, phantom)]
    for without in withouts:
        others = tuple(name for name in EVERY_CURE if name not in without.split("+"))
        # Switching off a cure that was not used changes nothing.
        same = set(found.cures) <= set(others)
        less = found if same else segment_lungs(phantom.scan, LungSettings(cures=others))
        rows.append(compare(kind, index, without, less, phantom))
    return rows


def compare(kind: str, index: int, without: str, found: LungMask, phantom: Phantom) -> Row:
    """Compare the segmentation with the true lungs and nodules."""
    grid, nodules = phantom.scan.grid, phantom.nodules.centre_xyz_mm
    corners = grid.corners_xyz_mm()
    margin_mm = PreparationSettings().margin_mm
    low = np.maximum(found.low_xyz_mm - margin_mm, corners.min(axis=0))
    high = np.minimum(found.high_xyz_mm + margin_mm, corners.max(axis=0))
    true_low, true_high = world_box(phantom.lungs, grid)
    lungs = resample(found.lungs.astype(np.uint8), found.grid, grid, linear=False, outside=0) > 0
    place = np.rint(found.grid.to_index(nodules)).astype(int)
    inside = ((place >= 0) & (place < found.mask.shape)).all(axis=1)
    return Row(
        kind,
        index,
        without,
        "+".join(found.cures),
        len(nodules),
        int(((nodules >= low) & (nodules <= high)).all(axis=1).sum()),
        int(found.mask[tuple(place[inside].T)].sum()),
        round(float(np.prod(high - low) / np.prod(true_high - true_low)), 3),
        not found.found,
        round(float(2 * (lungs & phantom.lungs).sum() / (lungs.sum() + phantom.lungs.sum())), 4),
    )


def print_kinds(rows: Sequence[Row]) -> None:
    """Print a line for each kind of trouble."""
    headings = ("trouble", "scans", "nodules in crop", "in mask", "crop / true box, median (most)", "body's box")
    print(f"| {' | '.join((*headings, 'Dice, mean (least)', 'cures used'))} |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in _kinds(rows):
        of_kind = [row for row in rows if row.kind == kind]
        nodules, in_crop, in_mask = (
            sum(getattr(row, name) for row in of_kind) for name in ("nodules", "in_crop", "in_mask")
        )
        ratio, dice = (np.array([getattr(row, name) for row in of_kind]) for name in ("crop_ratio", "dice"))
        used = [row.cures or "none" for row in of_kind]
        cures = ", ".join(f"{name} {used.count(name)}" for name in sorted(set(used)))
        print(
            f"| {kind or 'none'} | {len(of_kind)} | {in_crop} of {nodules} | {in_mask} | {np.median(ratio):.2f} "
            f"({ratio.max():.2f}) | {sum(row.fallback for row in of_kind)} | {dice.mean():.3f} ({dice.min():.3f}) "
            f"| {cures} |"
        )


def print_cures(rows: Sequence[Row], withouts: Sequence[str]) -> None:
    """Print, for each trouble, how many scans miss a goal with all cures and without some."""
    print("\n| trouble | all cures | " + " | ".join(f"without {without}" for without in withouts) + " |")
    print("|---" * (len(withouts) + 2) + "|")
    for kind in _kinds(rows):
        of_kind = [row for row in rows if row.kind == kind]
        counts = []
        for without in ("", *withouts):
            failed = sum(row.failed for row in of_kind if row.without == without)
            counts.append(f"**{failed}**" if kind in OWN_TROUBLES.get(without, ()) else str(failed))
        scans = sum(not row.without for row in of_kind)
        print(f"| {kind or 'none'} ({scans}) | {' | '.join(counts)} |")


def _kinds(rows: Sequence[Row]) -> list[str]:
    return [kind for kind in KINDS if any(row.kind == kind for row in rows)]


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[2:])
    chosen = given["kinds"].split(",") if "kinds" in given else KINDS
    switched_off = given["without"].split(",") if "without" in given else EVERY_CURE
    main(
        Path(sys.argv[1]),
        given.get("phantom", "demo"),
        int(given.get("scans", 20)),
        int(given.get("workers", 2)),
        chosen,
        switched_off,
    )
