"""Nodules by the agreement of LIDC-IDRI's readers, merged as LUNA16 merged them.

LUNA16's two tables are reproduced to the order of their rows: a mark of a nodule is averaged with that of a later
reader which is closer than the sum of their radii and which was averaged before with those of readers later still. So
the earliest reader weighs a half, and the average of the later readers stays as a row of the excluded findings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from nodule_lightning.geometry import Grid
from nodule_lightning.io.lidc_xml import Mark, Readings
from nodule_lightning.preparation.outlines import check_slices, enclosed, slice_of
from nodule_lightning.structures import Findings

NODULE, SMALL, NON_NODULE = "nodule", "nodule below 3 mm", "non-nodule"
RATINGS: Final = ("malignancy", "texture")


@dataclass(frozen=True, slots=True)
class AgreedFinding:
    """One mark, or the average of several readers' marks of one nodule.

    Attributes:
        kind: `NODULE` if it has an outline, else `SMALL` or `NON_NODULE`.
        centre_xyz_mm: its centre in the world.
        diameter_mm: of the sphere of equal volume; -1 without an outline.
        marks: the marks that it averages.
    """

    kind: str
    centre_xyz_mm: Float64[np.ndarray, "3"]
    diameter_mm: float
    marks: tuple[Mark, ...]

    @property
    def readers(self) -> frozenset[int]:
        """The readers whose marks it averages."""
        return frozenset(mark.reader for mark in self.marks)

    def columns(self) -> dict[str, Any]:
        """Return what the tables hold beside its place: kind, number of readers, and the mean of each rating."""
        rated = {name: [mark.ratings[name] for mark in self.marks if name in mark.ratings] for name in RATINGS}
        means = {name: round(float(np.mean(values)), 3) if values else None for name, values in rated.items()}
        return {"kind": self.kind, "readers": len(self.readers), **means}


def agree(
    readings: Readings, grid: Grid, least_readers: int
) -> tuple[tuple[AgreedFinding, ...], tuple[AgreedFinding, ...]]:
    """Merge the readers' marks into nodules and excluded findings.

    Args:
        readings: the marks of one scan.
        grid: of the scan.
        least_readers: number of readers who must have outlined a nodule.

    Returns:
        The nodules; and all other findings: of fewer readers, below 3 mm, non-nodules, and the averages of later
        readers, which LUNA16 lists beside the nodule itself.

    Raises:
        InputError: the scan is not the one that was marked, see `check_slices`.
    """
    check_slices(readings, grid)
    found = [_place(mark, grid) for mark in readings.marks]
    taken: set[int] = set()
    for place in reversed(range(len(found))):
        while (other := _nearest(found, place, taken)) is not None:
            found[place] = _average(found[place], found[other])
            taken.add(other)
    is_nodule = [
        finding.kind == NODULE and place not in taken and len(finding.readers) >= least_readers
        for place, finding in enumerate(found)
    ]
    nodules, excluded = (
        tuple(finding for finding, chosen in zip(found, is_nodule, strict=True) if chosen == wanted)
        for wanted in (True, False)
    )
    return nodules, excluded


def to_findings(agreed: Sequence[AgreedFinding]) -> Findings:
    """Return the places and diameters alone."""
    return Findings(
        np.array([finding.centre_xyz_mm for finding in agreed]).reshape(-1, 3),
        np.array([finding.diameter_mm for finding in agreed], dtype=np.float64),
    )


def _place(mark: Mark, grid: Grid) -> AgreedFinding:
    voxels = enclosed(mark.contours, grid).astype(np.float64) if mark.is_nodule else np.zeros((0, 3))
    if len(voxels):
        volume_mm3 = len(voxels) * float(np.prod(grid.spacing_zyx_mm))
        centre, diameter_mm = voxels.mean(axis=0), float(np.cbrt(6 * volume_mm3 / np.pi))
        return AgreedFinding(NODULE, grid.to_world(centre[None])[0], diameter_mm, (mark,))
    points = np.concatenate([_points(mark, grid)])
    kind = SMALL if mark.is_nodule else NON_NODULE
    return AgreedFinding(kind, grid.to_world(points.mean(axis=0)[None])[0], -1.0, (mark,))


def _points(mark: Mark, grid: Grid) -> Float64[np.ndarray, "n 3"]:
    depths = [np.repeat(slice_of(np.array([contour.z_mm]), grid), len(contour.xy)) for contour in mark.contours]
    xy = np.concatenate([contour.xy for contour in mark.contours])
    return np.column_stack([np.concatenate(depths), xy[:, ::-1]]).astype(np.float64)


def _nearest(found: Sequence[AgreedFinding], place: int, taken: Iterable[int]) -> int | None:
    """Return the nearest mark of other, later readers that is closer than the sum of the radii."""
    own = found[place]
    if own.kind != NODULE:
        return None
    near = []
    for other in sorted(set(range(place + 1, len(found))).difference(taken)):
        finding = found[other]
        if finding.kind != NODULE or finding.readers & own.readers:
            continue
        distance_mm = float(np.linalg.norm(finding.centre_xyz_mm - own.centre_xyz_mm))
        if distance_mm < (finding.diameter_mm + own.diameter_mm) / 2:
            near.append((distance_mm, other))
    return min(near)[1] if near else None


def _average(one: AgreedFinding, other: AgreedFinding) -> AgreedFinding:
    return AgreedFinding(
        NODULE,
        (one.centre_xyz_mm + other.centre_xyz_mm) / 2,
        (one.diameter_mm + other.diameter_mm) / 2,
        one.marks + other.marks,
    )
