"""Figure of the sensitivity by nodule size, with intervals and numbers of nodules."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_lightning.metrics.functional import FrocResult, SizeBin
from nodule_lightning.metrics.functional.wilson import wilson_interval
from nodule_lightning.report.canvas import FAINT, INK, new_figure
from nodule_lightning.report.model_styles import ModelStyle, add_model_legend, model_style, shorten

# Fraction of the distance between two sizes over which the models are spread.
SPREAD: Final = 0.6
# Extra distance between the fine and the coarse sizes, in units of the distance between two sizes.
GAP: Final = 0.4


def draw_sizes(results: Sequence[tuple[str, FrocResult]]) -> Figure:
    """Draw the sensitivity of one or several systems by nodule size, at 1 false positive per scan.

    Bars are Wilson's 95 % intervals over the nodules of each size; the number of nodules is printed below the size.
    The coarse sizes, which contain the same nodules again, are set apart on the right.

    Args:
        results: name and result of each system, scored on the same nodules.
    """
    fine, coarse = (len(results[0][1].sizes), len(results[0][1].coarse_sizes)) if results else (0, 0)
    places = [*range(fine), *np.arange(fine, fine + coarse) + GAP]
    sizes = _all_sizes(results[0][1]) if results else ()
    figure = new_figure(max(6.4, 1.05 * len(places)), 3.6 + (0.19 * len(results) if len(results) > 1 else 0))
    axes = figure.add_subplot()
    _prepare(axes, places, sizes)
    if fine and coarse:
        axes.axvline(fine - 0.5 + GAP / 2, color=FAINT, linewidth=0.8)
    for rank, (_, result) in enumerate(results):
        shift = SPREAD * ((rank + 0.5) / len(results) - 0.5)
        shifted = [place + shift for place in places]
        _draw_points(axes, shifted, _all_sizes(result), model_style(rank), numbered=len(results) == 1)
    if len(results) > 1:
        add_model_legend(figure, [shorten(label) for label, _ in results], lines=False)
    return figure


def _all_sizes(result: FrocResult) -> tuple[SizeBin, ...]:
    return (*result.sizes, *result.coarse_sizes)


def _prepare(axes: Axes, places: Sequence[float], sizes: Sequence[SizeBin]) -> None:
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlim(-0.6, max([0.0, *places]) + 0.6)
    axes.set_xticks(places, [f"{size.label}\nn = {size.nodules}" for size in sizes])
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=3, labelsize=8.5)
    axes.set_ylabel("sensitivity", color=INK)
    title = "Sensitivity by size, at 1 false positive per scan"
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)


def _draw_points(
    axes: Axes, places: Sequence[float], sizes: Sequence[SizeBin], style: ModelStyle, *, numbered: bool
) -> None:
    filled = [
        (place, size.sensitivity, size.nodules) for place, size in zip(places, sizes, strict=True) if size.nodules
    ]
    if not filled:
        return
    at = np.array([place for place, _, _ in filled])
    values = np.array([share for _, share, _ in filled])
    bounds: Float64[np.ndarray, "size 2"] = np.array([wilson_interval(share, number) for _, share, number in filled])
    axes.errorbar(
        at,
        values,
        np.abs(bounds - values[:, None]).T,
        fmt=style.marker,
        color=style.colour,
        elinewidth=1.4,
        capsize=3,
        markersize=6,
        markeredgecolor="white",
    )
    for place, value in zip(at, values, strict=True) if numbered else ():
        axes.annotate(
            f"{value:.3f}", (place, value), (8, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
