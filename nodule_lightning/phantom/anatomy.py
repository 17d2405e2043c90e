"""The chest that all else lies in: body, lungs, heart, great vessels, airway, bones and table.

All lengths are those of an adult in mm, times the body's scale. The frame is the scan's world: x to the patient's left,
y to the back, z to the head, with the middle of the chest at zero.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from jaxtyping import Float32, Float64

from nodule_lightning.phantom.canvas import Canvas, Coordinates, Point, paint_ellipsoid, paint_segment, soft_edge

Generator = np.random.Generator
Depth = Float32[np.ndarray, "z y x"]

AIR_HU, FAT_HU, MUSCLE_HU, BONE_HU, MARROW_HU = -1000.0, -100.0, 45.0, 480.0, 130.0
LUNG_HEIGHT_MM = 235.0


@dataclass(frozen=True, slots=True)
class Thorax:
    """The measures of one chest.

    Attributes:
        scale: size of the body, where 1 is an adult.
        body_mm: half-axes of the body's oval along x and y.
        fat_mm: thickness of the fat under the skin.
        lung_mm: half-axes of each lung along x and y, the right one (negative x) first.
        base_mm: world z of each lung's base, the right one first.
        blood_hu: blood, with or without contrast medium.
    """

    scale: float
    body_mm: tuple[float, float]
    fat_mm: float
    lung_mm: tuple[tuple[float, float], tuple[float, float]]
    base_mm: tuple[float, float]
    blood_hu: float

    @classmethod
    def draw(cls, scale: float, contrast: bool, generator: Generator) -> Self:
        """Draw a chest of the given size; no two are alike, and no two lungs of one chest."""
        s = scale

        def lung() -> tuple[float, float]:
            return s * generator.uniform(52, 60), s * generator.uniform(74, 86)

        return cls(
            scale=s,
            body_mm=(s * generator.uniform(156, 168), s * generator.uniform(106, 118)),
            fat_mm=s * generator.uniform(6, 16),
            lung_mm=(lung(), lung()),
            base_mm=(
                s * (generator.uniform(-6, 10) - LUNG_HEIGHT_MM / 2),
                s * (generator.uniform(-14, 2) - LUNG_HEIGHT_MM / 2),
            ),
            blood_hu=generator.uniform(140, 300) if contrast else generator.uniform(35, 55),
        )

    @property
    def apex_mm(self) -> float:
        """Give the world z of the lungs' upper end."""
        return self.scale * LUNG_HEIGHT_MM / 2

    def lung_box(self, side: int) -> tuple[Point, Point]:
        """Give two opposite world corners of a box around one lung, with room for its uneven surface."""
        s = self.scale
        low, high = (s * 5.0, s * 142.0) if side > 0 else (s * -142.0, s * -5.0)
        return np.array([low, s * -98.0, s * -150.0]), np.array([high, s * 100.0, s * 130.0])

    def hilum(self, side: int) -> Point:
        """Give the place where vessels and airways enter a lung; side is -1 (right) or 1 (left)."""
        return self.scale * np.array([side * 30.0, 8.0, 8.0])

    def lung_depth(self, side: int, coordinates: Coordinates) -> Depth:
        """Measure, in mm and roughly, how deep each voxel lies inside a lung (negative outside)."""
        s = self.scale
        z, y, x = coordinates
        half_x, half_y = self.lung_mm[(side + 1) // 2]
        base = self.base_mm[(side + 1) // 2]
        height = np.clip((z - base) / (self.apex_mm - base), 0, 1)
        taper = np.sqrt(np.maximum(1 - height**3.2, 1e-3)) * (0.9 + 0.1 * np.sin(np.pi * height))
        across, along = (x - side * s * 70) / (half_x * taper), (y - s * 2) / (half_y * taper)
        oval = across**2 + along**2
        depth = (1 - np.sqrt(oval)) * half_x * taper
        dome = base + s * 30 * np.maximum(1 - oval, 0)
        depth = np.minimum(depth, (z - dome) * 0.8)
        depth = np.minimum(depth, side * x - s * (17 + 9 * np.exp(-((y - s * 55) ** 2) / (s * 40) ** 2)))
        inside: Depth = np.minimum(depth, self._outside_heart(coordinates))
        return inside

    def _outside_heart(self, coordinates: Coordinates) -> Depth:
        centre, radii = (values.tolist() for values in self.heart)
        z, y, x = coordinates
        scaled = np.sqrt(
            ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
        )
        outside: Depth = (scaled - 1) * radii[1]
        return outside

    @property
    def heart(self) -> tuple[Point, Point]:
        """Give the heart's centre and half-axes."""
        return self.scale * np.array([22.0, -28.0, -58.0]), self.scale * np.array([56.0, 42.0, 52.0])


def paint_soft_tissue(canvas: Canvas, thorax: Thorax) -> None:
    """Paint skin, fat and muscle, the heart and the great vessels."""
    z, y, x = canvas.coordinates
    s = thorax.scale
    shoulders = 1 + 0.1 * np.clip((z - s * 60) / (s * 60), 0, 1)
    oval = np.sqrt((x / (thorax.body_mm[0] * shoulders)) ** 2 + (y / thorax.body_mm[1]) ** 2)
    depth = (1 - oval) * thorax.body_mm[1]
    voxel_mm = canvas.voxel_mm
    canvas.blend(soft_edge(depth, voxel_mm), MUSCLE_HU)
    canvas.blend(soft_edge(np.minimum(depth - 1.5 * s, thorax.fat_mm - depth), voxel_mm), FAT_HU)
    centre, radii = thorax.heart
    paint_ellipsoid(canvas, centre, radii * 0.97, thorax.blood_hu)
    for start, stop, radius in (
        ((20, 48, -140), (20, 48, 40), 11),
        ((20, 48, 40), (8, 0, 62), 12),
        ((8, 0, 62), (-6, -18, 20), 13),
        ((-18, -8, 110), (-18, -4, 0), 8),
    ):
        paint_segment(canvas, s * np.array(start, float), s * np.array(stop, float), (s * radius,) * 2, thorax.blood_hu)


def paint_airway(canvas: Canvas, thorax: Thorax) -> None:
    """Paint the trachea and the two main bronchi with their walls."""
    s = thorax.scale
    carina = s * np.array([0.0, 14.0, 30.0])
    pieces = [(s * np.array([0.0, 4.0, 150.0]), carina, s * 8.0)]
    pieces += [(carina, thorax.hilum(side) + s * np.array([0.0, 4.0, 0.0]), s * 5.5) for side in (-1, 1)]
    for wall_mm, hu in ((1.5, MUSCLE_HU), (0.0, AIR_HU)):
        for start, stop, radius in pieces:
            paint_segment(canvas, start, stop, (radius + wall_mm, radius + wall_mm), hu)


def paint_lung(canvas: Canvas, thorax: Thorax, side: int, generator: Generator) -> Depth:
    """Fill one lung with parenchyma: denser at the back, mottled, with a fissure across.

    Args:
        canvas: the window of the canvas that holds this lung.
        thorax: the chest.
        side: -1 (right) or 1 (left).
        generator: source of chance.

    Returns:
        How deep each voxel of the window lies in the lung, in mm and roughly; negative outside.
    """
    z, y, x = canvas.coordinates
    s = thorax.scale
    depth = thorax.lung_depth(side, canvas.coordinates) + s * 1.5 * smooth_noise(canvas, s * 18.0, generator)
    mottle = smooth_noise(canvas, 6.0, generator) * generator.uniform(8, 25)
    mottle += generator.uniform(-890, -830) + y * generator.uniform(0.1, 0.5)
    canvas.blend(soft_edge(depth, canvas.voxel_mm), mottle)
    tilt = generator.uniform(0.5, 1.0)
    wave = generator.uniform(-15, 15) - 4 * np.sin(x / 20)
    sheet = np.abs(z - tilt * y - wave) / float(np.hypot(1, tilt))
    canvas.blend(soft_edge(0.35 - sheet, canvas.voxel_mm) * (depth > 0) * generator.uniform(0.15, 0.4), 0.0)
    return depth


def paint_bones(canvas: Canvas, thorax: Thorax, generator: Generator) -> None:
    """Paint spine, ribs and breastbone; a rib ends in cartilage before the breastbone."""
    s = thorax.scale
    offset = generator.uniform(0, 22)
    for level in range(-7, 8):
        height = s * (level * 22 + offset)
        vertebra = np.array([0.0, s * 74, height])
        paint_segment(
            canvas, vertebra, vertebra + np.array([0.0, 0.0, s * 15]), (s * 15, s * 15), generator.uniform(170, 260)
        )
        paint_ellipsoid(canvas, np.array([0, s * 100, height]), s * np.array([11.0, 10.0, 8.0]), BONE_HU * 0.7)
        for side in (-1, 1):
            _paint_rib(canvas, thorax, side, height + s * 45)
    paint_segment(canvas, s * np.array([0, -93.0, -70]), s * np.array([0, -90.0, 70]), (s * 7, s * 9), BONE_HU * 0.5)


def paint_table(canvas: Canvas, thorax: Thorax) -> None:
    """Paint the curved table that the body lies on."""
    _, y, x = canvas.coordinates
    sag = thorax.body_mm[1] + thorax.scale * 4 - (x / 40) ** 2
    shell = soft_edge(3.0 - np.abs(y - sag - 3.0), canvas.voxel_mm) * (np.abs(x) < thorax.scale * 190)
    canvas.blend(np.broadcast_to(shell, canvas.hu.shape), -150.0)


def smooth_noise(canvas: Canvas, grain_mm: float, generator: Generator) -> Depth:
    """Draw noise of unit variance whose grains are about `grain_mm` wide."""
    axes = (canvas.z_mm, canvas.y_mm, canvas.x_mm)
    coarse_shape = [int(np.ptp(axis) / grain_mm) + 3 for axis in axes]
    coarse = generator.standard_normal(coarse_shape, dtype=np.float32)
    fine = coarse
    for dimension, axis in enumerate(axes):
        # One axis at a time, each a small matrix product: far quicker than a three-dimensional zoom.
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
