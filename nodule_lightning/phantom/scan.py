"""One phantom scan: the whole chest, its nodules, and the truth about both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import edt
import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.geometry import Grid
from nodule_lightning.phantom import anatomy, nodules
from nodule_lightning.phantom.acquisition import acquire
from nodule_lightning.phantom.canvas import Canvas, Point
from nodule_lightning.phantom.placement import LungPoints
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.trees import Tree, grow_tree, paint_tree
from nodule_lightning.structures import Findings, Scan

Generator = np.random.Generator
Painter = Callable[[Canvas, Point, Generator], None]


@dataclass(frozen=True, slots=True)
class Phantom:
    """A scan and what is known about it.

    Attributes:
        scan: the CT.
        nodules: the nodules to be found.
        excluded: what looks like a nodule and was listed as none, with no diameter.
        lungs: the true lungs, on the scan's grid.
    """

    scan: Scan
    nodules: Findings
    excluded: Findings
    lungs: Bool[np.ndarray, "z y x"]


@dataclass(frozen=True, slots=True)
class _Imitation:
    paint: Painter
    place: str
    radius_mm: float
    listed: bool


IMITATIONS = (
    _Imitation(nodules.paint_granuloma, "free", 2.5, listed=True),
    _Imitation(nodules.paint_micronodule, "free", 1.2, listed=True),
    _Imitation(nodules.paint_scar, "free", 6.0, listed=False),
    _Imitation(nodules.paint_scar, "vessel", 4.0, listed=False),
    _Imitation(nodules.paint_plaque, "pleura", 3.0, listed=False),
)


def make_phantom(settings: PhantomSettings, seed: int, index: int) -> Phantom:
    """Make scan `index` of the data set `seed`: always the same bytes, whatever else is made."""
    generator = np.random.default_rng([seed, 0, index])
    scale = _draw(generator, settings.body_scale)
    thorax = anatomy.Thorax.draw(scale, generator.random() < settings.contrast_share, generator)
    grid, fine_per_slice = _draw_grid(settings, scale, generator)
    fine = _fine_grid(grid, fine_per_slice)
    canvas = Canvas.blank(fine, anatomy.AIR_HU)
    anatomy.paint_table(canvas, thorax)
    anatomy.paint_soft_tissue(canvas, thorax)
    anatomy.paint_bones(canvas, thorax, generator)
    depth = np.full(fine.shape, -1.0, dtype=np.float32)
    for side in (-1, 1):
        box = thorax.lung_box(side)
        deep = anatomy.paint_lung(canvas.window(*box), thorax, side, generator)
        Canvas(depth, canvas.z_mm, canvas.y_mm, canvas.x_mm).window(*box).hu[...] = deep
    anatomy.paint_airway(canvas, thorax)
    points = _lung_points(canvas, depth, thorax)
    vessels = _paint_trees(canvas, points, thorax, settings, generator)
    nodule_findings, excluded = _paint_findings(canvas, points, vessels, settings, (seed, index))
    hu = acquire(canvas.hu, fine_per_slice, grid.spacing_zyx_mm[2], _draw(generator, settings.noise_hu), generator)
    lungs = depth.reshape(grid.shape[0], fine_per_slice, *grid.shape[1:]).mean(axis=1) > 0
    return Phantom(Scan(f"phantom-{seed}-{index:04d}", hu, grid), nodule_findings, excluded, lungs)


def _draw_grid(settings: PhantomSettings, scale: float, generator: Generator) -> tuple[Grid, int]:
    pixel_mm, slice_mm = _draw(generator, settings.pixel_mm), _draw(generator, settings.slice_mm)
    half_mm = scale * (anatomy.LUNG_HEIGHT_MM / 2 + generator.uniform(8, 20))
    count = int(2 * half_mm / slice_mm)
    side_mm = pixel_mm * (settings.matrix - 1)
    # The scanner's zero is not the body's: every scan has its own origin, as real ones have.
    origin = np.array([-side_mm / 2, -side_mm / 2, -half_mm])
    shape = (count, settings.matrix, settings.matrix)
    grid = Grid(shape, (slice_mm, pixel_mm, pixel_mm), (float(origin[0]), float(origin[1]), float(origin[2])))
    return grid, max(1, round(slice_mm / 1.25))


def _fine_grid(grid: Grid, fine_per_slice: int) -> Grid:
    thin_mm = grid.spacing_zyx_mm[0] / fine_per_slice
    x, y, z = grid.origin_xyz_mm
    return Grid(
        (grid.shape[0] * fine_per_slice, *grid.shape[1:]),
        (thin_mm, *grid.spacing_zyx_mm[1:]),
        (x, y, z - thin_mm * (fine_per_slice - 1) / 2),
    )


def _lung_points(canvas: Canvas, depth: anatomy.Depth, thorax: anatomy.Thorax) -> LungPoints:
    """Measure the true distance to the lung's surface on every other voxel, and keep those inside."""
    coarse = (slice(None, None, 2),) * 3
    axes = [axis[::2] for axis in (canvas.z_mm, canvas.y_mm, canvas.x_mm)]
    spacing = [float(axis[1] - axis[0]) for axis in axes]
    distance = edt.edt(depth[coarse] > 0, anisotropy=spacing)
    inside = np.nonzero(distance > 0)
    xyz: Float64[np.ndarray, "n 3"] = np.stack([axes[2][inside[2]], axes[1][inside[1]], axes[0][inside[0]]], axis=1)
    return LungPoints(xyz.astype(np.float64), distance[inside].astype(np.float64), thorax.scale * 60.0)


