"""Planting of synthetic nodules in a real scan, with the blur and noise of the scan itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import edt
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.phantom.canvas import Canvas, Point
from nodule_lightning.phantom.nodules import Nodule, paint_nodule, random_direction
from nodule_lightning.phantom.placement import LungPoints
from nodule_lightning.phantom.scan_quality import ScanQuality, low_pass
from nodule_lightning.phantom.settings import MOST_NODULES
from nodule_lightning.structures import Findings, Scan

Generator = np.random.Generator
# Anything denser in a smoothed lung is a vessel, a scar or a nodule.
VESSEL_HU = -550.0
MOST_POINTS = 200_000
# Below any nodule: on this background, density and share of a voxel can be separated.
_EMPTY_HU = -1000.0


@dataclass(frozen=True, slots=True)
class Planted:
    """A scan with nodules planted in it.

    Attributes:
        scan: the modified scan, with the same grid and id.
        nodules: the planted nodules, in the order given.
        labels: 1 in the first nodule, 2 in the second, and so on; 0 elsewhere.
    """

    scan: Scan
    nodules: Findings
    labels: UInt8[np.ndarray, "z y x"]


class DenseVessels:
    """The vessels of a real scan, represented by its dense voxels."""

    def __init__(self, xyz_mm: Float64[np.ndarray, "n 3"], half_voxel_mm: float) -> None:
        self._xyz_mm = xyz_mm
        self._half_voxel_mm = half_voxel_mm

    def __len__(self) -> int:
        return len(self._xyz_mm)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._xyz_mm, balanced_tree=False, compact_nodes=False)

    def clearance_mm(self, points_xyz_mm: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n"]:
        """Return the distance of each point to the nearest dense voxel."""
        if len(self) == 0:
            return np.full(len(points_xyz_mm), np.inf)
        return np.asarray(self._tree.query(points_xyz_mm)[0], dtype=np.float64) - self._half_voxel_mm

    def beside(self, radius_mm: float, attempts: int, generator: Generator) -> Float64[np.ndarray, "attempts 3"]:
        """Draw centres at which a nodule of that radius touches a dense voxel."""
        chosen = self._xyz_mm[generator.choice(len(self), attempts)]
        towards = np.stack([random_direction(generator) for _ in range(attempts)])
        return chosen + (self._half_voxel_mm + 0.7 * radius_mm) * towards


def plant_nodules(
    scan: Scan,
    lungs: Bool[np.ndarray, "z y x"],
    nodules: Sequence[Nodule],
    generator: Generator,
    avoid: Findings | None = None,
) -> Planted:
    """Plant nodules in a scan, each at a free position of its kind.

    A nodule contributes to each voxel by the share that it fills, including the effect of slice thickness. It is as
    blurred as the lung surface of the scan. Its noise has the texture of the scan's soft tissue and the strength of
    its surroundings. Denser vessels and walls stay.

    Args:
        scan: a CT in HU, on any grid.
        lungs: mask of the lungs on the scan's grid, with or without walls and vessels.
        nodules: what to plant.
        generator: random generator; the same state gives the same bytes.
        avoid: findings of the scan that nothing may be planted on.

    Raises:
        InputError: there is no air in the lungs or no room left, or there are more nodules than a mask can number.
    """
    if len(nodules) > MOST_NODULES:
        raise InputError(
            f"at most {MOST_NODULES} nodules can be planted in a scan, not {len(nodules)}", "argument-invalid"
        )
    hu = scan.hu.copy()
    labels = np.zeros(hu.shape, dtype=np.uint8)
    if not nodules:
        return Planted(Scan(scan.scan_id, hu, scan.grid), Findings.empty(), labels)
    points, vessels = _places(scan, lungs, generator)
    quality = ScanQuality.measure(scan, lungs)
    taken = [] if avoid is None else _occupied(avoid)
    placed: dict[int, Point] = {}
    # Largest first, because it is the hardest to fit in.
    for number in sorted(range(len(nodules)), key=lambda index: -nodules[index].diameter_mm):
        nodule = nodules[number]
        centre = points.place_apart(nodule.place, nodule.diameter_mm / 2, vessels, taken, generator)
        _plant_one(hu, labels, scan.grid, nodule, number + 1, centre, quality, generator)
        taken.append((centre, nodule.diameter_mm / 2))
        placed[number] = centre
    found = Findings(
        np.array([placed[number] for number in range(len(nodules))]),
        np.array([nodule.diameter_mm for nodule in nodules]),
    )
    return Planted(Scan(scan.scan_id, hu, scan.grid), found, labels)


def _occupied(findings: Findings) -> list[tuple[Point, float]]:
    radii = np.maximum(findings.effective_diameter_mm(), 3.0) / 2
    return list(zip(findings.centre_xyz_mm, radii.tolist(), strict=True))


def _places(scan: Scan, lungs: Bool[np.ndarray, "z y x"], generator: Generator) -> tuple[LungPoints, DenseVessels]:
    """Find the possible positions of nodules, and the vessels, on a grid of about 1.4 mm."""
    if not lungs.any():
        raise _no_air(scan)
    box = ndimage.find_objects(lungs.view(np.uint8))[0]
    start = np.maximum([side.start - 8 for side in box], 0)
    inside = tuple(slice(int(low), side.stop + 8) for low, side in zip(start, box, strict=True))
    step = [max(1, round(1.4 / spacing)) for spacing in scan.grid.spacing_zyx_mm]
    coarse = tuple(slice(None, None, width) for width in step)
    spacing = [width * mm for width, mm in zip(step, scan.grid.spacing_zyx_mm, strict=True)]
    smooth = ndimage.uniform_filter(scan.hu[inside].astype(np.float32), step)[coarse]
    airy = lungs[inside][coarse] & (smooth < VESSEL_HU)
    if not airy.any():
        raise _no_air(scan)
    # Vessels thinner than this are closed into the lung; its walls are not, whatever the mask contains.
    reach_mm = 4.0
    outside = edt.edt(~airy, anisotropy=spacing)
    inner = edt.edt(outside <= reach_mm, anisotropy=spacing, black_border=True) > reach_mm
    depth_mm = edt.edt(inner, anisotropy=spacing, black_border=True)

    def world(mask: Bool[np.ndarray, "z y x"]) -> Float64[np.ndarray, "n 3"]:
        coarse_index = np.argwhere(mask)
        # Jittered, so that nodules are not centred on voxels.
        within = generator.uniform(-0.5, 0.5, coarse_index.shape)
        return scan.grid.to_world((coarse_index + within) * step + start)

    vessels = DenseVessels(world(inner & ~airy & (depth_mm > 2.5)), float(np.mean(spacing)) / 2)
    xyz_mm, depths_mm = world(inner), depth_mm[inner].astype(np.float64)
    if len(xyz_mm) > MOST_POINTS:
        chosen = generator.choice(len(xyz_mm), MOST_POINTS, replace=False)
        xyz_mm, depths_mm = xyz_mm[chosen], depths_mm[chosen]
    midplane_mm = float((xyz_mm[:, 0].min() + xyz_mm[:, 0].max()) / 2)
    middle_mm = float(np.ptp(xyz_mm[:, 0])) / 2 * 0.45
    return LungPoints(xyz_mm, depths_mm, middle_mm, midplane_mm), vessels


def _no_air(scan: Scan) -> InputError:
    return InputError(f"{scan.scan_id}: no air was found in the lungs, so nothing can be planted in it", "scan-invalid")


def _plant_one(
    hu: Int16[np.ndarray, "z y x"],
    labels: UInt8[np.ndarray, "z y x"],
    grid: Grid,
    nodule: Nodule,
    number: int,
    centre_xyz_mm: Point,
    quality: ScanQuality,
    generator: Generator,
) -> None:
    window, mass, share = _on_grid(grid, nodule, centre_xyz_mm, quality.blur_mm, generator)
    old = hu[window].astype(np.float32)
    base = low_pass(old, grid.spacing_zyx_mm)
    # A vessel or wall that is as dense already does not change.
    ideal = np.maximum(mass + (1 - share) * base, base)
    changed = np.clip((ideal - base) / 400, 0, 1)
    noise = quality.draw_noise(old - base, base, generator)
    # Two independent noises, mixed so that the variance is the same for every share.
    new = ideal + (1 - changed) * (old - base) + np.sqrt(1 - (1 - changed) ** 2) * noise
    touched = changed > 0.01
    hu[window][touched] = np.clip(np.rint(new[touched]), -1024, 3071)
    inside = share > min(0.5, float(share.max()) * 0.999)
    labels[window][inside] = number


def _on_grid(
    grid: Grid, nodule: Nodule, centre_xyz_mm: Point, blur_mm: float, generator: Generator
) -> tuple[tuple[slice, ...], Float32[np.ndarray, "z y x"], Float32[np.ndarray, "z y x"]]:
    """Paint a nodule on a fine grid and average it over the voxels of the scan.

    Returns:
        A window of the scan; for its voxels, the density of the nodule times its share of the voxel; and that share.
    """
    # The rays of a spiculated nodule reach 0.8 diameters from its centre.
    reach_mm = 0.85 * nodule.diameter_mm + 2.0
    fine_mm = max(0.3, nodule.diameter_mm / 50)
    count = 2 * int(np.ceil(reach_mm / fine_mm)) + 1
    low_mm = -(count // 2) * fine_mm
    canvas = Canvas.blank(Grid((count,) * 3, (fine_mm,) * 3, (low_mm,) * 3), _EMPTY_HU)
    part = paint_nodule(canvas, np.zeros(3), nodule, generator)
    share = np.zeros_like(canvas.hu)
    z, y, x = (
        int(np.searchsorted(whole, piece[0]))
        for whole, piece in ((canvas.z_mm, part.z_mm), (canvas.y_mm, part.y_mm), (canvas.x_mm, part.x_mm))
    )
    share[z : z + part.hu.shape[0], y : y + part.hu.shape[1], x : x + part.hu.shape[2]] = part.hu
    mass = canvas.hu - (1 - share) * _EMPTY_HU
    centre = grid.to_index(centre_xyz_mm[None])[0]
    half = (reach_mm + 4 * blur_mm) / np.array(grid.spacing_zyx_mm)
    start = np.maximum(np.floor(centre - half).astype(int), 0)
    stop = np.minimum(np.ceil(centre + half).astype(int) + 1, grid.shape)
    window = tuple(map(slice, start.tolist(), stop.tolist()))
    averaged = [_average(volume, fine_mm, low_mm, grid, start, stop, centre_xyz_mm) for volume in (mass, share)]
    in_plane = [0.0 if axis == _slice_axis(grid) else blur_mm / mm for axis, mm in enumerate(grid.spacing_zyx_mm)]
    return window, *(ndimage.gaussian_filter(volume, in_plane, truncate=3) for volume in averaged)


def _slice_axis(grid: Grid) -> int:
    """Return the array axis across the slices: the coarsest, or the first if all are equal."""
    return int(np.argmax(np.round(grid.spacing_zyx_mm, 3)))


def _average(
    fine: Float32[np.ndarray, "n n n"],
    fine_mm: float,
    low_mm: float,
    grid: Grid,
    start: Int64[np.ndarray, "3"],
    stop: Int64[np.ndarray, "3"],
    centre_xyz_mm: Point,
) -> Float32[np.ndarray, "z y x"]:
    """Average a fine volume over each voxel of a window: the partial-volume effect, on any grid."""
    parts = [max(1, int(np.ceil(mm / (1.5 * fine_mm)))) for mm in grid.spacing_zyx_mm]
    total = np.zeros(tuple(stop - start), dtype=np.float32)
    index = np.indices(total.shape).reshape(3, -1).T + start
    for offset in np.ndindex(*parts):
        within = (np.array(offset) + 0.5) / parts - 0.5
        places = (grid.to_world(index + within) - centre_xyz_mm - low_mm) / fine_mm
        values = ndimage.map_coordinates(fine, places[:, ::-1].T, order=1, mode="constant", cval=0.0)
        total += values.reshape(total.shape).astype(np.float32)
    return total / np.float32(np.prod(parts))
