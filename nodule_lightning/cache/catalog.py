"""The scans of a cache with their labels, and the split into training, validation and test sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from nodule_lightning.cache.entries import list_entries, open_entry, read_description
from nodule_lightning.errors import InputError
from nodule_lightning.structures import Entry, Findings, Labels, Table


@dataclass(frozen=True, slots=True)
class Catalog:
    """The scans of a cache with their labels.

    Attributes:
        cache: the cache's folder.
        labels: the labels of every prepared scan, sorted by id. Scans without nodules are included.
    """

    cache: Path
    labels: dict[str, Labels]

    @classmethod
    def open(cls, cache: Path) -> Self:
        """Read the labels of all scans in a cache. Volumes are not opened; see `entry`.

        Raises:
            InputError: the folder holds no prepared scan, or an entry is damaged.
        """
        cache = Path(cache)
        scan_ids = list_entries(cache)
        if not scan_ids:
            raise InputError(f"{cache} holds no prepared scan; fill it with nodule-prepare", "cache-empty")
        return cls(
            cache, {scan_id: Labels.from_dict(read_description(cache, scan_id)["labels"]) for scan_id in scan_ids}
        )

    @property
    def scan_ids(self) -> tuple[str, ...]:
        """The ids of all scans, sorted."""
        return tuple(self.labels)

    def subset(self, scan_id: str) -> str:
        """Return the name of the subset that a scan belongs to, "" if it has none."""
        return self._labels(scan_id).subset

    def nodules(self, scan_id: str) -> Findings:
        """Return the nodules of a scan; may be empty."""
        return self._labels(scan_id).nodules

    def excluded(self, scan_id: str) -> Findings:
        """Return the excluded findings of a scan, neither true nor false positives; may be empty."""
        return self._labels(scan_id).excluded

    def nodule_table(self) -> Table[Findings]:
        """Collect the nodules of all scans in one table, as in annotations.csv."""
        return _table({scan_id: labels.nodules for scan_id, labels in self.labels.items()})

    def excluded_table(self) -> Table[Findings]:
        """Collect the excluded findings of all scans in one table, as in annotations_excluded.csv."""
        return _table({scan_id: labels.excluded for scan_id, labels in self.labels.items()})

    def entry(self, scan_id: str) -> Entry:
        """Open a prepared scan; its volumes are memory-mapped.

        Raises:
            InputError: the cache does not hold the scan, or its entry is damaged.
        """
        self._labels(scan_id)
        return open_entry(self.cache, scan_id)

    def _labels(self, scan_id: str) -> Labels:
        if scan_id not in self.labels:
            raise InputError(f"{self.cache} holds no scan {scan_id}; prepare it first", "scan-unknown")
        return self.labels[scan_id]


@dataclass(frozen=True, slots=True)
class Split:
    """Three disjoint sets of scan ids."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_scans(
    catalog: Catalog,
    test_subsets: Sequence[str | int],
    validation_fraction: float,
    seed: int,
    unannotated_subsets: Sequence[str | int] = (),
) -> Split:
    """Split the scans into training, validation and test sets.

    The test set is the named subsets. The validation set, which selects the checkpoint, is drawn from the remaining
    scans, stratified by whether a scan has nodules. The same seed gives the same split.

    Scans of unannotated subsets would be mistaken for scans without nodules. They are left out of all three sets,
    unless their subset is named as a test subset.

    Args:
        catalog: the scans.
        test_subsets: names of the test subsets; each must have at least one scan.
        validation_fraction: share of the remaining scans, in [0, 1), that goes to validation.
        seed: seed of the draw.
        unannotated_subsets: names of subsets without annotations; a name that no scan has is ignored.

    Raises:
        InputError: a test subset has no scan, the fraction is outside [0, 1), or no scan is left to train on.
    """
    wanted = {str(name) for name in test_subsets}
    if unknown := sorted(wanted - (subsets := {labels.subset for labels in catalog.labels.values()})):
        known = ", ".join(name or "(none)" for name in sorted(subsets))
        raise InputError(
            f"{catalog.cache} has no subset {', '.join(unknown)}; it has: {known}; train with the data= that it was "
            "prepared with, or name its test scans with data.test_subsets=[...], [] for no test scans",
            "split-invalid",
        )
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction must be in [0, 1), not {validation_fraction}", "argument-invalid")
    test = tuple(scan_id for scan_id in catalog.scan_ids if catalog.subset(scan_id) in wanted)
    unannotated = {str(name) for name in unannotated_subsets}
    others = sorted(
        scan_id for scan_id in set(catalog.scan_ids) - set(test) if catalog.subset(scan_id) not in unannotated
    )
    rng = np.random.default_rng(seed)
    validation: set[str] = set()
    for has_nodules in (True, False):
        stratum = [scan_id for scan_id in others if (len(catalog.nodules(scan_id)) > 0) == has_nodules]
        validation.update(rng.permutation(stratum)[: _share(len(stratum), validation_fraction)].tolist())
    train = tuple(scan_id for scan_id in others if scan_id not in validation)
    if not train:
        raise InputError(f"{catalog.cache}: no scan is left to train on; name fewer test subsets", "split-invalid")
    return Split(train, tuple(sorted(validation)), test)


def _share(count: int, fraction: float) -> int:
    """Round `count * fraction`, but keep at least one scan on either side if there are two or more."""
    if fraction == 0 or count < 2:
        return 0
    return min(max(round(count * fraction), 1), count - 1)


def _table(findings: dict[str, Findings]) -> Table[Findings]:
    owner = np.repeat(np.array(list(findings), dtype=np.str_), [len(found) for found in findings.values()])
    return Table(owner, Findings.concatenate(findings.values()))
