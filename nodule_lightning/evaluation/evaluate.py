"""Score a submission, or the pooled ones of several folds, and write the score down."""

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
    """A score and what stands beside it.

    Attributes:
        label: name of the submission, for the figure.
        result: the score.
        operating_point: at the threshold that was asked for, if any.
        folds: name and own score of each pooled submission; none where there was only one.
    """

    label: str
    result: FrocResult
    operating_point: OperatingPoint | None = None
    folds: tuple[tuple[str, FrocResult], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Describe all but the curve and the lists in plain values, for JSON."""
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
    """Score by the rules of LUNA16; write `metrics.json`, `froc.csv`, `froc.png`, `misses.csv`, `false_positives.csv`.

    Args:
        submissions: `seriesuid,coordX,coordY,coordZ,probability`; several are folds, pooled and scored once.
        annotations: `seriesuid,coordX,coordY,coordZ,diameter_mm` of the nodules.
        excluded: the same of the findings that count neither way; None if there is no such list.
        scans: the ids of all scans that count, in one file or in one for each fold; no file takes those of the
            submissions and of the annotations.
        output: folder to write into; made if needed.
        protocol: whose rules hold.
        threshold: of the operating point; None for none.
        bootstraps: resamples of the scans behind the interval.
        seed: of the resampling.

    Raises:
        InputError: a file that is missing or malformed, folds that share a scan, or a folder that cannot be written.
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
    """Refuse a list of excluded findings where the rules know none.

    Raises:
        InputError: there is one.
    """
    if protocol is Protocol.TIANCHI and excluded is not None:
        raise InputError(f"protocol=tianchi has no excluded findings: leave out excluded={excluded}")


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


def list_cautions(scans: Sequence[Path], scan_ids: Sequence[str]) -> list[str]:
    """Say which scans count where no list of them was given."""
    if scans:
        return []
    twins = len(scan_ids) - len({scan_id.lstrip("0") for scan_id in scan_ids})
    padding = [f"{twins} scan ids differ from another one by leading zeros only, and count as scans of their own."]
    return [
        *(padding if twins else []),
        f"No list of scans was given: only the {len(scan_ids)} scans with a mark or a nodule count, so scans without"
        " either are missing from the false positives per scan.",
    ]


def write_evaluation(evaluation: Evaluation, output: Path) -> None:
    """Write the tables and the figure, all made before the first one is written.

    Raises:
        InputError: the folder cannot be written to.
    """
    # Only this function needs matplotlib, and it takes as long to import as all the rest.
    from nodule_lightning.report.canvas import to_png
    from nodule_lightning.report.froc_figure import draw_froc

    contents = {FIGURE: to_png(draw_froc(evaluation.result, evaluation.label)), **tables(evaluation)}
    for name, content in contents.items():
        write_whole(output / name, content)


def tables(evaluation: Evaluation) -> dict[str, bytes]:
    """Give all that is written down of a score but its figure: the content of each file by its name."""
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
    # A scan without marks has no nearest one.
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
