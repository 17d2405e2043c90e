"""Ranking of submissions on the same scans, with the nodules in which each differs from the best."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from nodule_lightning.evaluation.evaluate import list_cautions, require_protocol, require_scans
from nodule_lightning.io.files import csv_bytes, write_whole
from nodule_lightning.io.tables import COORDINATES, read_candidates, read_findings, read_scan_ids
from nodule_lightning.metrics.functional import Protocol
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.froc import summarise
from nodule_lightning.metrics.functional.ranking import Rating, Standing, rank
from nodule_lightning.structures import Findings, Table

RANKING, TABLE, CHANGES = "leaderboard.json", "leaderboard.csv", "changed_nodules.csv"
# The figure shows the best submissions only; more curves would hide one another.
FIGURE, MOST_DRAWN = "leaderboard.png", 7


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Ranking of submissions, the best first.

    Attributes:
        standings: one for each submission.
        nodules: all nodules to be found, with the ids of their scans.
        scans: number of scans that count.
        protocol: rules of the score.
        bootstraps: number of resamples for intervals and p-values.
        seed: of the resampling.
        warnings: input that changes a score without an error, one sentence each.
    """

    standings: tuple[Standing, ...]
    nodules: Table[Findings]
    scans: int
    protocol: Protocol
    bootstraps: int
    seed: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Describe all but the changed nodules in plain values for JSON."""
        return {
            "protocol": self.protocol.value,
            "scans": self.scans,
            "p_value": "two-sided, against the first, paired bootstrap over scans",
            "bootstraps": self.bootstraps,
            "seed": self.seed,
            "standings": [
                {
                    "submission": standing.name,
                    "gained_at_1_fp_per_scan": len(standing.gained),
                    "lost_at_1_fp_per_scan": len(standing.lost),
                    "ratings": [_describe(rating) for rating in standing.ratings],
                }
                for standing in self.standings
            ],
            "warnings": list(self.warnings),
        }


def rank_submissions(
    submissions: dict[str, Path],
    annotations: Path,
    excluded: Path | None,
    scans: Sequence[Path],
    output: Path,
    *,
    protocol: Protocol = Protocol.LUNA16,
    bootstraps: int = 1000,
    seed: int = 0,
    remarks: Sequence[str] = (),
) -> Leaderboard:
    """Score every submission on the same scans; write the ranking and the curves of the best seven.

    The files are `leaderboard.json`, `leaderboard.csv`, `changed_nodules.csv` and `leaderboard.png`.

    Args:
        submissions: file of each submission, by name.
        annotations: the nodules, as in `evaluate_submission`.
        excluded: the findings that count neither way; None if there is no such list.
        scans: files with the ids of all scans that count; if empty, the scans that any submission marks or that hold
            a nodule count.
        output: folder to write into; created if needed.
        protocol: rules to score by.
        bootstraps: number of resamples of the scans for intervals and p-values.
        seed: of the resampling.
        remarks: sentences to add to the warnings.

    Raises:
        InputError: a file is missing or malformed, or the folder cannot be written.
    """
    require_protocol(protocol, excluded)
    marks = {name: read_candidates(path) for name, path in submissions.items()}
    nodules = read_findings(annotations)
    doubtful = None if excluded is None else read_findings(excluded, sized=False)
    named = [scan_id for table in marks.values() for scan_id in table.numbered()[0]]
    everything = sorted({str(scan_id) for scan_id in [*named, *nodules.numbered()[0]]})
    scan_ids = [scan_id for path in scans for scan_id in read_scan_ids(path)] or everything
    comparisons: dict[str, Comparison] = {}
    said: dict[str, list[str]] = {}
    for name, table in marks.items():
        require_scans(submissions[name], table, scan_ids)
        comparisons[name], sentences = compare(table, nodules, doubtful, scan_ids, protocol)
        for sentence in sentences:
            said.setdefault(sentence, []).append(name)
    first = next(iter(comparisons.values()))
    board = Leaderboard(
        rank(comparisons, bootstraps, seed),
        first.named(first.nodules),
        len(scan_ids),
        protocol,
        bootstraps,
        seed,
        (*list_cautions(scans, scan_ids), *remarks, *_attributed(said, len(comparisons))),
    )
    _write(board, comparisons, output)
    return board


def _attributed(said: dict[str, list[str]], submissions: int) -> Iterator[str]:
    """Prefix each warning with the names of its submissions, unless it applies to all of them."""
    for sentence, names in said.items():
        yield sentence if len(names) == submissions else f"{', '.join(names)}: {sentence}"


def _write(board: Leaderboard, comparisons: Mapping[str, Comparison], output: Path) -> None:
    text = json.dumps(board.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    header = ("rank", "submission", "size", "nodules", "mean", "low_95_percent", "high_95_percent", "p_value")
    changes = ("submission", "change", "seriesuid", *COORDINATES, "diameter_mm", "probability", "probability_of_best")
    contents = {
        TABLE: csv_bytes(header, _rating_rows(board)),
        CHANGES: csv_bytes(changes, _change_rows(board)),
        RANKING: text.encode(),
        FIGURE: _draw(board, comparisons),
    }
    for name, content in contents.items():
        write_whole(output / name, content)


def _draw(board: Leaderboard, comparisons: Mapping[str, Comparison]) -> bytes:
    # Only this function needs matplotlib, which takes as long to import as everything else.
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.froc_figure import draw_frocs

    best = [standing.name for standing in board.standings[:MOST_DRAWN]]
    return to_png(draw_frocs([(name, summarise(comparisons[name], board.bootstraps, board.seed)) for name in best]))


def _rating_rows(board: Leaderboard) -> Iterator[tuple[object, ...]]:
    for place, standing in enumerate(board.standings, start=1):
        for rating in standing.ratings:
            low, high = rating.interval or ("", "")
            p_value = "" if rating.p_value is None else rating.p_value
            mean = rating.mean if isfinite(rating.mean) else ""
            yield place, standing.name, rating.size, rating.nodules, mean, low, high, p_value


def _change_rows(board: Leaderboard) -> Iterator[tuple[object, ...]]:
    best = board.standings[0].best_probability
    for standing in board.standings[1:]:
        for change, rows in (("gained", standing.gained), ("lost", standing.lost)):
            for row in rows.tolist():
                nodule = board.nodules.rows
                place = (*nodule.centre_xyz_mm[row].tolist(), float(nodule.diameter_mm[row]))
                likely = (_or_blank(standing.best_probability[row]), _or_blank(best[row]))
                yield standing.name, change, board.nodules.scan_id[row], *place, *likely


def _or_blank(probability: np.float64) -> object:
    return float(probability) if isfinite(probability) else ""


def _describe(rating: Rating) -> dict[str, Any]:
    interval = None if rating.interval is None else list(rating.interval)
    mean = rating.mean if isfinite(rating.mean) else None
    values = {**asdict(rating), "mean": mean, "interval_95_percent": interval}
    del values["interval"]
    return values
