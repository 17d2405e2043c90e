"""The figure of the sizes in training: the bars show the numbers."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from nodule_lightning.data.size_distribution import count_sizes
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.size_distribution_figure import draw_size_distribution

NODULES_MM = np.array([4.0, 5.0, 7.0, 7.0, 9.0, 12.0, 19.0, 40.0])
DRAWN_MM = np.repeat(NODULES_MM, [4, 1, 1, 1, 1, 2, 2, 4])


def test_bars_are_the_shares_and_titles_count_the_small_ones() -> None:
    figure = draw_size_distribution(count_sizes(NODULES_MM, DRAWN_MM))
    before, after = figure.axes
    for axes, heights, counts in (
        (before, [12.5, 50, 25, 12.5], ["1", "4", "2", "1"]),
        (after, [25, 25, 25, 25], ["4", "4", "4", "4"]),
    ):
        bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert [bar.get_height() for bar in bars] == heights
        assert [text.get_text() for text in axes.texts] == counts
        # Small and larger nodules are told apart.
        colours = [bar.get_facecolor() for bar in bars]
        assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [text.get_text() for text in before.get_xticklabels()] == ["< 5", "5–10", "10–20", "≥ 20"]
    assert before.get_title(loc="left") == "Before: 8 nodules, 62 % under 10 mm"
    assert after.get_title(loc="left") == "After: 16 nodule draws an epoch, 50 % under 10 mm"
    assert before.get_ylim() == after.get_ylim()


def test_the_rules_own_borders_are_bins_too() -> None:
    sizes = count_sizes(NODULES_MM, DRAWN_MM, (6.0, 30.0))
    assert sizes.edges_mm == (5, 6, 10, 20, 30)
    assert sizes.nodules.tolist() == [1, 1, 3, 2, 0, 1]
    assert sizes.draws.tolist() == [4, 1, 3, 4, 0, 4]
    assert sizes.to_csv().decode().splitlines() == [
        "from_mm,to_mm,nodules,nodule_share,draws,draw_share",
        "0,5,1,0.125,4,0.25",
        "5,6,1,0.125,1,0.0625",
        "6,10,3,0.375,3,0.1875",
        "10,20,2,0.25,4,0.25",
        "20,30,0,0.0,0,0.0",
        "30,,1,0.125,4,0.25",
    ]


@pytest.mark.parametrize("drawn", [np.zeros(0), DRAWN_MM])
def test_no_nodule_is_no_trouble(drawn: np.ndarray) -> None:
    sizes = count_sizes(np.zeros(0), drawn)
    assert sizes.nodules.tolist() == [0, 0, 0, 0]
    assert to_png(draw_size_distribution(sizes))
