"""Styles and legend that distinguish several models in one figure: colour, line and marker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nodule_lightning.report.canvas import AMBER, BLUE, GREEN, INK, ORANGE, PINK, SKY, take_literally

Line = Literal["-", "--", "-.", ":"]


@dataclass(frozen=True, slots=True)
class ModelStyle:
    """Style of one of several models.

    Attributes:
        colour: of line and points.
        line: matplotlib's line style.
        marker: matplotlib's marker.
    """

    colour: str
    line: Line
    marker: str


# Neighbours differ in lightness, line and marker, so that they are distinguishable in greyscale too.
MODEL_STYLES: Final = (
    ModelStyle(BLUE, "-", "o"),
    ModelStyle(AMBER, "--", "s"),
    ModelStyle(INK, "-.", "^"),
    ModelStyle(PINK, ":", "D"),
    ModelStyle(GREEN, "-", "v"),
    ModelStyle(SKY, "--", "P"),
    ModelStyle(ORANGE, "-.", "X"),
)
LONGEST_NAME: Final = 48
_LINES: Final[tuple[Line, ...]] = ("-", "--", "-.", ":")


def model_style(place: int) -> ModelStyle:
    """Return the style of the model at this index; from the eighth on, colours repeat with other line styles."""
    turn, place = divmod(place, len(MODEL_STYLES))
    style = MODEL_STYLES[place]
    return ModelStyle(style.colour, _LINES[(_LINES.index(style.line) + turn) % len(_LINES)], style.marker)


def add_model_legend(figure: Figure, labels: Sequence[str], *, lines: bool = True) -> None:
    """Add a legend of the models below the axes, where it hides no curve; without labels nothing is added.

    Args:
        figure: must have a constrained layout, so that the axes make room.
        labels: of the models, in the order of their styles.
        lines: whether the figure draws lines, not only points.
    """
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line if lines else "none", marker=style.marker, markersize=5)
        for style in map(model_style, range(len(labels)))
    ]
    if handles:
        legend = figure.legend(
            handles, labels, loc="outside lower left", frameon=False, fontsize=8.5, labelcolor=INK, handlelength=3.6
        )
        take_literally(legend.get_texts())


def shorten(name: str) -> str:
    """Cut the middle out of a name that is too long for a legend; models may differ at either end.

    >>> shorten("outputs/train/2026-01-31_12-00-00/prediction/submission")
    'outputs/train/2026-01-3…0/prediction/submission'
    """
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
