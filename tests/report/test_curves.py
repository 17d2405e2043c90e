"""The figures of the score: the FROC of one or several systems, and the sensitivity by size."""

from dataclasses import replace
from io import BytesIO

import matplotlib.image
import numpy as np
import pytest
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from nodule_lightning.metrics.functional import FrocResult, SizeBin, froc
from nodule_lightning.metrics.functional.wilson import wilson_interval
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.froc_figure import draw_froc, draw_frocs
from nodule_lightning.report.model_styles import LONGEST_NAME, MODEL_STYLES, model_style
from nodule_lightning.report.size_figure import draw_sizes
from tests.metrics.cases import random_case

SEEDS = (18, 39, 215)


def pixels(figure: Figure) -> Float64[np.ndarray, "y x 4"]:
    return np.asarray(matplotlib.image.imread(BytesIO(to_png(figure))), dtype=np.float64)


def scored(seed: int, bootstraps: int = 20) -> FrocResult:
    case = random_case(seed)
    return froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=bootstraps)


def bands(axes: Axes) -> list[PolyCollection]:
    return [drawn for drawn in axes.collections if isinstance(drawn, PolyCollection)]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("bootstraps", [0, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_froc_figure_marks_the_seven_points(seed: int, bootstraps: int) -> None:
    result = scored(seed, bootstraps)
    figure = draw_froc(result, "_a $1$ name")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert np.asarray(axes.lines[1].get_ydata()).tolist() == result.sensitivities.tolist()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    assert len(axes.collections) == (1 if bootstraps else 0)
    assert pixels(figure).std() > 0


def test_several_systems_share_one_figure() -> None:
    results = [(f"_model $x$ {seed}", scored(seed)) for seed in SEEDS]
    figure = draw_frocs(results)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    points = axes.lines[1::2]
    assert [np.asarray(line.get_ydata()).tolist() for line in points] == [
        result.sensitivities.tolist() for _, result in results
    ]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines[::2]}) == 3
    assert len({line.get_marker() for line in points}) == 3
    for band, (_, result) in zip(bands(axes), results, strict=True):
        assert result.band is not None
        edges = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert edges.min() == pytest.approx(result.band.low.min())
        assert edges.max() == pytest.approx(result.band.high.max())
    assert legend_of(figure) == [
        f"{label}: {result.mean:.3f}  (95 %: {result.interval[0]:.3f} to {result.interval[1]:.3f})"
        for label, result in results
        if result.interval
    ]
    assert "95 % intervals" in axes.get_title(loc="left")
    assert pixels(figure).std() > 0
    (legend,) = figure.legends
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_no_interval_is_claimed_without_bootstraps() -> None:
    figure = draw_frocs([(str(seed), scored(seed, bootstraps=0)) for seed in SEEDS])
    assert not figure.axes[0].collections
    assert not any("95 %" in text for text in [*legend_of(figure), figure.axes[0].get_title(loc="left")])


def test_one_system_is_drawn_as_by_itself() -> None:
    result = scored(215)
    assert to_png(draw_frocs([("one", result)])) == to_png(draw_froc(result, "one"))


def test_many_systems_keep_their_names_and_lose_their_bands() -> None:
    result = scored(215)
    figure = draw_frocs([(f"{place}{'x' * 200}{place}", result) for place in range(9)])
    assert not bands(figure.axes[0])
    names = legend_of(figure)
    assert [(name[0], name.partition(":")[0][-1]) for name in names] == [(str(place), str(place)) for place in range(9)]
    assert max(len(name.partition(":")[0]) for name in names) <= LONGEST_NAME
    image = pixels(figure)
    # Nothing of the legend is cut off: the figure's margins are white.
    assert (image[:, -2:] == 1).all()
    assert (image[-2:] == 1).all()


def test_no_system_gives_empty_axes() -> None:
    assert pixels(draw_frocs([])).std() > 0
    assert pixels(draw_sizes([])).std() > 0


def test_styles_differ_also_in_grey() -> None:
    grey = [np.dot(to_rgb(style.colour), (0.299, 0.587, 0.114)) for style in MODEL_STYLES]
    assert np.abs(np.diff(grey)).min() > 0.1
    drawn = [model_style(place) for place in range(4 * len(MODEL_STYLES))]
    assert len(set(drawn)) == len(drawn)
    assert len({style.marker for style in MODEL_STYLES}) == len(MODEL_STYLES)


def with_sizes(*sizes: tuple[float, float, int, float], coarse: int = 0) -> FrocResult:
    """Make a result with these sizes: from, to, nodules, sensitivity at 1 per scan; the last ones are coarse."""
    bins = [SizeBin(low, high, number, np.array([0, 0, 0, share, 1, 1, 1.0])) for low, high, number, share in sizes]
    fine = len(bins) - coarse
    return replace(scored(215, bootstraps=0), sizes=tuple(bins[:fine]), coarse_sizes=tuple(bins[fine:]))


def test_sizes_are_drawn_with_wilsons_interval_and_their_number() -> None:
    result = with_sizes((0, 5, 10, 0.9), (5, 6, 0, float("nan")), (6, np.inf, 3, 1.0), coarse=1)
    figure = draw_sizes([("one", result)])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "under 5 mm\nn = 10",
        "5-6 mm\nn = 0",
        "6 mm and over\nn = 3",
    ]
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert np.asarray(points.get_xdata()).tolist() == [0, 2.4]
    assert np.asarray(points.get_ydata()).tolist() == [0.9, 1.0]
    (bars,) = [drawn for drawn in axes.collections if isinstance(drawn, LineCollection)]
    assert [np.asarray(segment)[:, 1].tolist() for segment in bars.get_segments()] == [
        pytest.approx(wilson_interval(0.9, 10)),
        pytest.approx(wilson_interval(1.0, 3)),
    ]
    assert [text.get_text() for text in axes.texts] == ["0.900", "1.000"]
    assert pixels(figure).std() > 0


def test_sizes_of_several_systems_stand_side_by_side() -> None:
    results = [(name, with_sizes((0, 5, 10, share))) for name, share in (("a", 0.2), ("b", 0.2), ("c", 0.9))]
    figure = draw_sizes(results)
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() in {style.marker for style in MODEL_STYLES}]
    places = [float(np.asarray(line.get_xdata())[0]) for line in points]
    assert places == pytest.approx([-0.2, 0.0, 0.2])
    assert legend_of(figure) == ["a", "b", "c"]


def test_sizes_without_any_nodule() -> None:
    figure = draw_sizes([("none", with_sizes((0, 5, 0, float("nan"))))])
    assert not figure.axes[0].lines
    assert not [drawn for drawn in figure.axes[0].collections if isinstance(drawn, PathCollection)]
