"""Structures that look like nodules: small lesions, and normal anatomy that mimics a nodule."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from nodule_lightning.phantom.canvas import Canvas, Point, paint_ellipsoid, paint_segment
from nodule_lightning.phantom.nodules import random_direction

Generator = np.random.Generator
Painter = Callable[[Canvas, Point, Generator], None]


@dataclass(frozen=True, slots=True)
class Imitation:
    """One kind of structure that looks like a nodule.

    Attributes:
        paint: paints one at a world position.
        place: where it lies: `free`, `vessel` or `pleura`.
        radius_mm: its approximate extent.
        listed: whether a reader would have marked it as a non-nodule; it is then an excluded finding.
    """

    paint: Painter
    place: str
    radius_mm: float
    listed: bool


def lesions() -> tuple[Imitation, ...]:
    """List residues of disease: granulomas, micronodules, scars, mucus plugs, plaques."""
    return (
        Imitation(paint_granuloma, "free", 2.5, listed=True),
        Imitation(paint_micronodule, "free", 1.2, listed=True),
        Imitation(paint_scar, "free", 6.0, listed=False),
        Imitation(paint_scar, "vessel", 4.0, listed=False),
        Imitation(paint_plaque, "pleura", 3.0, listed=False),
    )


def anatomical_mimics(blood_hu: float) -> tuple[Imitation, ...]:
    """List normal anatomy: vessel crossings, bronchi seen end-on, rib ends that bulge into the lung."""
    return (
        Imitation(partial(paint_crossing, blood_hu=blood_hu), "free", 4.0, listed=False),
        Imitation(partial(paint_bronchus_end_on, blood_hu=blood_hu), "free", 5.0, listed=False),
        Imitation(paint_rib_end, "pleura", 5.0, listed=False),
    )


def paint_granuloma(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a granuloma: a small calcified ball."""
    radius = generator.uniform(1.2, 2.6)
    paint_ellipsoid(canvas, centre_xyz_mm, [radius] * 3, generator.uniform(300, 800))


def paint_micronodule(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a nodule under 3 mm, which the challenge does not score."""
    radius = generator.uniform(0.8, 1.25)
    paint_ellipsoid(canvas, centre_xyz_mm, [radius] * 3, generator.uniform(-60, 60))


def paint_scar(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a short thick strand, straight or bent: a scar, or a mucus plug in an airway."""
    radius = generator.uniform(0.9, 2.2)
    half = random_direction(generator) * radius * generator.uniform(2.5, 4.5)
    bend = centre_xyz_mm + generator.normal(0, 0.25, 3) * np.linalg.norm(half)
    hu = generator.uniform(-60, 50)
    paint_segment(canvas, centre_xyz_mm - half, bend, (radius * 0.6, radius), hu)
    paint_segment(canvas, bend, centre_xyz_mm + half, (radius, radius * 0.6), hu)


def paint_plaque(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint a flat plate along the chest wall."""
    long_mm = generator.uniform(5, 11)
    paint_ellipsoid(canvas, centre_xyz_mm, [generator.uniform(1.0, 1.8), long_mm, long_mm], generator.uniform(20, 80))


def paint_crossing(canvas: Canvas, centre_xyz_mm: Point, generator: Generator, *, blood_hu: float) -> None:
    """Paint two vessels that cross and touch: a blob in a single slice, two strands in three dimensions."""
    first, second = random_direction(generator), random_direction(generator)
    across = np.cross(first, second)
    apart = across / np.linalg.norm(across)
    for direction, side in ((first, -0.5), (second, 0.5)):
        radius = generator.uniform(0.9, 1.9)
        half = direction * generator.uniform(7, 13)
        middle = centre_xyz_mm + side * radius * apart
        paint_segment(canvas, middle - half, middle, (radius * 0.7, radius), blood_hu)
        paint_segment(canvas, middle, middle + half, (radius, radius * 0.7), blood_hu)


def paint_bronchus_end_on(canvas: Canvas, centre_xyz_mm: Point, generator: Generator, *, blood_hu: float) -> None:
    """Paint a bronchus perpendicular to the slices with its artery: a signet ring, or a dot if plugged by mucus."""
    radius = generator.uniform(1.5, 3.0)
    along = np.array([*generator.normal(0, 0.25, 2), 1.0]) * generator.uniform(6, 10)
    wall_hu = generator.uniform(-60, 40)
    ends = (centre_xyz_mm - along, centre_xyz_mm + along)
    beside = random_direction(generator) * [1.0, 1.0, 0.0]
    shift = beside / np.linalg.norm(beside) * (radius * 1.9 + 0.5)
    paint_segment(canvas, ends[0] + shift, ends[1] + shift, (radius * 0.9, radius * 0.7), blood_hu)
    paint_segment(canvas, *ends, (radius + 0.9, radius * 0.8 + 0.8), wall_hu)
    if generator.random() < 0.7:
        paint_segment(canvas, *ends, (radius, radius * 0.8), -1000.0)


def paint_rib_end(canvas: Canvas, centre_xyz_mm: Point, generator: Generator) -> None:
    """Paint the knob at the end of a rib, with the rib behind it leading out of the lung."""
    radius = generator.uniform(3.5, 6.0)
    outwards = np.array([centre_xyz_mm[0] - np.sign(centre_xyz_mm[0]) * 60, centre_xyz_mm[1], 0.0])
    outwards /= max(float(np.linalg.norm(outwards)), 1e-6)
    hu = generator.uniform(180, 420)
    paint_segment(canvas, centre_xyz_mm, centre_xyz_mm + 12 * outwards, (radius, radius * 0.8), hu)
    paint_ellipsoid(canvas, centre_xyz_mm, np.full(3, radius), hu * generator.uniform(0.7, 1.0))
