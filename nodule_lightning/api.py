"""The functions of the Python API: what the commands do, on paths or on objects in memory.

`nodule_lightning` itself offers these names; see its `__all__`.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.io import tables
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.structures import Candidates, Entry, Findings, Scan, Table

if TYPE_CHECKING:
    # Each function imports the rest itself: to score a csv file takes neither torch nor SimpleITK.
    from nodule_lightning.metrics.functional.protocol import Protocol
    from nodule_lightning.metrics.functional.result import FrocResult
    from nodule_lightning.preparation.prepare import PreparationSettings
    from nodule_lightning.search.predict import Detector

AnyPath = str | PathLike[str]


def load_detector(
    checkpoint: AnyPath, *, reducer: AnyPath | None = None, device: str = "auto", compiled: bool = False
) -> "Detector":
    """Load a trained detector onto a device, ready to search.

    A checkpoint is read as tensors and plain values only: no code that a file holds is run.

    Args:
        checkpoint: what `nodule-train` wrote, for example `checkpoints/best.ckpt` of a run.
        reducer: the checkpoint of a second stage, trained on scans that were prepared in the same way.
        device: `auto` (the GPU, or the CPU where there is none), `cpu`, `cuda` or `cuda:N`.
        compiled: compile the network with `torch.compile`; it pays off over many scans.

    Raises:
        InputError: a file is missing, damaged or of another program, the two do not fit together, or this machine has
            no such device.
    """
    from nodule_lightning.training import checkpoint as checkpoints

    detector = checkpoints.load_detector(Path(checkpoint))
    if reducer is not None:
        from dataclasses import replace

        detector = replace(detector, reducer=checkpoints.load_reducer(Path(reducer), detector))
    return detector.on(device, compiled=compiled)


def read_scan(path: AnyPath, reading: ReadingSettings = STRICT) -> Scan:
    """Read a CT in Hounsfield units, with its place in the world (mm, LPS).

    Args:
        path: a `.mhd`, `.mha`, `.nrrd` or NIfTI file, or the folder of one DICOM series.
        reading: what to do where the files leave doubt. By default a scan whose nodules could be lost or moved is
            refused; `ReadingSettings(lenient=True)` reads it, and `Scan.notes` says what is wrong with it.
            `ReadingSettings(offset_hu=-1024)` turns counts into HU.

    Raises:
        InputError: the file is missing, damaged or no CT; the folder holds no DICOM series, or several; or a nodule
            could be lost or moved by its faults and reading is strict.
    """
    from nodule_lightning.io import readers

    return readers.read_scan(Path(path), reading)


def prepare(
    scan: Scan | AnyPath, settings: "PreparationSettings | None" = None, reading: ReadingSettings = STRICT
) -> Entry:
    """Crop a CT to the lungs, resample it to isotropic voxels and window it: the entry that a cache would hold.

    Args:
        scan: the CT, or its path as for `read_scan`.
        settings: spacing, window, margin and lung rules; None for the defaults (1 mm, -1200 to 600 HU). A detector
            needs its own, `detector.preparation`.
        reading: what to do where the files at a path leave doubt; a `Scan` is read already.

    Raises:
        InputError: as `read_scan`.
    """
    from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan

    read = scan if isinstance(scan, Scan) else read_scan(scan, reading)
    return prepare_scan(read, settings or PreparationSettings())


def froc(
    candidates: Table[Candidates] | AnyPath,
    nodules: Table[Findings] | AnyPath,
    excluded: Table[Findings] | AnyPath | None,
    scan_ids: Sequence[str] | AnyPath,
    *,
    protocol: "Protocol | str" = "luna16",
    bootstraps: int = 1000,
    seed: int = 0,
) -> "FrocResult":
    """Score a submission by the rules of LUNA16: sensitivity at 1/8 to 8 false positives per scan, and their mean.

    Tables may be given as csv files in LUNA16's columns.

    Args:
        candidates: the submission; the 100 best candidates of each scan count.
        nodules: the annotations.
        excluded: findings on which a candidate counts neither way; None where there is no such list.
        scan_ids: every scan that counts, also one without nodules and candidates: false positives are divided by
            their number. A path is a csv file, one id a line.
        protocol: `luna16`, or `tianchi`, which knows no excluded findings.
        bootstraps: resamples of the scans behind the 95 % interval; 0 for none.
        seed: of the resampling.

    Raises:
        InputError: a file is missing or malformed, a scan is listed twice, or there are excluded findings for Tianchi.
    """
    from nodule_lightning.metrics.functional import froc as score
    from nodule_lightning.metrics.functional.protocol import Protocol

    try:
        rules = Protocol(protocol)
    except ValueError:
        raise InputError(f"protocol must be {' or '.join(Protocol)}, not {protocol!r}", "argument-invalid") from None
    return score(
        candidates if isinstance(candidates, Table) else read_candidates(candidates),
        nodules if isinstance(nodules, Table) else read_findings(nodules),
        excluded if isinstance(excluded, Table | None) else read_findings(excluded, sized=False),
        read_scan_ids(scan_ids) if isinstance(scan_ids, str | PathLike) else scan_ids,
        protocol=rules,
        bootstraps=bootstraps,
        seed=seed,
    )


def fuse(
    submissions: Sequence[Table[Candidates] | AnyPath],
    weights: Sequence[float] | None = None,
    *,
    agree: int | None = None,
) -> Table[Candidates]:
    """Fuse the submissions of several detectors into one, as `nodule-ensemble` does.

    Candidates of different submissions that lie on each other become one. Its probability is the weighted mean; a
    submission without such a candidate counts as 0. Beside a `submission.csv` of `nodule-predict`, `scans.csv` says
    which scans were searched: a submission has no part in the others. One without that list counts for every scan.

    Args:
        submissions: tables or csv files, with probabilities in [0, 1].
        weights: of each submission, not negative; only their ratios count. None for equal weights.
        agree: keep what at least so many submissions mark, with the mean over those; 0 for more than half of those
            that searched the scan. None for the weighted mean over all.

    Raises:
        InputError: a file is missing or malformed, a score is no probability, or the weights do not fit.
    """
    from nodule_lightning.ensemble import fusion
    from nodule_lightning.ensemble.members import Member
    from nodule_lightning.ensemble.submissions import read_members

    if not submissions:
        raise InputError("there is no submission to fuse; give at least one", "argument-missing")
    from_files = iter(read_members([Path(one) for one in submissions if not isinstance(one, Table)]))
    members = [
        Member(f"table {place}", one) if isinstance(one, Table) else next(from_files)
        for place, one in enumerate(submissions)
    ]
    for member in members:
        score = member.marks.rows.probability
        if (outside := score[~((score >= 0) & (score <= 1))]).size:
            raise InputError(
                f"submission {member.name} holds the probability {outside[0]:g}, which is outside 0 to 1; "
                "calibrate it first (nodule-ensemble calibrate=true)",
                "table-value-invalid",
            )
    return fusion.fuse(members, np.ones(len(members)).tolist() if weights is None else weights, agree)


def read_candidates(path: AnyPath) -> Table[Candidates]:
    """Read a submission: `seriesuid,coordX,coordY,coordZ,probability`, and `diameter_mm` where it is there.

    Raises:
        InputError: the file is missing, lacks a column, or holds a value that is no number or no scan id.
    """
    return tables.read_candidates(Path(path))


def read_findings(path: AnyPath, *, sized: bool = True) -> Table[Findings]:
    """Read annotations: `seriesuid,coordX,coordY,coordZ,diameter_mm`.

    Args:
        path: the csv file.
        sized: refuse a finding without a diameter; LUNA16's excluded list has -1 where the reader gave none.

    Raises:
        InputError: the file is missing, lacks a column, or holds a value that is no number, scan id or diameter.
    """
    return tables.read_findings(Path(path), sized=sized)


def read_scan_ids(path: AnyPath) -> list[str]:
    """Read a list of scans, one id a line, as LUNA16's `seriesuids.csv`.

    Raises:
        InputError: the file is missing, holds no id, or holds one twice.
    """
    return tables.read_scan_ids(Path(path))


def write_candidates(path: AnyPath, candidates: Table[Candidates], *, sized: bool = False) -> None:
    """Write a submission as the leaderboard takes it.

    Args:
        path: the csv file.
        candidates: the candidates of all scans.
        sized: add the column `diameter_mm`, which no leaderboard reads; -1 where a diameter is unknown.

    Raises:
        InputError: the file cannot be written.
    """
    tables.write_candidates(Path(path), candidates, sized=sized)
