"""Scores, rankings and how they were made, laid out for a terminal."""

from collections.abc import Iterable, Mapping
from math import isfinite

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from nodule_lightning.evaluation.evaluate import Evaluation
from nodule_lightning.evaluation.leaderboard import Leaderboard
from nodule_lightning.evaluation.provenance import SearchRecord
from nodule_lightning.metrics.functional import RATES, FrocResult, OperatingPoint, SizeBin
from nodule_lightning.metrics.functional.mistakes import Misses
from nodule_lightning.metrics.functional.ranking import Rating
from nodule_lightning.structures import Candidates, Table

LONGEST_ID = 20


def render_evaluation(evaluation: Evaluation, show: int) -> RenderableType:
    """Show the sensitivities and their mean with intervals, folds, counts, sizes, mistakes and warnings.

    Args:
        evaluation: what was scored.
        show: how many misses and false positives to show of each.
    """
    result, point = evaluation.result, evaluation.operating_point
    parts: list[RenderableType] = [_score_table(result)]
    if evaluation.folds:
        parts += [Text(), _fold_table(evaluation)]
    parts += [Text(), _counts(result)]
    if point is not None:
        parts += [Text(), _point(point)]
    parts += [Text(), _size_table([*result.sizes, *result.coarse_sizes], len(result.sizes))]
    if show and len(result.misses):
        parts += [Text(), _misses_table(result.misses, show)]
    if show and len(result.false_positives):
        parts += [Text(), _false_positive_table(result.false_positives, result.counts.false_positives, show)]
    return Group(*parts, *warning_lines(result.warnings))


def bounds(interval: tuple[float, float] | None) -> str:
    """Write an interval; nothing where there is none."""
    return "" if interval is None else f"{interval[0]:.4f} - {interval[1]:.4f}"


def warning_lines(sentences: Iterable[str]) -> list[RenderableType]:
    """Write each warning as a line of its own."""
    return [Text.from_markup(f"[yellow]warning:[/yellow] {escape(sentence)}") for sentence in sentences]


def new_table(title: str, left: Iterable[str], right: Iterable[str]) -> RichTable:
    """Begin a table with some columns set to the left and then some set to the right."""
    # A title that is wider than its table would be broken.
    table = RichTable(title=Text(title), title_justify="left", min_width=len(title))
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _score_table(result: FrocResult) -> RichTable:
    columns = ("false positives per scan", "sensitivity", "95 % interval")
    table = new_table(f"FROC, {result.protocol.label} rules", (), columns)
    for place, (rate, sensitivity) in enumerate(zip(RATES, result.sensitivities, strict=True)):
        interval = bounds(result.interval_at(rate))
        table.add_row(f"{rate:g}", f"{sensitivity:.4f}", interval, end_section=place == len(RATES) - 1)
    table.add_row("mean", f"{result.mean:.4f}", bounds(result.interval), style="bold")
    return table


def _fold_table(evaluation: Evaluation) -> RichTable:
    columns = ("scans", "nodules", "found", "at 1 per scan", "mean")
    table = new_table("each fold by itself (the score above is that of all, pooled)", ("fold",), columns)
    for name, result in evaluation.folds:
        counts = result.counts
        numbers = (counts.scans, counts.nodules, counts.true_positives)
        at_one = result.sensitivities[RATES.index(1.0)]
        table.add_row(Text(name), *map(str, numbers), f"{at_one:.4f}", f"{result.mean:.4f}")
    return table


def _counts(result: FrocResult) -> Text:
    counts = result.counts
    return Text(
        f"{counts.true_positives} of {counts.nodules} nodules found in {counts.scans} scans, {counts.misses} missed;"
        f" {counts.marks} marks, at most 100 a scan: {counts.false_positives} false positives,"
        f" {counts.ignored_on_excluded} ignored on excluded findings, {counts.double_detections} double detections"
    )


def _point(point: OperatingPoint) -> Text:
    precision = f"{point.precision:.4f}" if isfinite(point.precision) else "undefined"
    return Text(
        f"at a threshold of {point.threshold:g}: sensitivity {point.sensitivity:.4f}, {point.fps_per_scan:.4g} false"
        f" positives per scan, precision {precision}"
        f" ({point.true_positives} nodules found, {point.false_positives} false positives)"
    )


