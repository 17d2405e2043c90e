"""Kinds of trouble: scans that are hard to prepare, generated on request."""

from dataclasses import dataclass, replace

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.phantom.thorax import Generator, Thorax
from nodule_lightning.phantom.truth import Phantom
from nodule_lightning.structures import Findings, Scan

# The index of a kind determines its seeds and ids: append new ones at the end.
TROUBLES = (
    "head",
    "abdomen",
    "unequal",
    "fluid",
    "diffuse",
    "arms",
    "flipped",
    "wide_matrix",
    "missing_slices",
    "truncated",
)
# Along (z, y, x), as found in real files.
_FLIPS = ((False, True, True), (True, False, False), (True, True, True), (False, True, False))
WIDE_MATRIX = 768


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is unusual about one scan; the defaults stand for a scan without trouble.

    Attributes:
        kind: one of `TROUBLES`, or "" for none.
        above_mm: how far the scan of an adult extends above the lungs, over neck and head.
        below_mm: how far the scan of an adult extends below the lungs, over the abdomen.
        small_lung: side of the lung that is much smaller than the other: -1 (right), 1 (left), 0 for none.
        filled_lung: side of the lung that is filled with fluid except for a part in front: -1, 1, or 0 for none.
        flipped_axes: which of the axes (z, y, x) run against the world axes.
        gaps: number of places where slices are missing.
        file_share: share of the data file that is left.
    """

    kind: str = ""
    above_mm: float = 0.0
    below_mm: float = 0.0
    small_lung: int = 0
    filled_lung: int = 0
    flipped_axes: tuple[bool, bool, bool] = (False, False, False)
    gaps: int = 0
    file_share: float = 1.0


def phantom_id(seed: int, index: int, trouble: str) -> str:
    """Return the id of scan `index` of its kind.

    >>> phantom_id(0, 3, ""), phantom_id(0, 3, "head")
    ('phantom-0-0003', 'phantom-0-head-0003')
    """
    return f"phantom-{seed}-{trouble}-{index:04d}" if trouble else f"phantom-{seed}-{index:04d}"


def draw_trouble(kind: str, seed: int, index: int) -> Trouble:
    """Draw the details of the trouble of scan `index`.

    Raises:
        InputError: the kind is neither one of `TROUBLES` nor "".
    """
    if kind and kind not in TROUBLES:
        raise InputError(f"trouble must be one of {', '.join(TROUBLES)}, not {kind!r}", "argument-invalid")
    generator = np.random.default_rng([seed, 5, index])
    side = int(generator.choice([-1, 1]))
    return Trouble(
        kind=kind,
        above_mm=generator.uniform(200, 330) if kind == "head" else 0.0,
        below_mm=generator.uniform(180, 320) if kind == "abdomen" else 0.0,
        small_lung=side if kind == "unequal" else 0,
        filled_lung=side if kind == "fluid" else 0,
        flipped_axes=_FLIPS[index % len(_FLIPS)] if kind == "flipped" else (False, False, False),
        gaps=int(generator.integers(1, 4)) if kind == "missing_slices" else 0,
        file_share=generator.uniform(0.2, 0.95) if kind == "truncated" else 1.0,
    )


def apply_trouble(thorax: Thorax, trouble: Trouble, generator: Generator) -> Thorax:
    """Return the chest with the disease, or the arms beside it, of a trouble."""
    lung_mm, base_mm, fluid_mm = list(thorax.lung_mm), list(thorax.base_mm), list(thorax.fluid_mm)
    if trouble.small_lung:
        lung = (trouble.small_lung + 1) // 2
        half_x, half_y = lung_mm[lung]
        lung_mm[lung] = (half_x * generator.uniform(0.55, 0.75), half_y * generator.uniform(0.6, 0.8))
        base_mm[lung] += thorax.scale * generator.uniform(50, 90)
    if trouble.filled_lung:
        fluid_mm[(trouble.filled_lung + 1) // 2] = thorax.scale * generator.uniform(25, 45)
    return replace(
        thorax,
        lung_mm=(lung_mm[0], lung_mm[1]),
        base_mm=(base_mm[0], base_mm[1]),
        fluid_mm=(fluid_mm[0], fluid_mm[1]),
        diffuse=trouble.kind == "diffuse",
        arms=trouble.kind == "arms",
    )


def flip_axes(phantom: Phantom, flipped: tuple[bool, bool, bool]) -> Phantom:
    """Reverse some axes of the arrays and of the direction matrix; nothing moves in the world."""
    if not any(flipped):
        return phantom
    grid = phantom.scan.grid
    corner = grid.to_world(
        np.array([[(size - 1) * turn for size, turn in zip(grid.shape, flipped, strict=True)]], float)
    )
    signs = np.where(flipped[::-1], -1.0, 1.0)
    direction = (np.reshape(grid.direction, (3, 3)) * signs).ravel().tolist()
    x, y, z = corner[0].tolist()
    axes = tuple(axis for axis, turn in enumerate(flipped) if turn)
    return replace(
        phantom,
        scan=Scan(
            phantom.scan.scan_id,
            np.ascontiguousarray(np.flip(phantom.scan.hu, axes)),
            Grid(grid.shape, grid.spacing_zyx_mm, (x, y, z), tuple(direction)),
        ),
        lungs=np.ascontiguousarray(np.flip(phantom.lungs, axes)),
        nodule_labels=np.ascontiguousarray(np.flip(phantom.nodule_labels, axes)),
    )


def drop_slices(phantom: Phantom, gaps: int, generator: Generator) -> Phantom:
    """Remove a few slices at each of several places, never in a nodule.

    The grid does not reflect the gaps: what lies above one moves down, and so do the positions of the findings.
    """
    scan = phantom.scan
    count = scan.grid.shape[0]
    is_free = ~phantom.nodule_labels.any(axis=(1, 2))
    has_lung = phantom.lungs.any(axis=(1, 2))
    kept = np.ones(count, dtype=bool)
    for _ in range(gaps):
        length = int(generator.integers(2, 7))
        starts = [
            start
            for start in range(2, count - length - 2)
            if (is_free & has_lung & kept)[start - 2 : start + length + 2].all()
        ]
        if starts:
            start = int(generator.choice(starts))
            kept[start : start + length] = False
    before = np.cumsum(~kept)

    def moved(findings: Findings) -> Findings:
        places = scan.grid.to_index(findings.centre_xyz_mm)
        slices = np.clip(np.rint(places[:, 0]).astype(int), 0, count - 1)
        places[:, 0] -= before[slices]
        return Findings(scan.grid.to_world(places), findings.diameter_mm)[kept[slices]]

    grid = replace(scan.grid, shape=(int(kept.sum()), *scan.grid.shape[1:]))
    return Phantom(
        Scan(scan.scan_id, scan.hu[kept], grid),
        moved(phantom.nodules),
        moved(phantom.excluded),
        phantom.lungs[kept],
        phantom.nodule_labels[kept],
    )