def _paint_trees(
    canvas: Canvas, points: LungPoints, thorax: anatomy.Thorax, settings: PhantomSettings, generator: Generator
) -> Tree:
    """Paint arteries, veins and, beside the arteries, airways; give the vessels back."""
    ends = max(8, int(settings.vessel_ends * thorax.scale**2))
    vessels = []
    for side in (-1, 1):
        inside = np.flatnonzero((points.xyz_mm[:, 0] * side > 0) & (points.depth_mm > 2))
        for offset_mm in (-4.0, 5.0):
            root = thorax.hilum(side) + thorax.scale * np.array([0.0, offset_mm, 2 * offset_mm])
            tips = points.xyz_mm[generator.choice(inside, ends)]
            vessels.append(grow_tree(root, tips, generator.uniform(0.4, 0.55), generator))
        tips = points.xyz_mm[generator.choice(inside, max(4, ends // 14))]
        airway = grow_tree(thorax.hilum(side) + np.array([0.0, 4.0, 0.0]), tips, thorax.scale * 0.9, generator)
        paint_tree(canvas, airway, -150.0, wall_mm=0.7)
        paint_tree(canvas, airway, anatomy.AIR_HU)
    for tree in vessels:
        paint_tree(canvas, tree, thorax.blood_hu)
    return Tree.join(vessels)


def _paint_findings(
    canvas: Canvas, points: LungPoints, vessels: Tree, settings: PhantomSettings, key: tuple[int, int]
) -> tuple[Findings, Findings]:
    generator = np.random.default_rng([key[0], 4, key[1]])
    taken: list[tuple[Point, float]] = []
    wanted = sorted(nodules.draw_nodules(settings, *key), key=lambda nodule: -nodule.diameter_mm)
    for nodule in wanted:
        centre = points.place(nodule.place, nodule.diameter_mm / 2, vessels, taken, generator)
        nodules.paint_nodule(canvas, centre, nodule, generator)
        taken.append((centre, nodule.diameter_mm / 2))
    found = len(taken)
    listed: list[Point] = []
    for imitation in IMITATIONS:
        for _ in range(int(generator.integers(settings.imitations[0], settings.imitations[1] + 1))):
            centre = points.place(imitation.place, imitation.radius_mm, vessels, taken, generator)
            imitation.paint(canvas, centre, generator)
            taken.append((centre, imitation.radius_mm))
            if imitation.listed:
                listed.append(centre)
    nodule_findings = Findings(
        np.array([centre for centre, _ in taken[:found]]).reshape(-1, 3),
        np.array([nodule.diameter_mm for nodule in wanted]),
    )
    return nodule_findings, Findings(np.array(listed).reshape(-1, 3), np.full(len(listed), -1.0))


def _draw(generator: Generator, bounds: Sequence[float]) -> float:
    low, high = bounds
    return generator.uniform(low, high)
