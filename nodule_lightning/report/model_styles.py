"""How several models are told apart in one figure: by colour, line and marker, and by a legend under the axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nodule_lightning.report.canvas import AMBER, BLUE, GREEN, INK, ORANGE, PINK, SKY, take_literally

Line = Literal["-", "--", "-.", ":"]


@dataclass(frozen=True, slots=True)
class ModelStyle:
    """How one of several models is drawn.

    Attributes:
        colour: of line and points.
        line: matplotlib's line style.
        marker: matplotlib's marker.
    """

    colour: str
    line: Line
    marker: str


# Neighbours differ in lightness, line and marker, so that they are told apart in grey as well.
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
    """Give the style of the model in this place; beyond the seventh, the colours return with other lines."""
    turn, place = divmod(place, len(MODEL_STYLES))
    style = MODEL_STYLES[place]
    return ModelStyle(style.colour, _LINES[(_LINES.index(style.line) + turn) % len(_LINES)], style.marker)


def add_model_legend(figure: Figure, labels: Sequence[str], *, lines: bool = True) -> None:
    """Name the models under the axes, where no curve is hidden; no label adds nothing.

    Args:
        figure: of a constrained layout, so that the axes make room.
        labels: of the models, in the order of their styles.
        lines: whether the figure draws them as lines, not as points alone.
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
    """Cut the middle out of a name that is too long for a legend; both ends may tell models apart.

    >>> shorten("outputs/train/2026-01-31_12-00-00/prediction/submission")
    'outputs/train/2026-01-3…0/prediction/submission'
    """
    half = LONGEST_NAME // 2 - 1
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
