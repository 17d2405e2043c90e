"""Nodules of known place and size, and the things that look like them and are none."""

from dataclasses import dataclass

import numpy as np

from nodule_lightning.phantom.canvas import Canvas, Point, paint_ellipsoid, paint_segment, soft_edge
from nodule_lightning.phantom.settings import DIAMETER_QUANTILES_MM, PhantomSettings

Generator = np.random.Generator
# The fractional part of multiples of the golden ratio spreads evenly over any run of consecutive draws, so a small test
# set has the stated distribution as well as a large one.
GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule to be painted.

    Attributes:
        diameter_mm: diameter of the ball of the same volume.
        kind: `solid`, `part_solid` or `ground_glass`.
        place: `free`, `vessel`, `pleura` or `mediastinum`.
        lobulation: how far the surface swells and dips, as a share of the radius.
    """

    diameter_mm: float
    kind: str
    place: str
    lobulation: float


def draw_nodules(settings: PhantomSettings, seed: int, index: int) -> list[Nodule]:
    """Draw the nodules of scan `index`: the same for any number of scans in the data set."""
    counts = [_count(settings, seed, scan) for scan in range(index + 1)]
    first = sum(counts[:-1])
    return [_draw_nodule(settings, seed, number) for number in range(first, first + counts[-1])]


def paint_nodule(canvas: Canvas, centre_xyz_mm: Point, nodule: Nodule, generator: Generator) -> None:
    """Paint a nodule; its volume is that of a ball of the stated diameter."""
    solid_hu = generator.uniform(-40, 70)
    glass_hu = generator.uniform(-620, -420)
    radius_mm = nodule.diameter_mm / 2
    if nodule.kind != "solid":
        _paint_lump(canvas, centre_xyz_mm, radius_mm, nodule.lobulation, glass_hu, generator)
    if nodule.kind == "part_solid":
        _paint_lump(canvas, centre_xyz_mm, radius_mm * generator.uniform(0.45, 0.65), 0.15, solid_hu, generator)
    if nodule.kind == "solid":
        _paint_lump(canvas, centre_xyz_mm, radius_mm, nodule.lobulation, solid_hu, generator)
        if nodule.lobulation > 0.2:
            for _ in range(int(generator.integers(3, 8))):
                ray = _direction(generator) * radius_mm
                paint_segment(canvas, centre_xyz_mm + 0.7 * ray, centre_xyz_mm + 1.6 * ray, (0.6, 0.3), solid_hu)


def paint_granuloma(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a small calcified ball."""
    radius = generator.uniform(1.2, 2.6)
    paint_ellipsoid(canvas, centre_xyz_mm, [radius] * 3, generator.uniform(300, 800))


def paint_micronodule(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a nodule under 3 mm, which the challenge does not count."""
    radius = generator.uniform(0.8, 1.25)
    paint_ellipsoid(canvas, centre_xyz_mm, [radius] * 3, generator.uniform(-60, 60))


def paint_scar(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a short thick strand, straight or bent: scar, or plug of mucus in an airway."""
    radius = generator.uniform(0.9, 2.2)
    half = _direction(generator) * radius * generator.uniform(2.5, 4.5)
    bend = centre_xyz_mm + generator.normal(0, 0.25, 3) * np.linalg.norm(half)
    hu = generator.uniform(-60, 50)
    paint_segment(canvas, centre_xyz_mm - half, bend, (radius * 0.6, radius), hu)
    paint_segment(canvas, bend, centre_xyz_mm + half, (radius, radius * 0.6), hu)


def paint_plaque(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a flat plate along the chest wall."""
    long_mm = generator.uniform(5, 11)
    paint_ellipsoid(canvas, centre_xyz_mm, [generator.uniform(1.0, 1.8), long_mm, long_mm], generator.uniform(20, 80))


def _paint_lump(
    canvas: Canvas, centre_xyz_mm: Point, radius_mm: float, lobulation: float, hu: float, generator: Generator
) -> None:
    part = canvas.window(centre_xyz_mm - 2 * radius_mm - 2, centre_xyz_mm + 2 * radius_mm + 2)
    if part.hu.size == 0:
        return
    z, y, x = part.coordinates
    offset = np.stack(np.broadcast_arrays(x - centre_xyz_mm[0], y - centre_xyz_mm[1], z - centre_xyz_mm[2]), axis=-1)
    stretch = np.exp(generator.normal(0, 0.1, 3))
    offset = offset / (stretch / stretch.prod() ** (1 / 3))
    distance = np.linalg.norm(offset, axis=-1)
    towards = offset / np.maximum(distance, 1e-6)[..., None]
    bumps = np.stack([_direction(generator) for _ in range(5)])
    swell = np.maximum(towards @ bumps.T, 0) ** 3 @ generator.uniform(-1, 1, 5)
    coverage = soft_edge(radius_mm * (1 + lobulation * swell) - distance, canvas.voxel_mm)
    # A vessel or wall that the lump lies on stays as dense as it was.
    part.blend(coverage * (part.hu < hu), hu)


def _count(settings: PhantomSettings, seed: int, index: int) -> int:
    shares = np.cumsum(settings.nodule_counts) / np.sum(settings.nodule_counts)
    return int(np.searchsorted(shares, _even(seed, 1, index), side="right"))


def _draw_nodule(settings: PhantomSettings, seed: int, number: int) -> Nodule:
    generator = np.random.default_rng([seed, 2, number])
    quantiles = np.array(DIAMETER_QUANTILES_MM[settings.diameters]) * settings.diameter_scale
    levels = np.linspace(0, 1, len(quantiles))
    largest = np.interp(settings.largest_diameter_mm, quantiles, levels)
    diameter = float(np.interp(_even(seed, 3, number) * largest, levels, quantiles))
    kinds = np.array(settings.nodule_kinds)
    if diameter < 6:
        # Readers seldom mark small nodules that are not solid, since they cannot see them.
        kinds = kinds * [1.0, 0.5, 0.4]
    return Nodule(
        diameter_mm=diameter,
        kind=str(generator.choice(["solid", "part_solid", "ground_glass"], p=kinds / kinds.sum())),
        place=str(
            generator.choice(
                ["free", "vessel", "pleura", "mediastinum"],
                p=np.array(settings.nodule_places) / sum(settings.nodule_places),
            )
        ),
        lobulation=float(generator.choice([0.08, 0.2, 0.35])),
    )


def _even(seed: int, stream: int, index: int) -> float:
    start = np.random.default_rng([seed, stream]).random()
    return float((start + index * GOLDEN_RATIO) % 1.0)


def _direction(generator: Generator) -> Point:
    vector = generator.standard_normal(3)
    unit: Point = vector / np.linalg.norm(vector)
    return unit
