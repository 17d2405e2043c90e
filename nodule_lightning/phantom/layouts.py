"""File layouts of phantom data sets: LUNA16's and Tianchi's."""

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
        folder: its folder, relative to the data set.
        trouble: its kind of trouble, "" for none.
        nodules: its nodules.
        excluded: its excluded findings.
    """

    scan_id: str
    folder: str
    trouble: str
    nodules: Findings
    excluded: Findings


@runtime_checkable
class Layout(Protocol):
    """Scan ids, folders and csv files of a data set."""

    def scan_id(self, seed: int, index: int, trouble: str) -> str:
        """Return the id of scan `index` of its kind.

        Raises:
            InputError: the layout does not have so many ids.
        """
        ...

    def folder(self, index: int) -> str:
        """Return the folder of scan `index` of its kind, relative to the data set."""
        ...

    def csv_files(self) -> list[str]:
        """List the csv files, relative to the data set."""
        ...

    def write_tables(self, output: Path, scans: Sequence[Written]) -> None:
        """Write the csv files of all scans."""
        ...


class Luna16Layout:
    """LUNA16: `subset0` to `subset9`, with annotations.csv, annotations_excluded.csv and seriesuids.csv beside them."""

    subsets = 10

    def scan_id(self, seed: int, index: int, trouble: str) -> str:
        """Return an id made of seed, trouble and index."""
        return phantom_id(seed, index, trouble)

    def folder(self, index: int) -> str:
        """Distribute the scans over the ten subsets in turn."""
        return f"subset{index % self.subsets}"

    def csv_files(self) -> list[str]:
        """List the three csv files."""
        return ["annotations.csv", "annotations_excluded.csv", "seriesuids.csv"]

    def write_tables(self, output: Path, scans: Sequence[Written]) -> None:
        """Write the nodules, the excluded findings and the scan ids."""
        nodules, excluded, ids = (output / name for name in self.csv_files())
        write_findings(excluded, _table([(scan.scan_id, scan.excluded) for scan in scans]))
        write_scan_ids(ids, [scan.scan_id for scan in scans])
        write_findings(nodules, _table([(scan.scan_id, scan.nodules) for scan in scans]))


class TianchiLayout:
    """Tianchi: `train`, `val` and `test` with ids like LKDS-00001, and csv/train/annotations.csv etc.

    There is no excluded list. Of ten scans, six are for training, two for validation and two for the test, as in the
    challenge.
    """

    ids_per_kind = 10000
    subsets = ("train", "train", "train", "val", "test", "train", "train", "train", "val", "test")

    def scan_id(self, seed: int, index: int, trouble: str) -> str:
        """Number the scans from 1, and those of the n-th kind of trouble from n * 10000 + 1.

        Raises:
            InputError: the number would belong to the next kind of trouble.
        """
        if index + 1 >= self.ids_per_kind:
            raise InputError(
                f"layout=tianchi has ids for {self.ids_per_kind - 1} scans per kind: ask for fewer, "
                "or use layout=luna16",
                "argument-invalid",
            )
        kind = TROUBLES.index(trouble) + 1 if trouble else 0
        return f"LKDS-{kind * self.ids_per_kind + index + 1:05d}"

    def folder(self, index: int) -> str:
        """Distribute the scans so that a few are enough to fill all three folders."""
        return self.subsets[index % len(self.subsets)]

    def csv_files(self) -> list[str]:
        """List one csv file per folder."""
        return [f"csv/{subset}/annotations.csv" for subset in dict.fromkeys(self.subsets)]

    def write_tables(self, output: Path, scans: Sequence[Written]) -> None:
        """Write the nodules of each folder."""
        for subset in dict.fromkeys(self.subsets):
            rows = [(scan.scan_id, scan.nodules) for scan in scans if scan.folder == subset]
            write_findings(output / f"csv/{subset}/annotations.csv", _table(rows))


def layout_named(name: str) -> Layout:
    """Return the layout of a name.

    Raises:
        InputError: there is none of that name.
    """
    layouts: dict[str, Layout] = {"luna16": Luna16Layout(), "tianchi": TianchiLayout()}
    if name not in layouts:
        raise InputError(f"layout must be luna16 or tianchi, not {name!r}", "argument-invalid")
    return layouts[name]


def _table(parts: Sequence[tuple[str, Findings]]) -> Table[Findings]:
    ids = np.array([scan_id for scan_id, rows in parts for _ in range(len(rows))], dtype=np.str_)
    return Table(ids, Findings.concatenate(rows for _, rows in parts))
