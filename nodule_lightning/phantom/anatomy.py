"""Painting of the chest: soft tissue, lungs, heart, great vessels, airway, bones and table."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from nodule_lightning.phantom.canvas import Canvas, paint_ellipsoid, paint_segment, soft_edge
from nodule_lightning.phantom.thorax import Depth, Generator, Thorax
from nodule_lightning.phantom.trees import Tree, paint_tree

AIR_HU, FAT_HU, MUSCLE_HU, BONE_HU, MARROW_HU = -1000.0, -100.0, 45.0, 480.0, 130.0
FLUID_HU, FOAM_HU, DISEASE_HU = 12.0, -930.0, -380.0
# Levels of the spine from here on are in the head.
SKULL_LEVEL = 13


def paint_soft_tissue(canvas: Canvas, thorax: Thorax) -> None:
    """Paint skin, fat and muscle, the heart and the great vessels."""
    s = thorax.scale
    for piece in canvas.slices():
        z, y, x = piece.coordinates
        half_x, half_y, middle_y = thorax.outline_mm(float(z.item()))
        if half_x == 0:
            continue
        depth = (1 - np.sqrt((x / half_x) ** 2 + ((y - middle_y) / half_y) ** 2)) * half_y
        piece.blend(soft_edge(depth, canvas.voxel_mm), MUSCLE_HU)
        piece.blend(soft_edge(np.minimum(depth - 1.5 * s, thorax.fat_mm - depth), canvas.voxel_mm), FAT_HU)
    centre, radii = thorax.heart
    paint_ellipsoid(canvas, centre, radii * 0.97, thorax.blood_hu)
    for start, stop, radius in (
        ((20, 48, -140), (20, 48, 40), 11),
        ((20, 48, 40), (8, 0, 62), 12),
        ((8, 0, 62), (-6, -18, 20), 13),
        ((-18, -8, 110), (-18, -4, 0), 8),
    ):
        paint_segment(canvas, s * np.array(start, float), s * np.array(stop, float), (s * radius,) * 2, thorax.blood_hu)


def paint_airways(canvas: Canvas, thorax: Thorax, branches: Tree) -> None:
    """Paint the trachea, the main bronchi and their branches: all walls first, so that none closes a junction."""
    trunk = _trunk(thorax, reaches_head=bool(canvas.z_mm[-1] > thorax.scale * 150))
    paint_tree(canvas, trunk, MUSCLE_HU, wall_mm=1.5)
    paint_tree(canvas, branches, -150.0, wall_mm=0.7)
    paint_tree(canvas, trunk, AIR_HU)
    paint_tree(canvas, branches, AIR_HU)


def main_bronchus_mm(thorax: Thorax) -> float:
    """Return the radius of a main bronchus where its branches begin."""
    return thorax.scale * 5.5


def _trunk(thorax: Thorax, *, reaches_head: bool) -> Tree:
    s = thorax.scale
    carina, larynx = s * np.array([0.0, 14.0, 30.0]), s * np.array([0.0, 4.0, 150.0])
    pieces = [(larynx, carina, s * 8.0)]
    for side in (-1, 1):
        pieces.append((carina, thorax.hilum(side) + s * np.array([0.0, 4.0, 0.0]), main_bronchus_mm(thorax)))
    if reaches_head:
        gullet, palate = s * np.array([0.0, -8.0, 215.0]), s * np.array([0.0, -8.0, 300.0])
        pieces += [(gullet, larynx, s * 8.0), (palate, gullet, s * 8.0)]
    starts, stops, radii = zip(*pieces, strict=True)
    return Tree(np.array(starts), np.array(stops), np.array([radii, radii]).T)


def paint_lung(canvas: Canvas, thorax: Thorax, side: int, generator: Generator) -> Depth:
    """Fill one lung with parenchyma: denser at the back, mottled, with a fissure.

    Args:
        canvas: the window of the canvas with this lung.
        thorax: the chest.
        side: -1 (right) or 1 (left).
        generator: random generator.

    Returns:
        Approximate depth in mm of each voxel of the window inside the aerated part of the lung; negative outside.
    """
    s = thorax.scale
    uneven = s * 1.5 * smooth_noise(canvas, s * 18.0, generator)
    mottle = smooth_noise(canvas, 6.0, generator) * generator.uniform(8, 25)
    base_hu, slope = generator.uniform(-890, -830), generator.uniform(0.1, 0.5)
    tilt = generator.uniform(0.5, 1.0)
    offset = generator.uniform(-15, 15)
    fissure = generator.uniform(0.15, 0.4)
    dense = _disease(canvas, s * 14.0, generator) if thorax.diffuse else None
    depth = np.empty(canvas.hu.shape, dtype=np.float32)
    for index, piece in enumerate(canvas.slices()):
        here = slice(index, index + 1)
        z, y, x = piece.coordinates
        if thorax.fluid_mm[(side + 1) // 2] is not None:
            piece.blend(soft_edge(thorax.lung_depth(side, piece.coordinates), canvas.voxel_mm), FLUID_HU)
        depth[here] = thorax.aerated_depth(side, piece.coordinates) + uneven[here]
        hu = mottle[here] + (base_hu + y * slope)
        if dense is not None:
            hu += dense[here] * (DISEASE_HU - hu)
        piece.blend(soft_edge(depth[here], canvas.voxel_mm), hu)
        sheet = np.abs(z - tilt * y - (offset - 4 * np.sin(x / 20))) / float(np.hypot(1, tilt))
        piece.blend(soft_edge(0.35 - sheet, canvas.voxel_mm) * (depth[here] > 0) * fissure, 0.0)
    return depth


def _disease(canvas: Canvas, grain_mm: float, generator: Generator) -> Depth:
    """Draw thick sheets of dense tissue that isolate islands of air; returns the share of each voxel in a sheet.

    The sheets follow the zero levels of three independent noise fields, which divide space into eight classes. Each
    class has too little volume to be connected.
    """
    nearest = np.full(canvas.hu.shape, np.inf, dtype=np.float32)
    for _ in range(3):
        np.minimum(nearest, np.abs(smooth_noise(canvas, grain_mm, generator)), out=nearest)
    return soft_edge((0.35 - nearest) * grain_mm / 2, canvas.voxel_mm)


def paint_bones(canvas: Canvas, thorax: Thorax, generator: Generator) -> None:
    """Paint spine, ribs and breastbone; a rib ends in cartilage before the breastbone."""
    s = thorax.scale
    offset = generator.uniform(0, 22)
    lowest, highest = (int(end / (s * 22)) for end in (canvas.z_mm[0], canvas.z_mm[-1]))
    for level in range(min(-7, lowest), max(8, min(highest + 2, SKULL_LEVEL))):
        height = s * (level * 22 + offset)
        # The spine moves forward in the neck.
        vertebra = np.array([0.0, s * (74 - 34 * min(max(height / s - 140, 0) / 50, 1)), height])
        paint_segment(
            canvas, vertebra, vertebra + np.array([0.0, 0.0, s * 15]), (s * 15, s * 15), generator.uniform(170, 260)
        )
        paint_ellipsoid(canvas, vertebra + np.array([0.0, s * 26, 0.0]), s * np.array([11.0, 10.0, 8.0]), BONE_HU * 0.7)
        if -8 < level < (8 if highest < 7 else 4):
            for side in (-1, 1):
                _paint_rib(canvas, thorax, side, height + s * 45)
    paint_segment(canvas, s * np.array([0, -93.0, -70]), s * np.array([0, -90.0, 70]), (s * 7, s * 9), BONE_HU * 0.5)


def paint_table(canvas: Canvas, thorax: Thorax) -> None:
    """Paint the curved table under the body; the wide one, used with arms, has a foam core with the density of lung."""
    half_mm = thorax.scale * (400 if thorax.arms else 190)
    top = thorax.body_mm[1] + thorax.scale * 4
    y, x = canvas.y_mm[:, None], canvas.x_mm[None, :]
    below = y - (top - (x / 40) ** 2 * (0.3 if thorax.arms else 1.0))
    inside = np.abs(x) < half_mm
    if thorax.arms:
        core = soft_edge(np.minimum(below, 40 - below), canvas.voxel_mm) * inside
        canvas.blend(np.broadcast_to(core, canvas.hu.shape), FOAM_HU)
    for depth in (3.0, 40.0) if thorax.arms else (3.0,):
        shell = soft_edge(3.0 - np.abs(below - depth), canvas.voxel_mm) * inside
        canvas.blend(np.broadcast_to(shell, canvas.hu.shape), -150.0)


def smooth_noise(canvas: Canvas, grain_mm: float, generator: Generator) -> Depth:
    """Draw smooth noise of unit variance with grains about `grain_mm` wide."""
    axes = (canvas.z_mm, canvas.y_mm, canvas.x_mm)
    coarse_shape = [int(np.ptp(axis) / grain_mm) + 3 for axis in axes]
    coarse = generator.standard_normal(coarse_shape, dtype=np.float32)
    fine = coarse
    for dimension, axis in enumerate(axes):
        # One small matrix product per axis is much faster than a three-dimensional zoom.
        position = (axis - axis[0]) / np.float32(grain_mm)
        low = position.astype(int)
        share = (position - low).astype(np.float32)
        weights = np.zeros((len(axis), coarse_shape[dimension]), dtype=np.float32)
        weights[np.arange(len(axis)), low] = 1 - share
        weights[np.arange(len(axis)), low + 1] = share
        fine = np.moveaxis(np.tensordot(weights, fine, axes=(1, dimension)), 0, dimension)
    return np.ascontiguousarray(fine * 1.8)


def _paint_rib(canvas: Canvas, thorax: Thorax, side: int, height_mm: float) -> None:
    s = thorax.scale
    angles = np.linspace(0.2, 2.75, 19)
    path: Float64[np.ndarray, "points 3"] = np.stack(
        [side * s * 134 * np.sin(angles), s * 92 * np.cos(angles), height_mm - s * 55 * angles / np.pi], axis=1
    )
    cartilage_from = 15
    for index, (start, stop) in enumerate(pairwise(path)):
        bony = index < cartilage_from
        paint_segment(canvas, start, stop, (s * 4.5, s * 4.5), BONE_HU if bony else 90.0)
        if bony:
            paint_segment(canvas, start, stop, (s * 2.4, s * 2.4), MARROW_HU)
