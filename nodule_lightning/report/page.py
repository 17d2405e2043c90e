"""Self-contained report.html: score with intervals, figures, galleries, command and settings."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from nodule_lightning.io.files import write_whole
from nodule_lightning.metrics.functional import RATES, FrocResult
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.froc_figure import RATE_LABELS, draw_frocs
from nodule_lightning.report.gallery_section import GALLERY_STYLES, Gallery, gallery_section
from nodule_lightning.report.markup import html_page, table
from nodule_lightning.report.size_figure import draw_sizes

PAGE: Final = "report.html"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page, also written as a PNG of its own.

    Attributes:
        name: of the PNG file, without suffix.
        heading: title on the page.
        caption: sentence under it.
        png: the picture as PNG.
    """

    name: str
    heading: str
    caption: str
    png: bytes


def write_report(
    output: Path,
    title: str,
    result: FrocResult,
    pictures: Sequence[Picture],
    settings: Mapping[str, Any],
    command: str,
    *,
    galleries: Sequence[Gallery] = (),
    others: Sequence[tuple[str, FrocResult]] = (),
) -> Path:
    """Write the page, and its figures as PNG files, including those of the score.

    Args:
        output: folder to write into; created if needed.
        title: heading of the page.
        result: the score.
        pictures: further figures, in order.
        settings: of the run; nested mappings are shown with dotted names.
        command: the command line that made the result; may have several lines.
        galleries: of single findings and marks, in order; they are shown on the page only.
        others: name and score of each system to compare with, on the same nodules.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder cannot be written to.
    """
    results = [(title, result), *others]
    pictures = [*_score_pictures(results), *pictures]
    page = _page(results, pictures, galleries, settings, command)
    for picture in pictures:
        write_whole(output / f"{picture.name}.png", picture.png)
    write_whole(output / PAGE, page.encode())
    return output / PAGE


def _score_pictures(results: Sequence[tuple[str, FrocResult]]) -> list[Picture]:
    return [
        Picture(
            "froc",
            "FROC",
            "Sensitivity against false positives per scan; the score is the mean of the seven points.",
            to_png(draw_frocs(results)),
        ),
        Picture(
            "sizes",
            "Sensitivity by size",
            "Bars are Wilson's 95 % intervals over the n nodules of each size.",
            to_png(draw_sizes(results)),
        ),
    ]


def _page(
    results: Sequence[tuple[str, FrocResult]],
    pictures: Sequence[Picture],
    galleries: Sequence[Gallery],
    settings: Mapping[str, Any],
    command: str,
) -> str:
    (title, result), *others = results
    parts = [
        f"<h1>{escape(title)}</h1>",
        _warnings(result.warnings, others),
        f'<div class="pair">{_headline(result)}{_size_table(result)}</div>',
        _comparison(results) if others else "",
        *(_figure(picture) for picture in pictures),
        *(gallery_section(gallery) for gallery in galleries),
        f"<section><h2>Command</h2><pre>{escape(command)}</pre></section>",
        _settings(settings),
    ]
    return html_page(title, parts, GALLERY_STYLES)


def _comparison(results: Sequence[tuple[str, FrocResult]]) -> str:
    header = ("", "mean", "95 % interval", *RATE_LABELS)
    rows = [
        (
            escape(label),
            f"{result.mean:.4f}",
            _bounds(result.interval),
            *(f"{sensitivity:.4f}" for sensitivity in result.sensitivities),
        )
        for label, result in results
    ]
    return f'<section><h2>Compared</h2><div class="wide">{table(header, rows)}</div></section>'


def _headline(result: FrocResult) -> str:
    rows = [
        (label, f"{sensitivity:.4f}", _bounds(result.interval_at(rate)))
        for rate, label, sensitivity in zip(RATES, RATE_LABELS, result.sensitivities, strict=True)
    ]
    counts = result.counts
    sure = "" if result.interval is None else f"95 % interval {_bounds(result.interval)}"
    if result.interval is not None:
        sure += f" ({result.bootstraps} resamples of the scans)"
    return (
        f'<section><h2>Mean sensitivity</h2><div class="score">{result.mean:.4f}</div>'
        f'<p class="faint">{sure}<br>{counts.true_positives} of {counts.nodules} nodules found'
        f" in {counts.scans} scans</p>"
        + table(("false positives per scan", "sensitivity", "95 % interval"), rows)
        + "</section>"
    )


def _size_table(result: FrocResult) -> str:
    counts = result.counts
    sizes = []
    for size in (*result.sizes, *result.coarse_sizes):
        values = (f"{size.sensitivity:.4f}", f"{size.mean:.4f}") if size.nodules else ("–", "–")
        bar = f'<meter min="0" max="1" value="{size.sensitivity:.4f}"></meter>' if size.nodules else ""
        sizes.append((size.label, str(size.nodules), *values, bar))
    tallies = [
        ("scans", counts.scans),
        ("nodules", counts.nodules),
        ("found", counts.true_positives),
        ("missed", counts.misses),
        ("marks, at most 100 a scan", counts.marks),
        ("false positives", counts.false_positives),
        ("ignored on excluded findings", counts.ignored_on_excluded),
        ("further marks on a found nodule", counts.double_detections),
    ]
    return (
        "<section><h2>By size</h2>"
        + table(("diameter", "nodules", "at 1 per scan", "mean", ""), sizes)
        + '<h2 style="margin-top:1.4rem">Counts</h2>'
        + table((), [(name, f"{number:,}") for name, number in tallies])
        + "</section>"
    )


def _figure(picture: Picture) -> str:
    source = f"data:image/png;base64,{b64encode(picture.png).decode()}"
    return (
        f"<section><h2>{escape(picture.heading)}</h2><figure>"
        f'<div class="wide"><img src="{source}" alt="{escape(picture.heading)}"></div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure></section>"
    )


def _warnings(sentences: Sequence[str], others: Sequence[tuple[str, FrocResult]]) -> str:
    """Render the warnings of the score, and of each other system those that the score does not have."""
    theirs = [
        f"{label}: {sentence}" for label, other in others for sentence in other.warnings if sentence not in sentences
    ]
    sentences = [*sentences, *theirs]
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<section class="warning"><h2>Before you compare this score</h2><ul>{items}</ul></section>'


def _settings(settings: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in _flat(settings))
    return f'<section class="settings"><h2>Settings</h2><table><tbody>{rows}</tbody></table></section>' if rows else ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _bounds(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4f}–{interval[1]:.4f}"
