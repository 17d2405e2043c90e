"""Painting of what lies beyond the chest: neck and head, abdomen, arms."""

import numpy as np

from nodule_lightning.phantom.anatomy import AIR_HU, BONE_HU, FAT_HU, MARROW_HU, MUSCLE_HU
from nodule_lightning.phantom.canvas import Canvas, paint_ellipsoid, paint_segment
from nodule_lightning.phantom.thorax import Generator, Thorax

BRAIN_HU, LIVER_HU = 35.0, 60.0
# Centre and half-axes of each cavity in an adult: throat and mouth, then the sinuses.
_HEAD_AIR = (
    ((0, -40, 268), (24, 28, 9)),
    ((0, -50, 300), (13, 34, 16)),
    ((-30, -52, 302), (13, 16, 17)),
    ((30, -52, 302), (13, 16, 17)),
    ((0, -72, 345), (24, 8, 12)),
    ((0, -12, 318), (13, 11, 10)),
)
# The openings from the throat to the room, wide enough to be open at 3 mm voxels in a small body too.
_OPENINGS = (((0, -67, 268), (22, 70, 11)), ((0, -57, 297), (10, 54, 10)))


def paint_head(canvas: Canvas, thorax: Thorax) -> None:
    """Paint a head on the neck: skull, brain, jaw, and the air in mouth, nose and sinuses."""
    s = thorax.scale
    centre = s * np.array([0.0, 2.0, 335.0])
    for reach, hu in ((0.0, MUSCLE_HU), (-7.0, BONE_HU * 1.6), (-14.0, BRAIN_HU)):
        paint_ellipsoid(canvas, centre, s * (np.array([78.0, 96.0, 112.0]) + reach), hu)
    for side in (-1, 1):
        angle, chin = s * np.array([side * 48.0, 0.0, 262.0]), s * np.array([side * 6.0, -78.0, 250.0])
        paint_segment(canvas, angle, chin, (s * 16, s * 14), MUSCLE_HU)
        paint_segment(canvas, angle, chin, (s * 7, s * 7), BONE_HU * 1.4)
    paint_segment(
        canvas, s * np.array([0.0, -20.0, 262.0]), s * np.array([0.0, -60.0, 262.0]), (s * 38,) * 2, MUSCLE_HU
    )
    for middle, half in _HEAD_AIR:
        paint_ellipsoid(canvas, s * np.array(middle, float), s * (np.array(half, float) + 2.5), BONE_HU)
    for middle, half in _HEAD_AIR:
        paint_ellipsoid(canvas, s * np.array(middle, float), s * np.array(half, float), AIR_HU)


def open_mouth_and_nose(canvas: Canvas, thorax: Thorax) -> None:
    """Open the throat to the room through its painted wall, so that the air of the airways is connected to outside."""
    s = thorax.scale
    for middle, half in _OPENINGS:
        paint_ellipsoid(canvas, s * np.array(middle, float), s * np.array(half, float), AIR_HU)


def paint_abdomen(canvas: Canvas, thorax: Thorax, generator: Generator) -> None:
    """Paint liver, spleen, fat, and gas in stomach and bowel. Call before the lungs are painted."""
    s = thorax.scale
    lowest = float(canvas.z_mm[0])
    half_x, half_y, _ = thorax.outline_mm(s * -200)
    belly = np.array([0.0, -0.12 * half_y, s * -360])
    paint_ellipsoid(canvas, belly, np.array([0.74 * half_x, 0.64 * half_y, s * 190]), FAT_HU)
    paint_segment(
        canvas, s * np.array([20.0, 48, -140]), np.array([s * 12, s * 44, lowest]), (s * 10,) * 2, thorax.blood_hu
    )
    paint_ellipsoid(canvas, s * np.array([-58.0, -12, -160]), s * np.array([78.0, 78, 72]), LIVER_HU)
    paint_ellipsoid(canvas, s * np.array([92.0, 40, -160]), s * np.array([30.0, 38, 45]), LIVER_HU)
    stomach = s * np.array([52.0, -22.0, -165.0])
    paint_ellipsoid(canvas, stomach, s * np.array([46.0, 44, 42]), MUSCLE_HU)
    paint_ellipsoid(canvas, stomach + s * np.array([0.0, -12, 8]), s * np.array([36.0, 26, 28]), AIR_HU)
    for _ in range(int(generator.integers(8, 16))):
        start = np.array(
            [
                generator.uniform(-0.55, 0.55) * half_x,
                generator.uniform(-0.6, 0.05) * half_y,
                generator.uniform(min(lowest + s * 20, s * -231), s * -230),
            ]
        )
        along = generator.normal(0, 1, 3) * [1.0, 0.5, 0.6]
        stop = start + along / np.linalg.norm(along) * s * generator.uniform(20, 70)
        radius = s * generator.uniform(8, 20)
        stop = np.clip(stop, [-0.6 * half_x, -0.65 * half_y, lowest], [0.6 * half_x, 0.1 * half_y, s * -225])
        paint_segment(canvas, start, stop, (radius + s * 2.5,) * 2, MUSCLE_HU)
        paint_segment(canvas, start, stop, (radius, radius * 0.8), AIR_HU)


def paint_arms(canvas: Canvas, thorax: Thorax) -> None:
    """Paint both arms beside the body, with their bones."""
    s = thorax.scale
    low, high = float(canvas.z_mm[0]) - s * 60, s * 120
    for side in (-1, 1):
        ends = [np.array([side * (thorax.body_mm[0] * 1.08 + s * 48), s * 20, height]) for height in (low, high)]
        for radius, hu in ((46, MUSCLE_HU), (44.5, FAT_HU), (38, MUSCLE_HU), (12, BONE_HU), (7, MARROW_HU)):
            paint_segment(canvas, ends[0], ends[1], (s * radius,) * 2, hu)
