"""Scoring of a submission, or of the pooled submissions of several folds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.folds import Fold, fold_cautions, pool, read_folds
from nodule_lightning.io.files import csv_bytes, write_whole
from nodule_lightning.io.tables import COORDINATES, read_candidates, read_findings, read_scan_ids
from nodule_lightning.metrics.functional import Curve, FrocResult, OperatingPoint, Protocol, froc
from nodule_lightning.metrics.functional.mistakes import Misses
from nodule_lightning.structures import Candidates, Findings, Table

METRICS, CURVE, FIGURE, MISSES, FALSE_POSITIVES = (
    "metrics.json",
    "froc.csv",
    "froc.png",
    "misses.csv",
    "false_positives.csv",
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Score of a submission, with its operating point and the scores of its folds.

    Attributes:
        label: name of the submission, for the figure.
        result: the score.
        operating_point: at the requested threshold, if any.
        folds: name and separate score of each pooled submission; empty if there is only one.
    """

    label: str
    result: FrocResult
    operating_point: OperatingPoint | None = None
    folds: tuple[tuple[str, FrocResult], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Describe all but the curve and the lists in plain values for JSON."""
        point = None if self.operating_point is None else self.operating_point.to_dict()
        folds = [_describe_fold(name, result) for name, result in self.folds]
        return {"submission": self.label, **self.result.to_dict(), "operating_point": point, "folds": folds}


def evaluate_submission(
    submissions: Sequence[Path],
    annotations: Path,
    excluded: Path | None,
    scans: Sequence[Path],
    output: Path,
    *,
    protocol: Protocol = Protocol.LUNA16,
    threshold: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Score and write `metrics.json`, `froc.csv`, `froc.png`, `misses.csv` and `false_positives.csv`.

    Args:
        submissions: `seriesuid,coordX,coordY,coordZ,probability`; several are folds, pooled and scored once.
        annotations: `seriesuid,coordX,coordY,coordZ,diameter_mm` of the nodules.
        excluded: the same for findings that count neither way; None if there is no such list.
        scans: files with the ids of all scans that count, one for all or one for each fold; if empty, the scans of
            the submissions and the annotations count.
        output: folder to write into; created if needed.
        protocol: rules to score by.
        threshold: of the operating point; None for no operating point.
        bootstraps: number of resamples of the scans for the interval.
        seed: of the resampling.

    Raises:
        InputError: a file is missing or malformed, two folds share a scan, or the folder cannot be written.
    """
    require_protocol(protocol, excluded)
    folds = read_folds(submissions, scans) if len(submissions) > 1 else []
    candidates = pool(folds) if folds else read_candidates(submissions[0])
    nodules = read_findings(annotations)
    doubtful = None if excluded is None else read_findings(excluded, sized=False)
    scan_ids = [scan_id for path in scans for scan_id in read_scan_ids(path)] or _ids_of_tables(candidates, nodules)
    for path, part in [(fold.path, fold.candidates) for fold in folds] or [(submissions[0], candidates)]:
        require_scans(path, part, scan_ids)
    result = froc(candidates, nodules, doubtful, scan_ids, protocol=protocol, bootstraps=bootstraps, seed=seed)
    for sentence in [*list_cautions(scans, scan_ids), *(fold_cautions(folds, scans) if folds else [])]:
        result = result.with_warning(sentence)
    evaluation = Evaluation(
        f"{len(folds)} folds" if folds else submissions[0].stem,
        result,
        None if threshold is None else result.operating_point(threshold),
        tuple((fold.name, _alone(fold, nodules, doubtful, scan_ids, protocol)) for fold in folds),
    )
    write_evaluation(evaluation, output)
    return evaluation


def require_protocol(protocol: Protocol, excluded: Path | None) -> None:
    """Refuse a list of excluded findings if the rules have no such list.

    Raises:
        InputError: a list is given for Tianchi.
    """
    if protocol is Protocol.TIANCHI and excluded is not None:
        raise InputError(
            f"protocol=tianchi has no excluded findings: leave out excluded={excluded}", "argument-conflict"
        )


def require_scans(submission: Path, candidates: Table[Candidates], scan_ids: Sequence[str]) -> None:
    """Refuse a submission whose marks are all in scans that do not count, since its score of zero is meaningless.

    Raises:
        InputError: there are marks, and none is in a scan that counts.
    """
    if len(candidates) and set(scan_ids).isdisjoint(candidates.scan_id.tolist()):
        raise InputError(
            f"{submission} marks none of the {len(scan_ids)} scans that count, but others such as "
            f"{candidates.scan_id[0]}: give the submission, annotations and scans of one data set",
            "scan-unknown",
        )


def list_cautions(scans: Sequence[Path], scan_ids: Sequence[str]) -> list[str]:
    """Warn if no list of scans was given, and of ids that differ only by leading zeros."""
    if scans:
        return []
    twins = len(scan_ids) - len({scan_id.lstrip("0") for scan_id in scan_ids})
    padding = [f"{twins} scan ids differ from another one only by leading zeros, and count as separate scans."]
    return [
        *(padding if twins else []),
        f"No list of scans was given: only the {len(scan_ids)} scans with a mark or a nodule count, so scans without"
        " either are missing from the false positives per scan.",
    ]


def write_evaluation(evaluation: Evaluation, output: Path) -> None:
    """Write the tables and the figure; all are computed before the first file is written.

    Raises:
        InputError: the folder cannot be written to.
    """
    # Only this function needs matplotlib, which takes as long to import as everything else.
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.froc_figure import draw_froc

    contents = {FIGURE: to_png(draw_froc(evaluation.result, evaluation.label)), **tables(evaluation)}
    for name, content in contents.items():
        write_whole(output / name, content)


def tables(evaluation: Evaluation) -> dict[str, bytes]:
    """Build all output files of a score except the figure: their contents by file name."""
    result = evaluation.result
    metrics = json.dumps(evaluation.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return {
        CURVE: _curve_csv(result.curve.corners()),
        MISSES: _misses_csv(result.misses),
        FALSE_POSITIVES: _marks_csv(result.false_positives),
        METRICS: metrics.encode(),
    }


def _alone(
    fold: Fold,
    nodules: Table[Findings],
    excluded: Table[Findings] | None,
    scan_ids: Sequence[str],
    protocol: Protocol,
) -> FrocResult:
    counting = set(scan_ids)
    own = [scan_id for scan_id in fold.scan_ids if scan_id in counting]
    return froc(fold.candidates, nodules, excluded, own, protocol=protocol, bootstraps=0)


def _ids_of_tables(candidates: Table[Candidates], nodules: Table[Findings]) -> list[str]:
    return sorted({*candidates.scan_id.tolist(), *nodules.scan_id.tolist()})


def _describe_fold(name: str, result: FrocResult) -> dict[str, Any]:
    wanted = ("mean", "sensitivity_at_fps_per_scan", "counts")
    return {"submission": name, **{key: value for key, value in result.to_dict().items() if key in wanted}}


def _curve_csv(curve: Curve) -> bytes:
    rows = zip(curve.fps.tolist(), curve.sensitivity.tolist(), curve.threshold.tolist(), strict=True)
    return csv_bytes(("false_positives_per_scan", "sensitivity", "threshold"), rows)


def _misses_csv(misses: Misses) -> bytes:
    header = ("seriesuid", *COORDINATES, "diameter_mm", "nearest_mark_mm", "nearest_mark_probability")
    findings = misses.nodules.rows
    rows = zip(
        misses.nodules.scan_id.tolist(),
        findings.centre_xyz_mm.tolist(),
        findings.diameter_mm.tolist(),
        misses.nearest_mm.tolist(),
        misses.nearest_probability.tolist(),
        strict=True,
    )
    # A scan without marks has no nearest mark.
    return csv_bytes(
        header,
        (
            (scan_id, *centre, diameter, *((near, likely) if isfinite(near) else ("", "")))
            for scan_id, centre, diameter, near, likely in rows
        ),
    )


def _marks_csv(marks: Table[Candidates]) -> bytes:
    rows = zip(marks.scan_id.tolist(), marks.rows.centre_xyz_mm.tolist(), marks.rows.probability.tolist(), strict=True)
    return csv_bytes(
        ("seriesuid", *COORDINATES, "probability"), ((scan_id, *centre, likely) for scan_id, centre, likely in rows)
    )
