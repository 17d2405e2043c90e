"""Score a submission against the reference csv files and write the score down."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.tables import read_candidates, read_findings, read_scan_ids
from nodule_lightning.metrics.functional import RATES, Curve, FrocResult, froc
from nodule_lightning.structures import Candidates, Findings, Table

METRICS, CURVE, FIGURE = "metrics.json", "froc.csv", "froc.png"


def evaluate_submission(
    submission: Path,
    annotations: Path,
    excluded: Path | None,
    scans: Path | None,
    output: Path,
    bootstraps: int = 1000,
    seed: int = 0,
) -> FrocResult:
    """Score a submission by the rules of LUNA16 and write `metrics.json`, `froc.csv` and `froc.png`.

    Args:
        submission: `seriesuid,coordX,coordY,coordZ,probability`.
        annotations: `seriesuid,coordX,coordY,coordZ,diameter_mm` of the nodules.
        excluded: the same of the findings that count neither way; None if there is no such list.
        scans: the ids of all scans that count; None takes those of the submission and of the annotations.
        output: folder to write into; made if needed.
        bootstraps: resamples of the scans behind the interval.
        seed: of the resampling.

    Raises:
        InputError: a file that is missing or malformed, or a folder that cannot be written.
    """
    candidates, nodules = read_candidates(submission), read_findings(annotations)
    doubtful = None if excluded is None else read_findings(excluded, sized=False)
    scan_ids = _ids_of_tables(candidates, nodules) if scans is None else read_scan_ids(scans)
    require_scans(submission, candidates, scan_ids)
    result = froc(candidates, nodules, doubtful, scan_ids, bootstraps=bootstraps, seed=seed)
    if scans is None:
        result = result.with_warning(
            f"No list of scans was given: only the {len(scan_ids)} scans with a mark or a nodule count, so scans"
            " without either are missing from the false positives per scan."
        )
    write_scores(result, output, submission.stem)
    return result


def require_scans(submission: Path, candidates: Table[Candidates], scan_ids: Sequence[str]) -> None:
    """Refuse a submission that marks other scans alone: its score of zero would say nothing.

    Raises:
        InputError: there are marks, and none is in a scan that counts.
    """
    if len(candidates) and set(scan_ids).isdisjoint(candidates.scan_id.tolist()):
        raise InputError(
            f"{submission} marks none of the {len(scan_ids)} scans that count, but others such as "
            f"{candidates.scan_id[0]}: give the submission, annotations and scans of one data set"
        )


def write_scores(result: FrocResult, output: Path, label: str) -> None:
    """Write the three files, all drawn before the first one is written.

    Raises:
        InputError: the folder cannot be written to.
    """
    # Only this function needs matplotlib, and it takes as long to import as all the rest.
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.froc_figure import draw_froc

    picture = to_png(draw_froc(result, label))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give a folder as output")
    write_whole(output / FIGURE, picture)
    write_whole(output / CURVE, _curve_csv(result.curve.corners()).encode())
    metrics = {"submission": label, **result.to_dict()}
    write_whole(output / METRICS, (json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def render_table(result: FrocResult) -> RenderableType:
    """Lay the score out for a terminal: sensitivities, mean with interval, counts, sizes, warnings."""
    return Group(_score_table(result), Text(), _counts(result), Text(), _size_table(result), *_warnings(result))


def _score_table(result: FrocResult) -> RichTable:
    table = RichTable(title="FROC, LUNA16 rules", title_justify="left")
    table.add_column("false positives per scan", justify="right")
    table.add_column("sensitivity", justify="right")
    table.add_column("95 % interval", justify="right")
    for place, (rate, sensitivity) in enumerate(zip(RATES, result.sensitivities, strict=True)):
        bounds = _bounds(result.interval_at(rate))
        table.add_row(f"{rate:g}", f"{sensitivity:.4f}", bounds, end_section=place == len(RATES) - 1)
    table.add_row("mean", f"{result.mean:.4f}", _bounds(result.interval), style="bold")
    return table


def _bounds(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} - {interval[1]:.4f}"


def _counts(result: FrocResult) -> Text:
    counts = result.counts
    return Text(
        f"{counts.true_positives} of {counts.nodules} nodules found in {counts.scans} scans, {counts.misses} missed;"
        f" {counts.marks} marks: {counts.false_positives} false positives,"
        f" {counts.ignored_on_excluded} ignored on excluded findings, {counts.double_detections} double detections"
    )


def _size_table(result: FrocResult) -> RichTable:
    table = RichTable(title="by size, at 1 false positive per scan", title_justify="left")
    table.add_column("diameter")
    table.add_column("nodules", justify="right")
    table.add_column("sensitivity", justify="right")
    for size in result.sizes:
        table.add_row(size.label, str(size.nodules), f"{size.sensitivity:.4f}" if size.nodules else "-")
    return table


def _warnings(result: FrocResult) -> list[RenderableType]:
    return [Text.from_markup(f"[yellow]warning:[/yellow] {escape(sentence)}") for sentence in result.warnings]


def _ids_of_tables(candidates: Table[Candidates], nodules: Table[Findings]) -> list[str]:
    return sorted({*candidates.scan_id.tolist(), *nodules.scan_id.tolist()})


def _curve_csv(curve: Curve) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("false_positives_per_scan", "sensitivity", "threshold"))
    writer.writerows(zip(curve.fps.tolist(), curve.sensitivity.tolist(), curve.threshold.tolist(), strict=True))
    return text.getvalue()
