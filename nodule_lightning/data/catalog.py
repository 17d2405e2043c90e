"""Which scans a cache holds, what was found in them, and how they are parted for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from nodule_lightning.data.cache import ANNOTATIONS, EXCLUDED, SCANS, Entry, list_entries, open_entry
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import read_findings, read_subsets
from nodule_lightning.structures import Findings


@dataclass(frozen=True, slots=True)
class Catalog:
    """The scans of a cache with their findings.

    Attributes:
        cache: the cache's folder.
        scan_ids: all prepared scans, sorted; one without nodules is as good as any other.
        subset: the name of the subset each scan belongs to, "" where it has none.
        nodules_by_scan: the nodules of each scan that has some.
        excluded_by_scan: likewise the findings that count neither for nor against.
    """

    cache: Path
    scan_ids: tuple[str, ...]
    subset: dict[str, str]
    nodules_by_scan: dict[str, Findings]
    excluded_by_scan: dict[str, Findings]

    @classmethod
    def open(cls, cache: Path) -> Self:
        """Read the tables of a cache; the volumes are opened only by `entry`.

        Raises:
            InputError: the folder holds no prepared scan, or a table is missing or damaged.
        """
        cache = Path(cache)
        scan_ids = tuple(list_entries(cache))
        if not scan_ids:
            raise InputError(f"{cache} holds no prepared scan; fill it with nodule-prepare")
        subset = read_subsets(cache / SCANS)
        nodules = read_findings(cache / ANNOTATIONS).by_scan()
        excluded = read_findings(cache / EXCLUDED).by_scan()
        return cls(cache, scan_ids, {scan_id: subset.get(scan_id, "") for scan_id in scan_ids}, nodules, excluded)

    def nodules(self, scan_id: str) -> Findings:
        """Give the nodules of a scan, perhaps none."""
        return self.nodules_by_scan.get(self._known(scan_id), Findings.empty())

    def excluded(self, scan_id: str) -> Findings:
        """Give the findings of a scan that count neither for nor against a detector, perhaps none."""
        return self.excluded_by_scan.get(self._known(scan_id), Findings.empty())

    def entry(self, scan_id: str) -> Entry:
        """Open the prepared scan."""
        return open_entry(self.cache, self._known(scan_id))

    def _known(self, scan_id: str) -> str:
        if scan_id not in self.subset:
            raise InputError(f"{self.cache} holds no scan {scan_id}; prepare it first")
        return scan_id


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of scans that have none in common."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_scans(catalog: Catalog, test_subsets: Sequence[str], validation_fraction: float, seed: int) -> Split:
    """Part the scans into training, validation and test.

    Test scans are those of the named subsets. Validation, which chooses the checkpoint, is drawn from the others,
    by the same fraction from the scans with nodules and from those without. The same seed gives the same split.

    Raises:
        InputError: a subset that no scan belongs to, a fraction outside [0, 1), or nothing left to train on.
    """
    wanted = {str(name) for name in test_subsets}
    if unknown := sorted(wanted - set(catalog.subset.values())):
        known = ", ".join(sorted(set(catalog.subset.values())))
        raise InputError(f"{catalog.cache} has no subset {', '.join(unknown)}; it has: {known}")
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction must lie in [0, 1), not {validation_fraction}")
    test = tuple(scan_id for scan_id in catalog.scan_ids if catalog.subset[scan_id] in wanted)
    others = sorted(set(catalog.scan_ids) - set(test))
    rng = np.random.default_rng(seed)
    validation: set[str] = set()
    for has_nodules in (True, False):
        layer = [scan_id for scan_id in others if (len(catalog.nodules(scan_id)) > 0) == has_nodules]
        validation.update(rng.permutation(layer)[: _share(len(layer), validation_fraction)].tolist())
    train = tuple(scan_id for scan_id in others if scan_id not in validation)
    if not train:
        raise InputError(f"{catalog.cache}: no scan is left to train on; name fewer test subsets")
    return Split(train, tuple(sorted(validation)), test)


def _share(count: int, fraction: float) -> int:
    """Round the fraction, but leave at least one on either side where both are wanted and there are two."""
    if fraction == 0 or count < 2:
        return 0
    return min(max(round(count * fraction), 1), count - 1)
