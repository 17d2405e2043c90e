"""Where the files of a phantom data set lie: as LUNA16's or as Tianchi's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import write_findings, write_scan_ids
from nodule_lightning.phantom.trouble import TROUBLES, phantom_id
from nodule_lightning.structures import Findings, Table


@dataclass(frozen=True, slots=True)
class Written:
    """One scan on disk.

    Attributes:
        scan_id: its `seriesuid`.
        folder: where it lies, inside the data set.
        trouble: what is wrong with it, "" for nothing.
        nodules: the nodules to be found in it.
        excluded: what was listed as no nodule.
    """

    scan_id: str
    folder: str
    trouble: str
    nodules: Findings
    excluded: Findings


@runtime_checkable
class Layout(Protocol):
    """Names the scans of a data set, and writes its csv files."""

    def scan_id(self, seed: int, index: int, trouble: str) -> str:
        """Name scan `index` of its kind.

        Raises:
            InputError: the layout has no id for so many scans.
        """
        ...

    def folder(self, index: int) -> str:
        """Give the folder that scan `index` of its kind lies in."""
        ...

    def csv_files(self) -> list[str]:
        """List the csv files, inside the data set."""
        ...

    def write_tables(self, output: Path, scans: Sequence[Written]) -> None:
        """Write the csv files of all scans."""
        ...


class Luna16Layout:
    """`subset0` to `subset9`, with annotations.csv, annotations_excluded.csv and seriesuids.csv beside them."""

    subsets = 10

    def scan_id(self, seed: int, index: int, trouble: str) -> str:
        """Name a scan by its seed, trouble and number."""
        return phantom_id(seed, index, trouble)

    def folder(self, index: int) -> str:
        """Deal the scans out to the ten subsets."""
        return f"subset{index % self.subsets}"

    def csv_files(self) -> list[str]:
        """List the three csv files."""
        return ["annotations.csv", "annotations_excluded.csv", "seriesuids.csv"]

    def write_tables(self, output: Path, scans: Sequence[Written]) -> None:
        """Write the nodules, what is listed as none, and the ids."""
        nodules, excluded, ids = (output / name for name in self.csv_files())
        write_findings(excluded, _table([(scan.scan_id, scan.excluded) for scan in scans]))
        write_scan_ids(ids, [scan.scan_id for scan in scans])
        write_findings(nodules, _table([(scan.scan_id, scan.nodules) for scan in scans]))


class TianchiLayout:
    """`train`, `val` and `test` with ids like LKDS-00001, and csv/train/annotations.csv and so on; no excluded list.

    Of ten scans six are for training, two for validation and two for the test, as in the challenge.
    """

    ids_a_kind = 10000
    subsets = ("train", "train", "train", "val", "test", "train", "train", "train", "val", "test")

    def scan_id(self, seed: int, index: int, trouble: str) -> str:
        """Number the scans from 1, and those of the n-th trouble from n times 10000.

        Raises:
            InputError: the number would be that of a scan of the next trouble.
        """
        if index + 1 >= self.ids_a_kind:
            raise InputError(
                f"layout=tianchi has ids for {self.ids_a_kind - 1} scans of a kind: ask for fewer, or for layout=luna16"
            )
        kind = TROUBLES.index(trouble) + 1 if trouble else 0
        return f"LKDS-{kind * self.ids_a_kind + index + 1:05d}"

    def folder(self, index: int) -> str:
        """Deal the scans out, so that a few already fill all three folders."""
        return self.subsets[index % len(self.subsets)]

    def csv_files(self) -> list[str]:
        """List the csv file of each of the three folders."""
        return [f"csv/{subset}/annotations.csv" for subset in dict.fromkeys(self.subsets)]

    def write_tables(self, output: Path, scans: Sequence[Written]) -> None:
        """Write the nodules of each of the three folders."""
        for subset in dict.fromkeys(self.subsets):
            rows = [(scan.scan_id, scan.nodules) for scan in scans if scan.folder == subset]
            write_findings(output / f"csv/{subset}/annotations.csv", _table(rows))


def layout_named(name: str) -> Layout:
    """Find a layout.

    Raises:
        InputError: there is none of that name.
    """
    layouts: dict[str, Layout] = {"luna16": Luna16Layout(), "tianchi": TianchiLayout()}
    if name not in layouts:
        raise InputError(f"layout must be luna16 or tianchi, not {name!r}")
    return layouts[name]


def _table(parts: Sequence[tuple[str, Findings]]) -> Table[Findings]:
    ids = np.array([scan_id for scan_id, rows in parts for _ in range(len(rows))], dtype=np.str_)
    return Table(ids, Findings.concatenate(rows for _, rows in parts))
