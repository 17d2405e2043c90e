"""Canvas of all figures: figures without global state, colours, and encoding as PNG."""

from collections.abc import Iterable
from io import BytesIO
from typing import Final
from warnings import catch_warnings, filterwarnings

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

INK: Final = "#1f2933"
FAINT: Final = "#9aa5b1"
# Distinguishable with any colour vision (Okabe and Ito).
BLUE: Final = "#0072b2"
GREEN: Final = "#009e73"
ORANGE: Final = "#d55e00"
AMBER: Final = "#e69f00"
PINK: Final = "#cc79a7"
GREY: Final = "#8a94a0"
SKY: Final = "#56b4e9"
YELLOW: Final = "#f0e442"
DOTS_PER_INCH: Final = 120


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """Make an empty figure that needs no display and does not touch matplotlib's global state."""
    figure = Figure(figsize=(width_inch, height_inch), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Encode the figure as PNG; the same figure gives the same bytes."""
    buffer = BytesIO()
    with catch_warnings():
        # A name in a script that the font lacks (such as Chinese) becomes boxes; a warning would not help the user.
        filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def take_literally(texts: Iterable[Text]) -> None:
    """Turn off the parsing of dollar signs as math, since file names may contain them."""
    for text in texts:
        text.set_parse_math(False)
