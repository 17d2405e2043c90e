"""Three orthogonal planes through one position of a scan, with the findings and marks near it drawn in.

A finding is drawn as the circle in which the plane cuts its sphere. So a mark that hits lies inside the circle in all
three planes.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

from nodule_lightning.boxes import OUTSIDE
from nodule_lightning.geometry import Grid
from nodule_lightning.report.canvas import SKY, YELLOW
from nodule_lightning.report.pictures import OUTCOME_COLOURS, TILE_MM, MarkOutcome
from nodule_lightning.structures import Candidates, Findings

NODULE_COLOUR, EXCLUDED_COLOUR = YELLOW, SKY
TILE_PIXELS: Final = 240
GAP_PIXELS: Final = 6
LINE_PIXELS: Final = 3
# A mark is a point: it is drawn, as a cross with an open middle, if the plane passes within this distance.
MARK_REACH_MM: Final = 5.0
_CROSS_MM: Final = (3.5, 7.0)
# Drawn this many times larger and then reduced, for smooth lines.
_FINER: Final = 2
_DASHES: Final = 12
# Axial, coronal and sagittal: the axes of (z, y, x) that run down, across and into the picture, and whether down runs
# against the axis, so that the head is on top.
_PLANES: Final = ((1, 2, 0, False), (0, 2, 1, True), (0, 1, 2, True))


def draw_planes(
    ct: UInt8[np.ndarray, "z y x"],
    grid: Grid,
    centre_xyz_mm: Float64[np.ndarray, "3"],
    nodules: Findings,
    excluded: Findings,
    marks: Candidates,
    outcomes: Sequence[MarkOutcome],
) -> Image.Image:
    """Draw the axial, coronal and sagittal plane through a position, side by side.

    Nodules are drawn as solid circles, excluded findings as dashed circles, marks as open crosses in the colour of
    their outcome.

    Args:
        ct: grey values of a cache entry, whose axes are parallel to the world's; grey beyond its edge.
        grid: of the cache entry.
        centre_xyz_mm: the position, in world LPS mm; the centre of each plane.
        nodules: of the scan.
        excluded: of the scan.
        marks: the marks to draw.
        outcomes: how each mark counts in the score.
    """
    spacing = grid.spacing_zyx_mm[0]
    half = round(TILE_MM / 2 / spacing)
    corner = np.rint(grid.to_index(centre_xyz_mm[None])[0]).astype(np.int64) - half
    cube = _cut(ct, corner.tolist(), 2 * half + 1)
    picture = Image.new("RGB", (3 * TILE_PIXELS + 2 * GAP_PIXELS, TILE_PIXELS), "white")
    for place, (down, across, depth, upwards) in enumerate(_PLANES):
        tile = _Tile(cube.take(half, axis=depth)[:: -1 if upwards else 1], spacing)
        for findings, colour, dashed in ((excluded, EXCLUDED_COLOUR, True), (nodules, NODULE_COLOUR, False)):
            seen = grid.to_index(findings.centre_xyz_mm) - corner
            for index, diameter_mm in zip(seen, findings.effective_diameter_mm().tolist(), strict=True):
                row = 2 * half - index[down] if upwards else index[down]
                tile.circle(row, index[across], index[depth] - half, diameter_mm / 2, colour, dashed=dashed)
        for index, outcome in zip(grid.to_index(marks.centre_xyz_mm) - corner, outcomes, strict=True):
            row = 2 * half - index[down] if upwards else index[down]
            tile.cross(row, index[across], index[depth] - half, OUTCOME_COLOURS[outcome])
        picture.paste(tile.finish(), (place * (TILE_PIXELS + GAP_PIXELS), 0))
    return picture


def to_jpeg(picture: Image.Image) -> bytes:
    """Encode a picture as JPEG for a page."""
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85, subsampling=0)
    return buffer.getvalue()


class _Tile:
    """One plane with circles and crosses; positions are in voxels of the patch, sizes in mm."""

    def __init__(self, patch: UInt8[np.ndarray, "side side"], spacing_mm: float) -> None:
        side = _FINER * TILE_PIXELS
        self.spacing_mm = spacing_mm
        self.pixels = side / len(patch)
        large = Image.fromarray(np.ascontiguousarray(patch)).resize((side, side), Image.Resampling.BICUBIC)
        self.image = large.convert("RGB")
        self.draw = ImageDraw.Draw(self.image)

    def circle(self, row: float, column: float, depth: float, radius_mm: float, colour: str, *, dashed: bool) -> None:
        squared = radius_mm**2 - (depth * self.spacing_mm) ** 2
        if squared <= 0:
            return
        radius = squared**0.5 / self.spacing_mm * self.pixels
        x, y = (column + 0.5) * self.pixels, (row + 0.5) * self.pixels
        box = (x - radius, y - radius, x + radius, y + radius)
        turn = 360 / _DASHES
        for start in np.arange(_DASHES) * turn if dashed else (0.0,):
            self.draw.arc(box, start, start + (turn * 0.6 if dashed else 360), colour, LINE_PIXELS * _FINER)

    def cross(self, row: float, column: float, depth: float, colour: str) -> None:
        if abs(depth) * self.spacing_mm > MARK_REACH_MM:
            return
        near, far = (length / self.spacing_mm * self.pixels for length in _CROSS_MM)
        x, y = (column + 0.5) * self.pixels, (row + 0.5) * self.pixels
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            line = (x + near * dx, y + near * dy, x + far * dx, y + far * dy)
            self.draw.line(line, colour, LINE_PIXELS * _FINER)

    def finish(self) -> Image.Image:
        return self.image.reduce(_FINER)


def _cut(ct: UInt8[np.ndarray, "z y x"], corner_zyx: Sequence[int], side: int) -> UInt8[np.ndarray, "side side side"]:
    cube = np.full((side,) * 3, OUTSIDE, dtype=np.uint8)
    low = np.clip(corner_zyx, 0, ct.shape)
    high = np.clip(np.add(corner_zyx, side), 0, ct.shape)
    source = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    place = tuple(slice(start, stop) for start, stop in zip(low - corner_zyx, high - corner_zyx, strict=True))
    if (low < high).all():
        cube[place] = ct[source]
    return cube
