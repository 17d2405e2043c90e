"""Writing of copies of real scans with planted nodules, as a data set in LUNA16's layout."""

import csv
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import replacing
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.scan_folders import PLANTED, TRUTH, find_scans
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import COORDINATES, join_findings, read_findings, write_findings, write_scan_ids
from nodule_lightning.lungs.segmentation import segment_lungs
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.phantom.dataset import write_mask, write_scan
from nodule_lightning.phantom.diameters import DIAMETER_QUANTILES_MM
from nodule_lightning.phantom.nodules import Nodule, draw_nodule
from nodule_lightning.phantom.planting import plant_nodules
from nodule_lightning.phantom.settings import MOST_NODULES, PhantomSettings, check_seed, check_shares
from nodule_lightning.resampling import resample
from nodule_lightning.structures import Failure, Findings, Scan, Table

# LUNA16 has no smaller nodules.
SMALLEST_MM, LARGEST_MM = 2.0, 60.0


@dataclass(frozen=True, slots=True)
class PlantSettings:
    """The nodules that are planted in each scan.

    Attributes:
        nodules: number of nodules per copy of a scan.
        diameters_mm: one nodule per diameter, instead of `nodules` with drawn diameters.
        source: the data set whose distribution of diameters is used: `luna16` or `tianchi`.
        kinds: shares of solid, part-solid and ground-glass nodules.
        places: shares of nodules free in the lung, at a vessel, at the pleura and at the mediastinum.
        copies: number of copies of each scan, each with other nodules.
        seed: seed of the nodules and their positions.

    Raises:
        InputError: a number or diameter is out of range, or the source is unknown.
    """

    nodules: int = 6
    diameters_mm: Sequence[float] | None = None
    source: str = "luna16"
    kinds: Sequence[float] = (0.7, 0.12, 0.18)
    places: Sequence[float] = (0.45, 0.25, 0.22, 0.08)
    copies: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.nodules < 1 or self.copies < 1:
            raise InputError(
                f"nodules and copies must be at least 1, not {self.nodules} and {self.copies}", "argument-invalid"
            )
        check_seed(self.seed)
        check_shares("kinds", self.kinds, 3)
        check_shares("places", self.places, 4)
        count = self.nodules if self.diameters_mm is None else len(self.diameters_mm)
        if not 0 < count <= MOST_NODULES:
            raise InputError(
                f"from 1 to {MOST_NODULES} nodules can be planted in a scan, not {count}", "argument-invalid"
            )
        for diameter_mm in self.diameters_mm or ():
            if not SMALLEST_MM <= diameter_mm <= LARGEST_MM:
                raise InputError(
                    f"diameters_mm must be between {SMALLEST_MM:g} and {LARGEST_MM:g}, not {diameter_mm}",
                    "argument-invalid",
                )
        if self.source not in DIAMETER_QUANTILES_MM:
            raise InputError(
                f"source must be one of {sorted(DIAMETER_QUANTILES_MM)}, not {self.source!r}", "argument-invalid"
            )

    def draw(self, scan_id: str, copy: int) -> list[Nodule]:
        """Draw the nodules of one copy of a scan; they do not depend on other scans."""
        count = len(self.diameters_mm) if self.diameters_mm else self.nodules
        first = _number(scan_id) % 100_000 + copy * count
        drawn = [draw_nodule(self._statistics(), self.seed, first + number) for number in range(count)]
        if not self.diameters_mm:
            return drawn
        return [
            replace(nodule, diameter_mm=float(diameter))
            for nodule, diameter in zip(drawn, self.diameters_mm, strict=True)
        ]

    def _statistics(self) -> PhantomSettings:
        return PhantomSettings(diameters=self.source, nodule_kinds=self.kinds, nodule_places=self.places)


@dataclass(frozen=True, slots=True)
class PlantedScan:
    """One planted scan on disk.

    Attributes:
        scan_id: its `seriesuid`, which is no other scan's.
        nodules: the planted nodules.
        drawn: what was drawn for each of them.
        known: the annotated nodules of the original scan.
        excluded: its excluded findings.
    """

    scan_id: str
    nodules: Findings
    drawn: list[Nodule]
    known: Findings
    excluded: Findings


