"""Figure of the nodule sizes in training, before and after sampling."""

from itertools import pairwise
from typing import Final

import numpy as np
from jaxtyping import Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_lightning.data.size_distribution import SizeDistribution, shares
from nodule_lightning.report.canvas import BLUE, FAINT, GREY, INK, new_figure

SMALL_MM: Final = 10.0


def draw_size_distribution(sizes: SizeDistribution) -> Figure:
    """Draw both distributions over the same bins and at the same scale; nodules under 10 mm in blue."""
    figure = new_figure(9.6, 3.6)
    before, after = figure.subplots(1, 2, sharey=True)
    small = np.array([True, *(edge < SMALL_MM for edge in sizes.edges_mm)])
    _draw_bars(before, sizes, sizes.nodules, small)
    _draw_bars(after, sizes, sizes.draws, small)
    highest = 100 * max(shares(sizes.nodules).max(), shares(sizes.draws).max())
    before.set_ylim(0, max(1.15 * highest, 1))
    before.set_ylabel("share (%)", color=INK)
    _name(before, "Before", "nodules", sizes.nodules, small)
    _name(after, "After", "nodule draws an epoch", sizes.draws, small)
    return figure


def _draw_bars(axes: Axes, sizes: SizeDistribution, counts: Int64[np.ndarray, "bin"], small: np.ndarray) -> None:
    names = [f"{edge:g}" for edge in sizes.edges_mm]
    labels = [f"< {names[0]}", *(f"{low}\N{EN DASH}{high}" for low, high in pairwise(names))]
    bars = axes.bar(
        [*labels, f"\N{GREATER-THAN OR EQUAL TO} {names[-1]}"],
        100 * shares(counts),
        color=np.where(small, BLUE, GREY).tolist(),
        width=0.72,
    )
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8.5, color=INK, padding=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=3, labelsize=9)
    axes.set_xlabel("diameter (mm)", color=INK)


def _name(axes: Axes, when: str, what: str, counts: Int64[np.ndarray, "bin"], small: np.ndarray) -> None:
    share = 100 * shares(counts)[small].sum()
    axes.set_title(
        f"{when}: {counts.sum():,} {what}, {share:.0f} % under {SMALL_MM:g} mm", loc="left", fontsize=10, color=INK
    )
