"""FROC figure in the style of the LUNA16 paper: logarithmic rate axis, interval as a band, the seven points marked."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_lightning.metrics.functional import RATES, FrocResult
from nodule_lightning.report.canvas import FAINT, INK, new_figure, take_literally
from nodule_lightning.report.model_styles import MODEL_STYLES, ModelStyle, add_model_legend, model_style, shorten

RATE_LABELS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
MOST_BANDS = 5


def draw_froc(result: FrocResult, label: str = "") -> Figure:
    """Draw the curve of one result.

    Args:
        result: with or without a bootstrap interval.
        label: name of the system, for the legend; leading underscores are cut off, since matplotlib would hide it.
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    _prepare(axes)
    _draw_band(axes, result, MODEL_STYLES[0], 0.15, "95 % interval (bootstrap over scans)")
    _draw_curve(axes, result, MODEL_STYLES[0], shorten(label).lstrip("_") or "FROC")
    _name_points(axes, result)
    legend = axes.legend(
        loc="lower right" if result.sensitivities[-1] > 0.4 else "upper left",
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    take_literally(legend.get_texts())
    axes.set_title(_headline(result), loc="left", fontsize=11, color=INK, pad=10)
    return figure


def draw_frocs(results: Sequence[tuple[str, FrocResult]]) -> Figure:
    """Draw the curves of several results into one figure, with their means and intervals in the legend.

    Systems differ in colour, line and marker, so they can be distinguished with any colour vision and in greyscale.
    With more than five systems the bands are left out, since they would hide one another.

    Args:
        results: name and result of each system, in the order of the legend; a single one is drawn by `draw_froc`.
    """
    if len(results) == 1:
        [(label, result)] = results
        return draw_froc(result, label)
    figure = new_figure(6.4, 4.4 + 0.19 * len(results))
    axes = figure.add_subplot()
    _prepare(axes)
    if len(results) <= MOST_BANDS:
        for place, (_, result) in enumerate(results):
            _draw_band(axes, result, model_style(place), 0.1)
    for place, (_, result) in enumerate(results):
        _draw_curve(axes, result, model_style(place))
    add_model_legend(figure, [f"{shorten(label)}: {_score(result)}" for label, result in results])
    has_band = any(result.band is not None for _, result in results)
    title = "FROC and mean sensitivity" + (", 95 % intervals by bootstrap over scans" if has_band else "")
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    return figure


def _draw_band(axes: Axes, result: FrocResult, style: ModelStyle, alpha: float, label: str | None = None) -> None:
    if result.band is None:
        return
    axes.fill_between(
        result.band.fps,
        result.band.low,
        result.band.high,
        color=style.colour,
        alpha=alpha,
        linewidth=0,
        label=label,
    )


def _draw_curve(axes: Axes, result: FrocResult, style: ModelStyle, label: str | None = None) -> None:
    rates = 2.0 ** np.linspace(np.log2(RATES[0]), np.log2(RATES[-1]), 600)
    axes.plot(rates, result.curve.at(rates), color=style.colour, linestyle=style.line, linewidth=1.8, label=label)
    axes.plot(
        RATES,
        result.sensitivities,
        style.marker,
        color=style.colour,
        markersize=5,
        markeredgecolor="white",
        # So that points on the frame are not cut off.
        clip_on=False,
        zorder=3,
    )


def _prepare(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(RATES[0] / 1.12, RATES[-1] * 1.12)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(RATES, RATE_LABELS)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.minorticks_off()
    axes.grid(color=FAINT, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=3, labelsize=9)
    axes.set_xlabel("false positives per scan", color=INK)
    axes.set_ylabel("sensitivity", color=INK)


def _name_points(axes: Axes, result: FrocResult) -> None:
    sides = ["left", *["center"] * (len(RATES) - 2), "right"]
    for rate, sensitivity, side in zip(RATES, result.sensitivities, sides, strict=True):
        interval = result.interval_at(rate)
        low = sensitivity if interval is None else min(interval[0], sensitivity)
        # The number goes below the band, where the rising curve leaves room, unless that is too near to the axis.
        under = low > 0.1
        axes.annotate(
            f"{sensitivity:.3f}",
            (rate, low if under else sensitivity),
            xytext=(0, -6 if under else 8),
            textcoords="offset points",
            ha=side,
            va="top" if under else "bottom",
            fontsize=8,
            color=INK,
        )


def _headline(result: FrocResult) -> str:
    return f"Mean sensitivity {_score(result)}"


def _score(result: FrocResult) -> str:
    interval = "" if result.interval is None else f"  (95 %: {result.interval[0]:.3f} to {result.interval[1]:.3f})"
    return f"{result.mean:.3f}{interval}"
