"""Scoring: the golden submission of LUNA16, and a million marks."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

import nodule_lightning as nl
from experiments.bench.figures import Figure, figure, forget_peak, peak_mb, timed
from nodule_lightning.evaluation.evaluate import evaluate_submission
from nodule_lightning.io.tables import write_findings, write_scan_ids

MARKS, SCANS = 1_000_000, 10_000


def golden(real_data: Path, folder: Path) -> list[Figure]:
    """Score the golden submission: the pure function, and the whole command with its imports."""
    luna = real_data / "luna16"
    submission = real_data / "froc_golden" / "deeplung_dpn26.csv"
    names = ("annotations.csv", "annotations_excluded.csv", "seriesuids.csv")
    annotations, excluded, scans = (luna / name for name in names)
    score = partial(
        nl.froc,
        nl.read_candidates(submission),
        nl.read_findings(annotations),
        nl.read_findings(excluded, sized=False),
        nl.read_scan_ids(scans),
    )
    command = [
        str(Path(sys.executable).with_name("nodule-evaluate")),
        f"submission={submission}",
        f"annotations={annotations}",
        f"excluded={excluded}",
        f"scans={scans}",
        f"output={folder / 'golden'}",
    ]
    whole = partial(subprocess.run, command, check=True, capture_output=True)
    return [
        figure(
            "golden submission, 1000 bootstraps",
            timed(score, 5),
            "s",
            "imports and reading apart; official script: 74 s",
        ),
        figure("nodule-evaluate on it", timed(whole, 5), "s", "the whole command"),
    ]


def million(folder: Path) -> list[Figure]:
    """Score a million marks over ten thousand scans, from file to files."""
    rng = np.random.default_rng(0)
    scan_ids = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{10**29 + index}" for index in range(SCANS)]
    owners = np.array(scan_ids)
    names = ("marks", "nodules", "excluded", "scans")
    submission, annotations, excluded, listed = (folder / f"{name}.csv" for name in names)
    marks = nl.Candidates(rng.uniform(-150, 150, (MARKS, 3)), rng.random(MARKS), np.full(MARKS, -1.0))
    table = nl.Table(np.repeat(owners, MARKS // SCANS), marks)
    nl.write_candidates(submission, table)
    write_findings(
        annotations, nl.Table(owners, nl.Findings(rng.uniform(-150, 150, (SCANS, 3)), rng.uniform(4, 20, SCANS)))
    )
    write_findings(excluded, nl.Table(owners, nl.Findings(rng.uniform(-150, 150, (SCANS, 3)), np.full(SCANS, -1.0))))
    write_scan_ids(listed, scan_ids)
    parted = timed(table.by_scan, 3)
    del marks, table
    forget_peak()
    whole = partial(evaluate_submission, [submission], annotations, excluded, [listed], folder / "million")
    seconds = timed(whole, 2, warm=False)
    return [
        figure("a million marks over 10,000 scans", seconds, "s", "from files to files, 1000 bootstraps"),
        figure("its peak memory", [peak_mb()], "MB"),
        figure("Table.by_scan of a million rows", parted, "s"),
    ]
