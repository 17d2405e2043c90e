"""Write phantoms to disk in LUNA16's layout, so that all other commands read them as they read real scans."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import write_findings, write_scan_ids
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.structures import Findings, Scan, Table

SUBSETS = 10


@dataclass(frozen=True, slots=True)
class Written:
    """One scan on disk.

    Attributes:
        scan_id: its `seriesuid`.
        nodules: the nodules to be found in it.
        excluded: what was listed as no nodule.
    """

    scan_id: str
    nodules: Findings
    excluded: Findings


def write_dataset(
    output: Path, scans: int, seed: int, settings: PhantomSettings, workers: int = 2
) -> Iterator[Written]:
    """Write `subset*/ID.mhd` and `.raw` for each scan, then the three csv files; yield each scan as it is done.

    Scans are the same for any number of workers. The csv files come last, so a folder that has them is whole.

    Raises:
        InputError: the folder holds a data set of other settings, or the number of scans is not positive.
    """
    if scans < 1:
        raise InputError(f"scans must be at least 1, not {scans}")
    _claim(output, seed, settings)
    done = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for written in pool.map(
            _write_one, *zip(*((output, settings, seed, index) for index in range(scans)), strict=True)
        ):
            done.append(written)
            yield written
    write_findings(output / "annotations.csv", _table([(item.scan_id, item.nodules) for item in done]))
    write_findings(output / "annotations_excluded.csv", _table([(item.scan_id, item.excluded) for item in done]))
    write_scan_ids(output / "seriesuids.csv", [item.scan_id for item in done])


def write_scan(folder: Path, scan: Scan) -> Path:
    """Write a scan as `ID.mhd` and `ID.raw`; the header, which makes it readable, comes last and in one step."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(scan.hu)
    image.SetSpacing(scan.grid.spacing_zyx_mm[::-1])
    image.SetOrigin(scan.grid.origin_xyz_mm)
    image.SetDirection(scan.grid.direction)
    header = folder / f"{scan.scan_id}.mhd"
    beside = folder / f"{scan.scan_id}.part"
    beside.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(beside / header.name), useCompression=False)
    for name in (f"{scan.scan_id}.raw", header.name):
        (beside / name).replace(folder / name)
    beside.rmdir()
    return header


def _claim(output: Path, seed: int, settings: PhantomSettings) -> None:
    """Write what the folder is for, or refuse a folder that is for something else."""
    claim = {"seed": seed, "settings": settings.to_dict()}
    text = json.dumps(claim, indent=1)
    path = output / "phantom.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(f"{output} holds a phantom data set of another seed or settings: choose another output=")
    if output.exists() and not path.exists() and any(output.iterdir()):
        raise InputError(f"{output} holds other files: choose an empty or new folder for output=")
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_one(output: Path, settings: PhantomSettings, seed: int, index: int) -> Written:
    phantom = make_phantom(settings, seed, index)
    write_scan(output / f"subset{index % SUBSETS}", phantom.scan)
    return Written(phantom.scan.scan_id, phantom.nodules, phantom.excluded)


def _table(parts: list[tuple[str, Findings]]) -> Table[Findings]:
    ids = np.array([scan_id for scan_id, rows in parts for _ in range(len(rows))], dtype=np.str_)
    return Table(ids, Findings.concatenate(rows for _, rows in parts))
