"""Write phantoms to disk in the layout of a challenge, so that all other commands read them as they read real scans."""

import json
import os
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.files import replacing
from nodule_lightning.io.readers import CLAIM, TRUTH
from nodule_lightning.phantom.layouts import Layout, Written, layout_named
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings, check_seed
from nodule_lightning.phantom.trouble import TROUBLES, draw_trouble
from nodule_lightning.structures import Scan

TROUBLE = "trouble.csv"


@dataclass(frozen=True, slots=True)
class PhantomDataset:
    """What a data set of phantoms is made of; the same values give the same bytes.

    Attributes:
        settings: what each scan is drawn from.
        seed: another seed gives other scans.
        scans: how many scans without trouble.
        trouble: how many scans of each kind of trouble, on top.
        layout: `luna16` or `tianchi`.

    Raises:
        InputError: there is no scan, less than no scan of a kind or more than the layout has ids for, a negative seed,
            or an unknown kind or layout.
    """

    settings: PhantomSettings
    seed: int = 0
    scans: int = 16
    trouble: Mapping[str, int] | None = None
    layout: str = "luna16"

    def __post_init__(self) -> None:
        check_seed(self.seed)
        layout = layout_named(self.layout)
        for kind, count in self.counts.items():
            draw_trouble(kind, 0, 0)
            if count < 0:
                raise InputError(f"{f'trouble.{kind}' if kind else 'scans'} must be 0 or more, not {count}")
            layout.scan_id(self.seed, max(count - 1, 0), kind)
        if len(self) < 1:
            raise InputError("scans must be at least 1 where no scan with trouble is asked for")

    @property
    def counts(self) -> dict[str, int]:
        """Give the number of scans of each kind of trouble, those without under ""."""
        return {"": self.scans, **(self.trouble or {})}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def cases(self) -> list[tuple[str, int]]:
        """List all scans by their trouble and their number within it."""
        return [(kind, index) for kind in ("", *TROUBLES) for index in range(self.counts.get(kind, 0))]


def write_dataset(
    output: Path, dataset: PhantomDataset, *, workers: int = 2, truth: bool = False
) -> Generator[Written]:
    """Write every scan, then the csv files; yield each scan as it is done.

    Where there is trouble, trouble.csv (seriesuid,trouble) says which scan has which.
    Scans are the same for any number of workers. The csv files come last and go first, so a folder that has them is
    whole. A data set may grow, which leaves its scans as they are.

    Args:
        output: a new or empty folder, or one that holds the same data set with as many scans or fewer.
        dataset: what to write.
        workers: processes.
        truth: write also `truth/ID_lungs.nii.gz` (1 in the lungs) and `truth/ID_nodules.nii.gz` (1 in the first
            nodule of the scan, 2 in the second, and so on).

    Raises:
        InputError: the folder holds something else, or more scans of this data set.
    """
    layout = layout_named(dataset.layout)
    _claim(output, dataset)
    for name in (*layout.csv_files(), TROUBLE):
        (output / name).unlink(missing_ok=True)
    cases = [(output, dataset, kind, index, truth) for kind, index in dataset.cases()]
    done = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for written in pool.map(_write_one, *zip(*cases, strict=True)):
            done.append(written)
            yield written
    if any(kind for kind, _ in dataset.cases()):
        lines = ["seriesuid,trouble", *(f"{written.scan_id},{written.trouble}" for written in done)]
        with replacing(output / TROUBLE) as draft:
            draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    layout.write_tables(output, done)


def write_scan(folder: Path, scan: Scan) -> Path:
    """Write a scan as `ID.mhd` and `ID.raw`; the header, which makes it readable, comes last and in one step."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    header = folder / f"{scan.scan_id}.mhd"
    beside = folder / f"{scan.scan_id}.part"
    beside.mkdir(exist_ok=True)
    sitk.WriteImage(_image(scan.hu, scan.grid), str(beside / header.name), useCompression=False)
    for name in (f"{scan.scan_id}.raw", header.name):
        (beside / name).replace(folder / name)
    beside.rmdir()
    return header


def write_mask(path: Path, mask: Shaped[np.ndarray, "z y x"], grid: Grid) -> None:
    """Write a mask or labels as NIfTI, compressed."""
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name.removesuffix('.nii.gz')}.part.nii.gz")
    sitk.WriteImage(_image(mask.astype(np.uint8), grid), str(beside), useCompression=True, compressionLevel=1)
    beside.replace(path)


def _image(values: Shaped[np.ndarray, "z y x"], grid: Grid) -> Any:  # noqa: ANN401 - SimpleITK has no types
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_zyx_mm[::-1])
    image.SetOrigin(grid.origin_xyz_mm)
    image.SetDirection(grid.direction)
    return image


def _claim(output: Path, dataset: PhantomDataset) -> None:
    """Write what the folder is for, or refuse a folder that is for something else or holds more."""
    path = output / CLAIM
    wanted = {"seed": dataset.seed, "layout": dataset.layout, "settings": dataset.settings.to_dict()}
    # Tuples become lists on the way through a file.
    claim = json.loads(json.dumps({**wanted, "scans": dataset.counts}))
    if path.exists():
        held = _read_claim(path)
        if {**held, "scans": claim["scans"]} != claim:
            raise InputError(
                f"{output} holds a phantom data set of another seed, layout or settings: choose another output="
            )
        for kind, count in held["scans"].items():
            if count > claim["scans"].get(kind, 0):
                name = f"trouble.{kind}" if kind else "scans"
                raise InputError(
                    f"{output} holds {count} scans, of which {name}={claim['scans'].get(kind, 0)} would leave some "
                    f"without their rows in the csv files: give {name}={count} or more, or choose another output="
                )
    elif output.exists() and any(output.iterdir()):
        raise InputError(f"{output} holds other files: choose an empty or new folder for output=")
    output.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(json.dumps(claim, indent=1), encoding="utf-8")


def _read_claim(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return {**held, "scans": dict(held["scans"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged or of another version: choose another output=") from None


def _write_one(output: Path, dataset: PhantomDataset, kind: str, index: int, truth: bool) -> Written:
    layout: Layout = layout_named(dataset.layout)
    phantom = make_phantom(dataset.settings, dataset.seed, index, kind)
    scan = replace(phantom.scan, scan_id=layout.scan_id(dataset.seed, index, kind))
    folder = layout.folder(index)
    header = write_scan(output / folder, scan)
    share = draw_trouble(kind, dataset.seed, index).file_share
    if share < 1:
        os.truncate(header.with_suffix(".raw"), int(scan.hu.nbytes * share))
    if truth:
        write_mask(output / TRUTH / f"{scan.scan_id}_lungs.nii.gz", phantom.lungs, scan.grid)
        write_mask(output / TRUTH / f"{scan.scan_id}_nodules.nii.gz", phantom.nodule_labels, scan.grid)
    return Written(scan.scan_id, folder, kind, phantom.nodules, phantom.excluded)
