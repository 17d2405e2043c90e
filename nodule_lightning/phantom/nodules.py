"""Drawing of nodules from the statistics of the challenges, and painting of nodules of known size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nodule_lightning.phantom.canvas import Canvas, Point, paint_segment, soft_edge
from nodule_lightning.phantom.diameters import DIAMETER_QUANTILES_MM
from nodule_lightning.phantom.settings import PhantomSettings

Generator = np.random.Generator
# The fractional parts of multiples of the golden ratio are evenly spread over any run of consecutive draws, so even a
# small data set follows the stated distribution.
GOLDEN_RATIO = 0.6180339887498949
KINDS = ("solid", "part_solid", "ground_glass")
PLACES = ("free", "vessel", "pleura", "mediastinum")
_HEIGHTS = np.linspace(-1, 1, 501)[1::2]
_TURNS = 2 * np.pi * GOLDEN_RATIO * np.arange(len(_HEIGHTS))
_EVEN_DIRECTIONS = np.stack(
    [np.cos(_TURNS) * np.sqrt(1 - _HEIGHTS**2), np.sin(_TURNS) * np.sqrt(1 - _HEIGHTS**2), _HEIGHTS], axis=1
)


@dataclass(frozen=True, slots=True)
class Nodule:
    """The properties of a nodule to paint.

    Attributes:
        diameter_mm: diameter of a ball of the same volume.
        kind: `solid`, `part_solid` or `ground_glass`.
        place: `free`, `vessel`, `pleura` or `mediastinum`.
        lobulation: height of the bumps and dents of the surface, as a share of the radius.
    """

    diameter_mm: float
    kind: str
    place: str
    lobulation: float


def draw_nodules(settings: PhantomSettings, seed: int, index: int) -> list[Nodule]:
    """Draw the nodules of scan `index`; they do not depend on the number of scans in the data set."""
    counts = [_count(settings, seed, scan) for scan in range(index + 1)]
    first = sum(counts[:-1])
    return [draw_nodule(settings, seed, number) for number in range(first, first + counts[-1])]


def paint_nodule(canvas: Canvas, centre_xyz_mm: Point, nodule: Nodule, generator: Generator) -> Canvas:
    """Paint a nodule with the volume of a ball of its diameter.

    Returns:
        A window of the canvas around the nodule, with the share of each voxel that the nodule fills instead of HU. The
        fine rays of a spiculated nodule do not count.
    """
    solid_hu = generator.uniform(-40, 70)
    glass_hu = generator.uniform(-620, -420)
    radius_mm = nodule.diameter_mm / 2
    if nodule.kind != "solid":
        share = _paint_lump(canvas, centre_xyz_mm, radius_mm, nodule.lobulation, glass_hu, generator)
        if nodule.kind == "part_solid":
            core_mm = radius_mm * generator.uniform(0.45, 0.65)
            _paint_lump(canvas, centre_xyz_mm, core_mm, 0.15, solid_hu, generator)
        return share
    share = _paint_lump(canvas, centre_xyz_mm, radius_mm, nodule.lobulation, solid_hu, generator)
    if nodule.lobulation > 0.2:
        for _ in range(int(generator.integers(3, 8))):
            ray = random_direction(generator) * radius_mm
            paint_segment(canvas, centre_xyz_mm + 0.7 * ray, centre_xyz_mm + 1.6 * ray, (0.6, 0.3), solid_hu)
    return share


def random_direction(generator: Generator) -> Point:
    """Draw a unit vector, uniformly over the sphere."""
    vector = generator.standard_normal(3)
    unit: Point = vector / np.linalg.norm(vector)
    return unit


def _paint_lump(
    canvas: Canvas, centre_xyz_mm: Point, radius_mm: float, lobulation: float, hu: float, generator: Generator
) -> Canvas:
    part = canvas.window(centre_xyz_mm - 2 * radius_mm - 2, centre_xyz_mm + 2 * radius_mm + 2)
    z, y, x = part.coordinates
    offset = np.stack(np.broadcast_arrays(x - centre_xyz_mm[0], y - centre_xyz_mm[1], z - centre_xyz_mm[2]), axis=-1)
    stretch = np.exp(generator.normal(0, 0.1, 3))
    offset = offset / (stretch / stretch.prod() ** (1 / 3))
    distance = np.linalg.norm(offset, axis=-1)
    towards = offset / np.maximum(distance, 1e-6)[..., None]
    bumps = np.stack([random_direction(generator) for _ in range(5)])
    heights = lobulation * generator.uniform(-1, 1, 5)
    # Normalised, so that the volume stays that of the ball whatever the bumps are.
    volume = float((_swell(_EVEN_DIRECTIONS, bumps, heights) ** 3).mean())
    surface = radius_mm / volume ** (1 / 3) * _swell(towards, bumps, heights)
    share = part.over(soft_edge(surface - distance, canvas.voxel_mm).astype(np.float32))
    # A denser vessel or wall underneath stays as it was.
    part.blend(share.hu * (part.hu < hu), hu)
    return share


def _swell(
    towards: Float64[np.ndarray, "*shape 3"], bumps: Float64[np.ndarray, "5 3"], heights: Float64[np.ndarray, "5"]
) -> Float64[np.ndarray, "*shape"]:
    swell: Float64[np.ndarray, "*shape"] = np.maximum(1 + np.maximum(towards @ bumps.T, 0) ** 3 @ heights, 0.3)
    return swell


def _count(settings: PhantomSettings, seed: int, index: int) -> int:
    shares = np.cumsum(settings.nodule_counts) / np.sum(settings.nodule_counts)
    return int(np.searchsorted(shares, _even(seed, 1, index), side="right"))


def draw_nodule(settings: PhantomSettings, seed: int, number: int) -> Nodule:
    """Draw nodule `number` of a data set; consecutive ones are evenly spread over the distribution of diameters."""
    generator = np.random.default_rng([seed, 2, number])
    quantiles = np.array(DIAMETER_QUANTILES_MM[settings.diameters]) * settings.diameter_scale
    levels = np.linspace(0, 1, len(quantiles))
    largest = np.interp(settings.largest_diameter_mm, quantiles, levels)
    diameter = float(np.interp(_even(seed, 3, number) * largest, levels, quantiles))
    kinds = np.array(settings.nodule_kinds)
    if diameter < 6:
        # Readers rarely annotate small subsolid nodules: they are hard to see.
        kinds = kinds * [1.0, 0.5, 0.4]
    return Nodule(
        diameter_mm=diameter,
        kind=str(generator.choice(KINDS, p=kinds / kinds.sum())),
        place=str(
            generator.choice(
                PLACES,
                p=np.array(settings.nodule_places) / sum(settings.nodule_places),
            )
        ),
        lobulation=float(generator.choice(settings.lobulations)),
    )


def _even(seed: int, stream: int, index: int) -> float:
    start = np.random.default_rng([seed, stream]).random()
    return float((start + index * GOLDEN_RATIO) % 1.0)
