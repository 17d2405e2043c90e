"""Which scans a cache holds, what was found in them, and how they are parted for training."""

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
    """The scans of a cache with their findings.

    Attributes:
        cache: the cache's folder.
        labels: of all prepared scans, sorted by id; one without nodules is as good as any other.
    """

    cache: Path
    labels: dict[str, Labels]

    @classmethod
    def open(cls, cache: Path) -> Self:
        """Read what is known of the scans of a cache; the volumes are opened only by `entry`.

        Raises:
            InputError: the folder holds no prepared scan, or an entry is damaged.
        """
        cache = Path(cache)
        scan_ids = list_entries(cache)
        if not scan_ids:
            raise InputError(f"{cache} holds no prepared scan; fill it with nodule-prepare")
        return cls(
            cache, {scan_id: Labels.from_dict(read_description(cache, scan_id)["labels"]) for scan_id in scan_ids}
        )

    @property
    def scan_ids(self) -> tuple[str, ...]:
        """Give the ids of all scans, sorted."""
        return tuple(self.labels)

    def subset(self, scan_id: str) -> str:
        """Give the name of the subset that a scan belongs to, "" where it has none."""
        return self._labels(scan_id).subset

    def nodules(self, scan_id: str) -> Findings:
        """Give the nodules of a scan, perhaps none."""
        return self._labels(scan_id).nodules

    def excluded(self, scan_id: str) -> Findings:
        """Give the findings of a scan that count neither for nor against a detector, perhaps none."""
        return self._labels(scan_id).excluded

    def nodule_table(self) -> Table[Findings]:
        """Give the nodules of all scans, as annotations.csv holds them."""
        return _table({scan_id: labels.nodules for scan_id, labels in self.labels.items()})

    def excluded_table(self) -> Table[Findings]:
        """Give the excluded findings of all scans, as annotations_excluded.csv holds them."""
        return _table({scan_id: labels.excluded for scan_id, labels in self.labels.items()})

    def entry(self, scan_id: str) -> Entry:
        """Open the prepared scan."""
        self._labels(scan_id)
        return open_entry(self.cache, scan_id)

    def _labels(self, scan_id: str) -> Labels:
        if scan_id not in self.labels:
            raise InputError(f"{self.cache} holds no scan {scan_id}; prepare it first")
        return self.labels[scan_id]


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of scans that have none in common."""

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
    """Part the scans into training, validation and test.

    Test scans are those of the named subsets. Validation, which chooses the checkpoint, is drawn from the others,
    by the same fraction from the scans with nodules and from those without. The same seed gives the same split.

    Scans of unannotated subsets, which may be absent, would pass for scans without nodules: they are in none of the
    sets, unless they are named as test subsets.

    Raises:
        InputError: a subset that no scan belongs to, a fraction outside [0, 1), or nothing left to train on.
    """
    wanted = {str(name) for name in test_subsets}
    if unknown := sorted(wanted - (subsets := {labels.subset for labels in catalog.labels.values()})):
        known = ", ".join(name or "(none)" for name in sorted(subsets))
        raise InputError(
            f"{catalog.cache} has no subset {', '.join(unknown)}; it has: {known}; train with the data= that it was "
            "prepared with, or name its test scans with data.test_subsets=[...], [] for no test scans"
        )
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction must lie in [0, 1), not {validation_fraction}")
    test = tuple(scan_id for scan_id in catalog.scan_ids if catalog.subset(scan_id) in wanted)
    unannotated = {str(name) for name in unannotated_subsets}
    others = sorted(
        scan_id for scan_id in set(catalog.scan_ids) - set(test) if catalog.subset(scan_id) not in unannotated
    )
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


def _table(findings: dict[str, Findings]) -> Table[Findings]:
    owner = np.repeat(np.array(list(findings), dtype=np.str_), [len(found) for found in findings.values()])
    return Table(owner, Findings.concatenate(findings.values()))
