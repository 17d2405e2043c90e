"""CT figures: a slice before and after the lung crop, and a gallery of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from jaxtyping import Float64, Int16, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from nodule_lightning.boxes import OUTSIDE
from nodule_lightning.geometry import Grid
from nodule_lightning.metrics.functional.matching import match
from nodule_lightning.report.canvas import BLUE, GREEN, GREY, INK, ORANGE, new_figure
from nodule_lightning.structures import Candidates, Findings, RowsT, Table

WINDOW_HU: Final = (-1200, 600)
TILE_MM: Final = 48.0
COLUMNS: Final = 6
# Length that fits under a tile. The end is kept, since the ids of one data set often share their beginning.
CAPTION_LETTERS: Final = 24
# A mark without a diameter gets a circle of this size.
SHOWN_DIAMETER_MM: Final = 10.0


class MarkOutcome(StrEnum):
    """How a mark counts in the score."""

    HIT = "hit"
    FALSE_POSITIVE = "false positive"
    IGNORED = "ignored"
    NOT_SCORED = "not scored"


OUTCOME_COLOURS: Final = {
    MarkOutcome.HIT: GREEN,
    MarkOutcome.FALSE_POSITIVE: ORANGE,
    MarkOutcome.IGNORED: BLUE,
    MarkOutcome.NOT_SCORED: GREY,
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One candidate in the gallery.

    Attributes:
        patch: axial slice centred on the mark.
        spacing_mm: of the patch's pixels.
        probability: score of the mark.
        diameter_mm: of the circle; negative if unknown.
        outcome: how the mark counts in the score.
        caption: short text under the picture.
    """

    patch: UInt8[np.ndarray, "y x"]
    spacing_mm: float
    probability: float
    diameter_mm: float
    outcome: MarkOutcome
    caption: str = ""


def mark_outcomes(candidates: Candidates, nodules: Findings, excluded: Findings) -> list[MarkOutcome]:
    """Determine how each mark of one scan counts in the score."""
    matching = match(_one_scan(candidates), _one_scan(nodules), _one_scan(excluded))
    outcomes = [MarkOutcome.NOT_SCORED] * len(candidates)
    for outcome, chosen in (
        (MarkOutcome.FALSE_POSITIVE, matching.false_positive),
        (MarkOutcome.IGNORED, matching.ignored),
        (MarkOutcome.HIT, matching.hit),
    ):
        for row in np.flatnonzero(chosen).tolist():
            outcomes[row] = outcome
    return outcomes


def cut_tiles(
    ct: UInt8[np.ndarray, "z y x"],
    grid: Grid,
    candidates: Candidates,
    outcomes: Sequence[MarkOutcome],
    caption: str = "",
) -> list[Tile]:
    """Cut an axial picture around each candidate of one scan from its cache entry; grey beyond the edge."""
    spacing = grid.spacing_zyx_mm[2]
    half = round(TILE_MM / 2 / spacing)
    centres = np.rint(grid.to_index(candidates.centre_xyz_mm)).astype(np.int64)
    return [
        Tile(_patch(ct, centre, half), spacing, float(probability), float(diameter), outcome, caption)
        for centre, probability, diameter, outcome in zip(
            centres, candidates.probability, candidates.diameter_mm, outcomes, strict=True
        )
    ]