def _size_table(sizes: list[SizeBin], fine: int) -> RichTable:
    table = new_table("by size", ("diameter",), ("nodules", "at 1 per scan", "mean"))
    for place, size in enumerate(sizes):
        values = (f"{size.sensitivity:.4f}", f"{size.mean:.4f}") if size.nodules else ("-", "-")
        table.add_row(size.label, str(size.nodules), *values, end_section=place == fine - 1)
    return table


def _misses_table(misses: Misses, show: int) -> RichTable:
    columns = ("x y z mm", "diameter", "nearest mark", "its probability")
    table = new_table(f"the largest of {len(misses)} missed nodules", ("scan",), columns)
    for place in range(min(show, len(misses))):
        finding = misses.nodules[place : place + 1]
        near, likely = misses.nearest_mm[place], misses.nearest_probability[place]
        nearest = (f"{near:.1f} mm", f"{likely:.4f}") if isfinite(near) else ("none", "")
        diameter = f"{finding.rows.diameter_mm[0]:.1f} mm"
        table.add_row(_short(finding.scan_id[0]), _place(finding.rows.centre_xyz_mm[0]), diameter, *nearest)
    return table


def _false_positive_table(marks: Table[Candidates], number: int, show: int) -> RichTable:
    table = new_table(f"the most probable of {number} false positives", ("scan",), ("x y z mm", "probability"))
    for place in range(min(show, len(marks))):
        row = marks[place : place + 1]
        likely = f"{row.rows.probability[0]:.4f}"
        table.add_row(_short(row.scan_id[0]), _place(row.rows.centre_xyz_mm[0]), likely)
    return table


def _short(scan_id: object) -> Text:
    # The ids of one data set begin alike: the end tells them apart.
    text = str(scan_id)
    return Text(text if len(text) <= LONGEST_ID else f"…{text[1 - LONGEST_ID :]}")


def _place(centre_xyz_mm: Iterable[float]) -> str:
    return " ".join(f"{value:.1f}" for value in centre_xyz_mm)


def render_leaderboard(board: Leaderboard) -> RenderableType:
    """Show all submissions, the best first, then by size, then the warnings."""
    number = board.standings[0].overall.nodules
    title = f"{board.protocol.label} rules, {number} nodules in {board.scans} scans"
    table = new_table(title, ("", "submission"), ("mean", "95 % interval", "p", "gained", "lost"))
    for place, standing in enumerate(board.standings, start=1):
        rating = standing.overall
        changes = ("", "") if place == 1 else (str(len(standing.gained)), str(len(standing.lost)))
        values = (f"{rating.mean:.4f}", bounds(rating.interval), _p(rating), *changes)
        table.add_row(str(place), Text(standing.name), *values)
    sizes = new_table("by size", ("nodules", "submission"), ("mean", "95 % interval", "p"))
    for place, first in enumerate(board.standings[0].ratings[1:], start=1):
        heading = f"{first.nodules} of {first.size}"
        for standing in board.standings:
            rating = standing.ratings[place]
            mean = f"{rating.mean:.4f}" if rating.nodules else "-"
            cells = (mean, bounds(rating.interval), _p(rating))
            sizes.add_row(heading, Text(standing.name), *cells, end_section=standing is board.standings[-1])
            heading = ""
    explained = Text(
        "mean: of the sensitivities at 1/8 to 8 false positives per scan. p: of the difference from the first,"
        " two-sided, paired bootstrap over scans. gained, lost: nodules that this one finds and the first does not, and"
        " the other way round, at 1 false positive per scan."
    )
    return Group(table, explained, Text(), sizes, *warning_lines(board.warnings))


def render_records(records: Mapping[str, SearchRecord | None]) -> RenderableType:
    """Show how the submissions of runs were made, in the order given; blank where nothing tells."""
    table = new_table(
        "made by", ("submission", "network"), ("parameters", "validation FROC", "seconds a scan", "version")
    )
    for name, record in records.items():
        if record is None:
            table.add_row(Text(name), *[""] * 5)
            continue
        froc = "" if record.validation_froc is None else f"{record.validation_froc:.4f}"
        pace = f"{record.seconds / record.scans:.1f}" if record.scans else ""
        values = (f"{record.parameters / 1e6:.2f} M", froc, pace, Text(record.version))
        table.add_row(Text(name), Text(record.network), *values)
    return table


def _p(rating: Rating) -> str:
    return "" if rating.p_value is None else f"{rating.p_value:.3f}"
