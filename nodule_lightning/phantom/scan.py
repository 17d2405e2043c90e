"""Making of one phantom scan with its ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import edt
import numpy as np
from jaxtyping import Float64

from nodule_lightning.geometry import Grid
from nodule_lightning.phantom import anatomy, beyond, nodules
from nodule_lightning.phantom.acquisition import acquire
from nodule_lightning.phantom.canvas import Canvas, Point
from nodule_lightning.phantom.imitations import anatomical_mimics, lesions
from nodule_lightning.phantom.placement import LungPoints
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.thorax import LUNG_HEIGHT_MM, LUNG_REACH_MM, Depth, Generator, Thorax
from nodule_lightning.phantom.trees import Tree, grow_tree, paint_tree
from nodule_lightning.phantom.trouble import (
    TROUBLES,
    WIDE_MATRIX,
    Trouble,
    apply_trouble,
    draw_trouble,
    drop_slices,
    flip_axes,
    phantom_id,
)
from nodule_lightning.phantom.truth import Phantom, label_nodules
from nodule_lightning.structures import Findings, Scan


def make_phantom(settings: PhantomSettings, seed: int, index: int, trouble: str = "") -> Phantom:
    """Make scan `index` of a data set; its bytes do not depend on the other scans.

    Args:
        settings: the distributions that the data set is drawn from.
        seed: seed of the data set.
        index: index of the scan among those of its kind.
        trouble: one of `TROUBLES`, or "" for none.

    Raises:
        InputError: there is no such kind of trouble.
    """
    case = draw_trouble(trouble, seed, index)
    key = _kind_seed(seed, trouble)
    generator = np.random.default_rng([key, 0, index])
    apart = np.random.default_rng([key, 6, index])
    scale = _draw(generator, settings.body_scale)
    thorax = Thorax.draw(scale, generator.random() < settings.contrast_share, generator)
    thorax = apply_trouble(thorax, case, apart)
    grid, fine_per_slice = _draw_grid(settings, thorax, case, generator)
    canvas = Canvas.blank(_fine_grid(grid, fine_per_slice), anatomy.AIR_HU)
    depth = _paint_chest(canvas, thorax, case, generator)
    points = _lung_points(canvas, depth, thorax)
    vessels = _paint_trees(canvas, points, thorax, settings, generator)
    if case.above_mm:
        beyond.open_mouth_and_nose(canvas, thorax)
    found = _paint_findings(canvas, points, vessels, thorax, settings, (key, index))
    hu = acquire(canvas.hu, fine_per_slice, grid.spacing_zyx_mm[2], _draw(generator, settings.noise_hu), generator)
    lungs = depth.reshape(grid.shape[0], fine_per_slice, *grid.shape[1:]).mean(axis=1) > 0
    # Like real scans, every scan has its own origin: the frame of the scanner is not that of the body.
    shift = apart.uniform((-40, -40, -400), (40, 40, 100))
    phantom = Phantom(
        Scan(phantom_id(seed, index, trouble), hu, _moved(grid, shift)),
        Findings(found.nodules.centre_xyz_mm + shift, found.nodules.diameter_mm),
        Findings(found.excluded.centre_xyz_mm + shift, found.excluded.diameter_mm),
        lungs,
        label_nodules(canvas, found.shares, fine_per_slice),
    )
    return flip_axes(drop_slices(phantom, case.gaps, apart), case.flipped_axes)


@dataclass(frozen=True, slots=True)
class _Painted:
    nodules: Findings
    excluded: Findings
    shares: list[Canvas]


def _kind_seed(seed: int, trouble: str) -> int:
    """Return the seed for all scans of one kind of trouble, so that no two kinds share a chest."""
    if not trouble:
        return seed
    return int(np.random.SeedSequence([seed, 7, TROUBLES.index(trouble)]).generate_state(1)[0])


def _draw_grid(settings: PhantomSettings, thorax: Thorax, case: Trouble, generator: Generator) -> tuple[Grid, int]:
    scale, matrix = thorax.scale, settings.matrix
    pixel_mm, slice_mm = _draw(generator, settings.pixel_mm), _draw(generator, settings.slice_mm)
    pixel_mm = max(pixel_mm, 2 * scale * LUNG_REACH_MM / matrix)
    if case.kind == "arms":
        # The widest field of view of a scanner is 500 mm.
        pixel_mm = scale * 500 / matrix
    if case.kind == "wide_matrix":
        pixel_mm, matrix = pixel_mm * matrix / WIDE_MATRIX, WIDE_MATRIX
    half_mm = scale * (LUNG_HEIGHT_MM / 2 + generator.uniform(8, 20))
    below_mm = half_mm + scale * case.below_mm
    count = int((below_mm + half_mm + scale * case.above_mm) / slice_mm)
    side_mm = pixel_mm * (matrix - 1)
    origin = (-side_mm / 2, -side_mm / 2, -below_mm)
    return Grid((count, matrix, matrix), (slice_mm, pixel_mm, pixel_mm), origin), max(1, round(slice_mm / 1.25))


def _moved(grid: Grid, shift_xyz_mm: Point) -> Grid:
    x, y, z = (np.array(grid.origin_xyz_mm) + shift_xyz_mm).tolist()
    return replace(grid, origin_xyz_mm=(x, y, z))


def _fine_grid(grid: Grid, fine_per_slice: int) -> Grid:
    thin_mm = grid.spacing_zyx_mm[0] / fine_per_slice
    x, y, z = grid.origin_xyz_mm
    return Grid(
        (grid.shape[0] * fine_per_slice, *grid.shape[1:]),
        (thin_mm, *grid.spacing_zyx_mm[1:]),
        (x, y, z - thin_mm * (fine_per_slice - 1) / 2),
    )


def _paint_chest(canvas: Canvas, thorax: Thorax, case: Trouble, generator: Generator) -> Depth:
    """Paint everything but the trees inside the lungs; returns the depth of each voxel in a lung, negative outside."""
    anatomy.paint_table(canvas, thorax)
    anatomy.paint_soft_tissue(canvas, thorax)
    if thorax.arms:
        beyond.paint_arms(canvas, thorax)
    if case.below_mm:
        beyond.paint_abdomen(canvas, thorax, generator)
    anatomy.paint_bones(canvas, thorax, generator)
    if case.above_mm:
        beyond.paint_head(canvas, thorax)
    depth = np.full(canvas.hu.shape, -1.0, dtype=np.float32)
    for side in (-1, 1):
        box = thorax.lung_box(side)
        deep = anatomy.paint_lung(canvas.window(*box), thorax, side, generator)
        canvas.over(depth).window(*box).hu[...] = deep
    return depth


def _lung_points(canvas: Canvas, depth: Depth, thorax: Thorax) -> LungPoints:
    """Collect every other voxel inside the lungs, with its exact distance to the surface of the lung."""
    coarse = (slice(None, None, 2),) * 3
    axes = [axis[::2] for axis in (canvas.z_mm, canvas.y_mm, canvas.x_mm)]
    spacing = [float(axis[1] - axis[0]) for axis in axes]
    distance = edt.edt(depth[coarse] > 0, anisotropy=spacing)
    inside = np.nonzero(distance > 0)
    xyz: Float64[np.ndarray, "n 3"] = np.stack([axes[2][inside[2]], axes[1][inside[1]], axes[0][inside[0]]], axis=1)
    return LungPoints(xyz.astype(np.float64), distance[inside].astype(np.float64), thorax.scale * 60.0)


def _paint_trees(
    canvas: Canvas, points: LungPoints, thorax: Thorax, settings: PhantomSettings, generator: Generator
) -> Tree:
    """Paint arteries, veins and airways; returns the vessels."""
    ends, airway_ends = (
        max(least, int(count * thorax.scale**2))
        for least, count in ((8, settings.vessel_ends), (4, settings.airway_ends))
    )
    heart_xyz_mm, heart_radii_mm = thorax.heart
    vessels, airways = [], []
    for side in (-1, 1):
        inside = np.flatnonzero((points.xyz_mm[:, 0] * side > 0) & (points.depth_mm > 2))
        for offset_mm in (-4.0, 5.0):
            root = thorax.hilum(side) + thorax.scale * np.array([0.0, offset_mm, 2 * offset_mm])
            tips = points.xyz_mm[generator.choice(inside, ends)]
            vessels.append(grow_tree(root, tips, generator.uniform(0.4, 0.55), generator))
        tips = points.xyz_mm[generator.choice(inside, airway_ends)]
        root = thorax.hilum(side) + np.array([0.0, 4.0, 0.0])
        airway = grow_tree(root, tips, thorax.scale * 0.9, generator, anatomy.main_bronchus_mm(thorax))
        from_heart = ((airway.start_xyz_mm + airway.stop_xyz_mm) / 2 - heart_xyz_mm) / heart_radii_mm
        airways.append(airway[np.linalg.norm(from_heart, axis=1) > 1])
    anatomy.paint_airways(canvas, thorax, Tree.join(airways))
    for tree in vessels:
        paint_tree(canvas, tree, thorax.blood_hu)
    return Tree.join(vessels)


def _paint_findings(
    canvas: Canvas,
    points: LungPoints,
    vessels: Tree,
    thorax: Thorax,
    settings: PhantomSettings,
    key: tuple[int, int],
) -> _Painted:
    generator = np.random.default_rng([key[0], 4, key[1]])
    taken: list[tuple[Point, float]] = []
    wanted = sorted(nodules.draw_nodules(settings, *key), key=lambda nodule: -nodule.diameter_mm)
    shares = []
    for nodule in wanted:
        centre = points.place(nodule.place, nodule.diameter_mm / 2, vessels, taken, generator)
        shares.append(nodules.paint_nodule(canvas, centre, nodule, generator))
        taken.append((centre, nodule.diameter_mm / 2))
    centres = [centre for centre, _ in taken]
    listed: list[Point] = []
    for kinds, (fewest, most) in (
        (lesions(), settings.imitations),
        (anatomical_mimics(thorax.blood_hu), settings.anatomical_imitations),
    ):
        for imitation in kinds:
            for _ in range(int(generator.integers(fewest, most + 1))):
                centre = points.place(imitation.place, imitation.radius_mm, vessels, taken, generator)
                imitation.paint(canvas, centre, generator)
                taken.append((centre, imitation.radius_mm))
                if imitation.listed:
                    listed.append(centre)
    return _Painted(
        Findings(np.array(centres).reshape(-1, 3), np.array([nodule.diameter_mm for nodule in wanted])),
        Findings(np.array(listed).reshape(-1, 3), np.full(len(listed), -1.0)),
        shares,
    )


def _draw(generator: Generator, bounds: Sequence[float]) -> float:
    low, high = bounds
    return generator.uniform(low, high)