def draw_gallery(tiles: Sequence[Tile]) -> Figure:
    """Draw the tiles in the order given, six in a row, each with its circle, probability and outcome."""
    rows = max(1, -(-len(tiles) // COLUMNS))
    figure = new_figure(1.72 * COLUMNS, 2.2 * rows)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for rank, (axes, tile) in enumerate(zip(panels, tiles, strict=False), start=1):
        _draw_tile(axes, tile, rank)
    if not tiles:
        panels[0].text(0.0, 0.5, "no candidate", color=INK)
    return figure


def draw_lung_crop(
    hu: Int16[np.ndarray, "z y x"],
    grid: Grid,
    ct: UInt8[np.ndarray, "cz cy cx"],
    lung: UInt8[np.ndarray, "cz cy cx"],
    crop_grid: Grid,
) -> Figure:
    """Draw the slice with the largest lung area, as scanned and as the network sees it.

    Args:
        hu: the raw scan.
        grid: of the raw scan.
        ct: grey values of the cache entry.
        lung: its mask of the dilated lungs.
        crop_grid: of the cache entry; the axes of both grids are parallel up to their sign.
    """
    slice_number = int(lung.sum(axis=(1, 2), dtype=np.int64).argmax())
    middle = np.array([[slice_number, (ct.shape[1] - 1) / 2, (ct.shape[2] - 1) / 2]])
    raw_slice = int(np.clip(np.rint(grid.to_index(crop_grid.to_world(middle))[0, 0]), 0, len(hu) - 1))
    figure = new_figure(8.6, 4.2)
    before, after = figure.subplots(1, 2)
    _, dy, dx = grid.spacing_zyx_mm
    before.imshow(hu[raw_slice], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=dy / dx)
    _draw_box(before, grid.to_index(crop_grid.corners_xyz_mm()))
    inside = lung[slice_number] > 0
    after.imshow(np.where(inside, ct[slice_number], OUTSIDE), cmap="gray", vmin=0, vmax=255)
    _describe(before, f"scan: slice {raw_slice + 1} of {len(hu)}, crop box")
    share = 100 * _volume_mm3(crop_grid) / _volume_mm3(grid)
    _describe(after, f"lung crop: {share:.0f} % of the scanned volume")
    return figure


def _one_scan(rows: RowsT) -> Table[RowsT]:
    return Table(np.zeros(len(rows), dtype=np.int64), rows)


def _patch(
    ct: UInt8[np.ndarray, "z y x"], centre_zyx: Int64[np.ndarray, "3"], half: int
) -> UInt8[np.ndarray, "side side"]:
    patch = np.full((2 * half + 1, 2 * half + 1), OUTSIDE, dtype=np.uint8)
    z, *corner = (int(place) for place in centre_zyx - [0, half, half])
    if not 0 <= z < len(ct):
        return patch
    start = [max(place, 0) for place in corner]
    stop = [min(place + len(patch), size) for place, size in zip(corner, ct.shape[1:], strict=True)]
    if start[0] < stop[0] and start[1] < stop[1]:
        rows = slice(start[0] - corner[0], stop[0] - corner[0])
        columns = slice(start[1] - corner[1], stop[1] - corner[1])
        patch[rows, columns] = ct[z, start[0] : stop[0], start[1] : stop[1]]
    return patch


def _draw_tile(axes: Axes, tile: Tile, rank: int) -> None:
    colour = OUTCOME_COLOURS[tile.outcome]
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.imshow(tile.patch, cmap="gray", vmin=0, vmax=255)
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    known = tile.diameter_mm > 0
    radius = (tile.diameter_mm if known else SHOWN_DIAMETER_MM) / 2 / tile.spacing_mm
    middle = (len(tile.patch) - 1) / 2
    style = "-" if known else ":"
    axes.add_patch(Circle((middle, middle), radius + 1.5, fill=False, edgecolor=colour, linewidth=1.2, linestyle=style))
    axes.set_title(f"{rank}.  p = {tile.probability:.3f}", fontsize=8.5, color=INK, loc="left", pad=3)
    size = f", {tile.diameter_mm:.0f} mm" if known else ""
    caption = tile.caption
    if len(caption) > CAPTION_LETTERS:
        caption = f"…{caption[1 - CAPTION_LETTERS :]}"
    words = f"{tile.outcome}{size}\n{caption}".rstrip()
    axes.set_xlabel(words, fontsize=7.5, color=INK, loc="left", labelpad=3, parse_math=False)


def _draw_box(axes: Axes, corners_zyx: Float64[np.ndarray, "8 3"]) -> None:
    low, high = corners_zyx.min(axis=0), corners_zyx.max(axis=0)
    axes.add_patch(
        Rectangle((low[2], low[1]), high[2] - low[2], high[1] - low[1], fill=False, edgecolor=ORANGE, linewidth=1.4)
    )


def _describe(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.set_title(text, fontsize=9.5, loc="left", color=INK)


def _volume_mm3(grid: Grid) -> float:
    return float(np.prod(grid.shape) * np.prod(grid.spacing_zyx_mm))