class PlantSource:
    """The scans to plant in, and their known findings.

    Args:
        path: a scan file, a DICOM folder, or a folder of these at any depth.
        annotations: csv of the nodules in the scans; they are kept, and nothing is planted on them.
        excluded: csv of the excluded findings, treated in the same way.
        reading: what to do where the files of a scan leave doubt.

    Raises:
        InputError: there is no scan, or a csv file is missing or damaged.
    """

    def __init__(
        self,
        path: Path,
        annotations: Path | None = None,
        excluded: Path | None = None,
        reading: ReadingSettings = STRICT,
    ) -> None:
        self.reading = reading
        self.scans = find_scans(path)
        self.known = read_findings(annotations).by_scan() if annotations else {}
        self.excluded = read_findings(excluded, sized=False).by_scan() if excluded else {}

    def __len__(self) -> int:
        return len(self.scans)


def plant_dataset(
    source: PlantSource, output: Path, settings: PlantSettings, *, truth: bool = False
) -> Iterator[PlantedScan | Failure]:
    """Write `subset0/ID-planted-SEED-COPY.mhd` and `.raw` for each copy of each scan, then the csv files.

    annotations.csv holds the planted and the known nodules, annotations_excluded.csv the excluded findings, and
    planted.csv only the planted nodules, with the columns kind and place. A scan that fails does not stop the others;
    copies that were written before the failure stay.

    Args:
        source: the scans.
        output: a new or empty folder.
        settings: what to plant.
        truth: also write `truth/ID_nodules.nii.gz` (1 in the first planted nodule of the scan, 2 in the second, ...).

    Yields:
        Each copy after it is written, and one failure per scan that failed.

    Raises:
        InputError: the folder is not empty.
    """
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} holds files already: choose an empty or new folder for output=", "output-refused")
    done = []
    for scan_id in source.scans:
        try:
            for planted in _plant_copies(source, scan_id, output, settings, truth=truth):
                done.append(planted)
                yield planted
        except InputError as error:
            yield Failure.of(scan_id, error)
    if done:
        _write_tables(output, done)


def _plant_copies(
    source: PlantSource, scan_id: str, output: Path, settings: PlantSettings, *, truth: bool
) -> Iterator[PlantedScan]:
    path = source.scans[scan_id]
    known = source.known.get(scan_id, Findings.empty())
    excluded = source.excluded.get(scan_id, Findings.empty())
    scan = read_scan(path, source.reading, scan_id)
    mask = segment_lungs(scan, LungSettings())
    if not mask.found:
        raise InputError(f"{path}: no lungs were found, so nothing can be planted in it", "scan-invalid")
    lungs = resample(mask.mask.astype(np.uint8), mask.grid, scan.grid, linear=False, outside=0) > 0
    for copy in range(settings.copies):
        drawn = settings.draw(scan_id, copy)
        generator = np.random.default_rng([settings.seed, copy, _number(scan_id)])
        planted = plant_nodules(scan, lungs, drawn, generator, Findings.concatenate([known, excluded]))
        new_id = f"{scan_id}-planted-{settings.seed}-{copy}"
        write_scan(output / "subset0", Scan(new_id, planted.scan.hu, scan.grid))
        if truth:
            write_mask(output / TRUTH / f"{new_id}_nodules.nii.gz", planted.labels, scan.grid)
        yield PlantedScan(new_id, planted.nodules, drawn, known, excluded)


def _number(scan_id: str) -> int:
    return zlib.crc32(scan_id.encode())


def _write_tables(output: Path, scans: Sequence[PlantedScan]) -> None:
    with replacing(output / PLANTED) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("seriesuid", *COORDINATES, "diameter_mm", "kind", "place"))
        for scan in scans:
            rows = zip(scan.nodules.centre_xyz_mm.tolist(), scan.drawn, strict=True)
            writer.writerows((scan.scan_id, *xyz, item.diameter_mm, item.kind, item.place) for xyz, item in rows)
    write_scan_ids(output / "seriesuids.csv", [scan.scan_id for scan in scans])
    write_findings(output / "annotations_excluded.csv", _join((scan.scan_id, scan.excluded) for scan in scans))
    every = ((scan.scan_id, Findings.concatenate([scan.nodules, scan.known])) for scan in scans)
    write_findings(output / "annotations.csv", _join(every))


def _join(parts: Iterator[tuple[str, Findings]]) -> Table[Findings]:
    return join_findings(Table(np.full(len(rows), scan_id), rows) for scan_id, rows in parts)
