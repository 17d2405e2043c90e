"""Writing of phantom data sets in the layout of a challenge; all other commands read them like real scans."""

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
from nodule_lightning.io.scan_folders import MANIFEST, TRUTH
from nodule_lightning.phantom.layouts import Layout, Written, layout_named
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings, check_seed
from nodule_lightning.phantom.trouble import TROUBLES, draw_trouble
from nodule_lightning.structures import Scan

TROUBLE = "trouble.csv"


@dataclass(frozen=True, slots=True)
class PhantomDataset:
    """The definition of a phantom data set; equal definitions give equal bytes.

    Attributes:
        settings: the distributions that each scan is drawn from.
        seed: seed of the data set.
        scans: number of scans without trouble.
        trouble: number of additional scans of each kind of trouble.
        layout: `luna16` or `tianchi`.

    Raises:
        InputError: there is no scan, a count is negative or exceeds the ids of the layout, the seed is negative, or a
            kind or the layout is unknown.
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
                name = f"trouble.{kind}" if kind else "scans"
                raise InputError(f"{name} must be 0 or more, not {count}", "argument-invalid")
            layout.scan_id(self.seed, max(count - 1, 0), kind)
        if len(self) < 1:
            raise InputError("scans must be at least 1 if no scan with trouble is asked for", "argument-invalid")

    @property
    def counts(self) -> dict[str, int]:
        """The number of scans of each kind of trouble; "" is the kind without trouble."""
        return {"": self.scans, **(self.trouble or {})}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def cases(self) -> list[tuple[str, int]]:
        """List all scans by their kind of trouble and their index within it."""
        return [(kind, index) for kind in ("", *TROUBLES) for index in range(self.counts.get(kind, 0))]


def write_dataset(
    output: Path, dataset: PhantomDataset, *, workers: int = 2, truth: bool = False
) -> Generator[Written]:
    """Write a data set: all scans, then the csv files.

    With scans of trouble, trouble.csv (seriesuid,trouble) lists the kind of each scan. The scans do not depend on the
    number of workers. The csv files are deleted first and written last, so a folder that has them is complete. A data
    set may be enlarged, which does not change the scans that it has.

    Args:
        output: a new or empty folder, or one that holds the same data set with as many scans or fewer.
        dataset: what to write.
        workers: number of processes.
        truth: also write `truth/ID_lungs.nii.gz` (1 in the lungs) and `truth/ID_nodules.nii.gz` (1 in the first
            nodule of the scan, 2 in the second, and so on).

    Yields:
        Each scan after it is written.

    Raises:
        InputError: the folder holds something else, or more scans of this data set.
    """
    layout = layout_named(dataset.layout)
    _write_manifest(output, dataset)
    for name in (*layout.csv_files(), TROUBLE):
        (output / name).unlink(missing_ok=True)
    cases = [(output, dataset, kind, index, truth) for kind, index in dataset.cases()]
    done = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for written in pool.map(_write_phantom, *zip(*cases, strict=True)):
            done.append(written)
            yield written
    if any(kind for kind, _ in dataset.cases()):
        lines = ["seriesuid,trouble", *(f"{written.scan_id},{written.trouble}" for written in done)]
        with replacing(output / TROUBLE) as draft:
            draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    layout.write_tables(output, done)


def write_scan(folder: Path, scan: Scan) -> Path:
    """Write a scan as `ID.mhd` and `ID.raw`. The header is moved into place last, so a partial scan is not readable."""
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
    """Write a mask or label map as compressed NIfTI."""
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


def _write_manifest(output: Path, dataset: PhantomDataset) -> None:
    """Write the definition of the data set, or refuse a folder that holds something else or more scans."""
    path = output / MANIFEST
    wanted = {"seed": dataset.seed, "layout": dataset.layout, "settings": dataset.settings.to_dict()}
    # A round trip through JSON turns tuples into lists, as in a manifest that was read.
    manifest = json.loads(json.dumps({**wanted, "scans": dataset.counts}))
    if path.exists():
        old = _read_manifest(path)
        if {**old, "scans": manifest["scans"]} != manifest:
            raise InputError(
                f"{output} holds a phantom data set of another seed, layout or settings: choose another output=",
                "output-refused",
            )
        for kind, count in old["scans"].items():
            if count > manifest["scans"].get(kind, 0):
                name = f"trouble.{kind}" if kind else "scans"
                raise InputError(
                    f"{output} holds {count} scans, of which {name}={manifest['scans'].get(kind, 0)} would leave some "
                    f"without their rows in the csv files: give {name}={count} or more, or choose another output=",
                    "output-refused",
                )
    elif output.exists() and any(output.iterdir()):
        raise InputError(f"{output} holds other files: choose an empty or new folder for output=", "output-refused")
    output.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {**manifest, "scans": dict(manifest["scans"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged or of another version: choose another output=", "file-damaged") from None


def _write_phantom(output: Path, dataset: PhantomDataset, kind: str, index: int, truth: bool) -> Written:
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
