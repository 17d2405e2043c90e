"""Overlay figure of a scan: axial slices of its best candidates with the marks drawn in."""

from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from nodule_lightning.report.canvas import INK, ORANGE, new_figure
from nodule_lightning.report.pictures import SHOWN_DIAMETER_MM
from nodule_lightning.structures import Candidates, Entry

MOST_DRAWN: Final = 6
_COLUMNS: Final = 3
# The circle lies outside the nodule, so that the nodule's edge stays visible.
_MARGIN_MM: Final = 3.0


def draw_overlay(entry: Entry, candidates: Candidates, voxels_zyx: Int64[np.ndarray, "n 3"]) -> Figure:
    """Draw the slices of the best six candidates.

    The slices show the lung crop as the network sees it, in radiological orientation (the patient's right on the left).
    Their titles give the position in the original scan, slices counted from 1 and voxels from 0.

    Args:
        entry: the prepared scan.
        candidates: of this scan, best first.
        voxels_zyx: position of each candidate in the original scan.
    """
    shown = min(len(candidates), MOST_DRAWN)
    columns = min(max(shown, 1), _COLUMNS)
    rows = max(1, -(-shown // columns))
    figure = new_figure(3.2 * columns, 3.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    places_zyx = entry.grid.to_index(candidates.centre_xyz_mm)
    for row in range(shown):
        z, y, x = voxels_zyx[row].tolist()
        size = f", {candidates.diameter_mm[row]:.1f} mm" if candidates.diameter_mm[row] > 0 else ""
        title = f"{row + 1}.  p = {candidates.probability[row]:.3f}{size}\nslice {z + 1}  [{x}, {y}]"
        panels[row].set_title(title, fontsize=9, color=INK, loc="left", parse_math=False)
        _draw(panels[row], entry, places_zyx[row], float(candidates.diameter_mm[row]))
    if not shown:
        panels[0].text(0.0, 0.5, "no candidate", color=INK)
    return figure


def _draw(axes: Axes, entry: Entry, place_zyx: Float64[np.ndarray, "3"], diameter_mm: float) -> None:
    spacing_mm = entry.grid.spacing_zyx_mm[0]
    depth = int(np.clip(np.rint(place_zyx[0]), 0, len(entry.ct) - 1))
    axes.imshow(entry.ct[depth], cmap="gray", vmin=0, vmax=255)
    radius_mm = (diameter_mm if diameter_mm > 0 else SHOWN_DIAMETER_MM) / 2 + _MARGIN_MM
    middle = (float(place_zyx[2]), float(place_zyx[1]))
    axes.add_patch(Circle(middle, radius_mm / spacing_mm, fill=False, edgecolor=ORANGE, linewidth=1.4))
