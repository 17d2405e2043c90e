"""Galleries of a report, cut from the cache: best candidates, missed nodules and false positives."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from jaxtyping import Float64, Int64

from nodule_lightning.boxes import check_nodules
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.report.gallery_section import Case, Gallery
from nodule_lightning.report.pictures import TILE_MM, MarkOutcome, Tile, cut_tiles, mark_outcomes
from nodule_lightning.report.planes import draw_planes, to_jpeg
from nodule_lightning.structures import Candidates, Entry, Findings, Table

PLANES: Final = f"Axial, coronal and sagittal plane, {TILE_MM:.0f} mm wide, in radiological orientation."


def best_tiles(catalog: Catalog, marks: Table[Candidates], most: int) -> list[Tile]:
    """Cut the tiles of the most probable candidates of all scans.

    Args:
        catalog: of the cache.
        marks: of scans that the cache holds.
        most: maximum number of tiles.
    """
    chosen = np.argsort(-marks.rows.probability, kind="stable")[:most]
    tiles: dict[int, Tile] = {}
    for scan_id in dict.fromkeys(marks.scan_id[chosen].tolist()):
        rows = np.flatnonzero(marks.scan_id == scan_id)
        view = _View.of(catalog, marks, scan_id)
        shown = np.flatnonzero(np.isin(rows, chosen))
        outcomes = [view.outcomes[row] for row in shown.tolist()]
        cut = cut_tiles(view.entry.ct, view.entry.grid, view.marks[shown], outcomes, scan_id)
        tiles.update(zip(rows[shown].tolist(), cut, strict=True))
    return [tiles[row] for row in chosen.tolist()]


def misses_gallery(catalog: Catalog, marks: Table[Candidates], misses: Table[Findings], most: int) -> Gallery:
    """Draw missed nodules, each with the nearest mark of its scan.

    Args:
        catalog: of the cache.
        marks: of all scans.
        misses: all missed nodules in display order, in scans that the cache holds.
        most: maximum number of pictures.
    """
    shown = misses[:most]
    number = f"All {len(misses)}" if len(shown) == len(misses) else f"{len(shown)} of {len(misses)}"
    caption = f"{number} nodules without a mark inside, the largest first. {PLANES}"
    if not len(misses):
        caption = "No nodule is without a mark inside."
    cases = [
        _miss(_View.of(catalog, marks, scan_id), shown.rows[row : row + 1])
        for row, scan_id in enumerate(shown.scan_id.tolist())
    ]
    return Gallery("Missed nodules", caption, cases)


def false_positives_gallery(
    catalog: Catalog, marks: Table[Candidates], false_positives: Table[Candidates], most: int
) -> Gallery:
    """Draw false positives, each with the findings near it.

    Args:
        catalog: of the cache.
        marks: of all scans.
        false_positives: in display order, in scans that the cache holds.
        most: maximum number of pictures.
    """
    caption = f"Marks inside no finding, the most probable first. {PLANES}"
    if not len(false_positives):
        caption = "No mark is a false positive."
    shown = false_positives[:most]
    cases = [
        _false_positive(_View.of(catalog, marks, scan_id), shown.rows[row : row + 1])
        for row, scan_id in enumerate(shown.scan_id.tolist())
    ]
    return Gallery("Highest false positives", caption, cases)


@dataclass(frozen=True, slots=True)
class _View:
    """A scan with its findings, marks and their outcomes."""

    entry: Entry
    nodules: Findings
    excluded: Findings
    marks: Candidates
    outcomes: list[MarkOutcome]

    @classmethod
    def of(cls, catalog: Catalog, marks: Table[Candidates], scan_id: str) -> Self:
        nodules, excluded = catalog.nodules(scan_id), catalog.excluded(scan_id)
        own = marks.rows[marks.scan_id == scan_id]
        return cls(catalog.entry(scan_id), nodules, excluded, own, mark_outcomes(own, nodules, excluded))

    def case(
        self,
        title: str,
        words: tuple[str, ...],
        centre_xyz_mm: Float64[np.ndarray, "3"],
        marks: Candidates,
        outcomes: list[MarkOutcome],
    ) -> Case:
        entry = self.entry
        picture = draw_planes(entry.ct, entry.grid, centre_xyz_mm, self.nodules, self.excluded, marks, outcomes)
        return Case(title, (entry.scan_id, self.place(centre_xyz_mm), *words), to_jpeg(picture))

    def place(self, centre_xyz_mm: Float64[np.ndarray, "3"]) -> str:
        slices = self.entry.original_grid.shape[0]
        index = int(np.rint(self.entry.original_grid.to_index(centre_xyz_mm[None])[0, 0]))
        coordinates = ", ".join(f"{value:.1f}" for value in centre_xyz_mm)
        return f"slice {min(max(index, 0), slices - 1) + 1} of {slices}, ({coordinates}) mm"


def _miss(view: _View, nodule: Findings) -> Case:
    centre, entry = nodule.centre_xyz_mm[0], view.entry
    nearest, distances = _nearest(view.marks.centre_xyz_mm, centre)
    words = ["no mark in this scan"]
    for row in nearest.tolist():
        outcome = "on an excluded finding" if view.outcomes[row] == MarkOutcome.IGNORED else view.outcomes[row]
        words = [f"nearest mark {distances[row]:.1f} mm away: p = {view.marks.probability[row]:.3f}, {outcome}"]
    kept = check_nodules(nodule, entry.grid, entry.lung)
    if not kept["in_crop"]:
        words.append("outside the lung crop")
    elif not kept["in_mask"]:
        words.append("outside the lung mask, where there are no candidates")
    outcomes = [view.outcomes[row] for row in nearest.tolist()]
    return view.case(f"{nodule.diameter_mm[0]:.1f} mm", tuple(words), centre, view.marks[nearest], outcomes)


def _false_positive(view: _View, mark: Candidates) -> Case:
    centre = mark.centre_xyz_mm[0]
    findings = Findings.concatenate([view.nodules, view.excluded])
    nearest, distances = _nearest(findings.centre_xyz_mm, centre)
    words = ["no finding in this scan"]
    for row in nearest.tolist():
        kind = "nodule" if row < len(view.nodules) else "excluded finding"
        diameter_mm = findings.diameter_mm[row]
        size = f" of {diameter_mm:.1f} mm" if diameter_mm > 0 else ""
        words = [f"nearest finding {distances[row]:.1f} mm away: {kind}{size}"]
    size = f", {mark.diameter_mm[0]:.1f} mm" if mark.diameter_mm[0] > 0 else ""
    title = f"p = {mark.probability[0]:.3f}{size}"
    return view.case(title, tuple(words), centre, mark, [MarkOutcome.FALSE_POSITIVE])


def _nearest(
    places_xyz_mm: Float64[np.ndarray, "n 3"], centre_xyz_mm: Float64[np.ndarray, "3"]
) -> tuple[Int64[np.ndarray, "nearest"], Float64[np.ndarray, "n"]]:
    """Find the row of the nearest place, as an array that is empty without places; also return all distances."""
    distances = np.linalg.norm(places_xyz_mm - centre_xyz_mm, axis=1)
    return np.argsort(distances, kind="stable")[:1], distances
