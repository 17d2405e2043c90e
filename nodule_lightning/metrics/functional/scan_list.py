"""List of the scans that count, and lookup of table rows in it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Self

import numpy as np
from jaxtyping import Int64, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.structures import RowsT, Table


@dataclass(frozen=True, slots=True)
class Located(Generic[RowsT]):
    """Table with the position of each row's scan.

    Attributes:
        table: as it was read.
        position: of each row's scan in the list; -1 if it is not listed.
    """

    table: Table[RowsT]
    position: Int64[np.ndarray, "n"]

    def listed(self) -> Table[RowsT]:
        """Keep the rows of listed scans, sorted by scan, with positions in place of ids."""
        order = np.argsort(self.position, kind="stable")
        inside = order[np.searchsorted(self.position[order], 0) :]
        return Table(self.position[inside], self.table.rows[inside])

    def unlisted_ids(self) -> list[Hashable]:
        """Return the scan id of each row whose scan is not listed."""
        ids: list[Hashable] = self.table.scan_id[self.position < 0].tolist()
        return ids


@dataclass(frozen=True, slots=True)
class ScanList:
    """Positions of the scans in the sorted list.

    Attributes:
        position: of each scan id.
    """

    position: dict[Hashable, int]

    @classmethod
    def of(cls, scan_ids: Sequence[Hashable]) -> Self:
        """Number the scans in the order of their ids, so that the order of the list does not matter.

        Raises:
            InputError: a scan id is listed twice.
        """
        ids = sorted(scan_ids, key=str)
        for first, second in pairwise(ids):
            if first == second:
                raise InputError(f"scan {first} is listed twice in the list of scans; keep one row", "scan-repeated")
        return cls({scan_id: position for position, scan_id in enumerate(ids)})

    def __len__(self) -> int:
        return len(self.position)

    def ids(self) -> Shaped[np.ndarray, "scan"]:
        """Return the scan ids, each at its position."""
        return np.array(list(self.position))

    def locate(self, table: Table[RowsT]) -> Located[RowsT]:
        """Look up the position of each row's scan."""
        ids, number = table.numbered()
        places = np.array([self.position.get(scan_id, -1) for scan_id in ids], dtype=np.int64)
        return Located(table, places[number])
