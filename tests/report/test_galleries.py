"""The galleries of a report: selection, order and captions."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.metrics.functional import FrocResult, froc
from nodule_lightning.report.galleries import best_tiles, false_positives_gallery, misses_gallery
from nodule_lightning.report.pictures import MarkOutcome
from nodule_lightning.structures import Candidates, Findings, Labels, Table
from tests.balls import ORIGIN_XYZ_MM, ball_entry
from tests.metrics.cases import no_findings, no_marks

SHAPE = (40, 44, 52)


def world(*indices_zyx: tuple[float, float, float]) -> np.ndarray:
    return np.array(indices_zyx, dtype=np.float64).reshape(-1, 3)[:, ::-1] + ORIGIN_XYZ_MM


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Write three scans: with nodules in, out of the mask, out of the crop; with excluded findings; with nothing."""
    cache = tmp_path_factory.mktemp("cache")
    entry, _ = ball_entry("a", [(20, 20, 20, 8.0)], SHAPE)
    nodules = Findings(world((20, 20, 20), (2, 20, 20), (20, 20, 90)), np.array([8.0, 6.0, 10.0]))
    write_entry(cache, replace(entry, labels=Labels("", nodules)))
    excluded = Findings(world((20, 20, 20), (20, 20, 40)), np.array([5.0, -1.0]))
    write_entry(cache, replace(ball_entry("b", [], SHAPE)[0], labels=Labels("", excluded=excluded)))
    write_entry(cache, replace(ball_entry("c", [], SHAPE)[0], labels=Labels()))
    return Catalog.open(cache)


def marks(*rows: tuple[str, tuple[float, float, float], float], diameter: float = -1.0) -> Table[Candidates]:
    if not rows:
        return no_marks()
    centres = world(*[place for _, place, _ in rows])
    probability = np.array([probability for _, _, probability in rows])
    return Table(
        np.array([scan for scan, _, _ in rows]), Candidates(centres, probability, np.full(len(rows), diameter))
    )


def scored(catalog: Catalog, table: Table[Candidates]) -> FrocResult:
    return froc(table, catalog.nodule_table(), catalog.excluded_table(), catalog.scan_ids, bootstraps=0)


def test_misses_are_described_with_their_nearest_mark(catalog: Catalog) -> None:
    table = marks(("a", (20, 20, 26), 0.25), ("a", (20, 20, 40), 0.75), ("b", (20, 20, 20), 0.5))
    gallery = misses_gallery(catalog, table, scored(catalog, table).misses.nodules, 10)
    assert gallery.caption.startswith("All 3 nodules without a mark inside, the largest first.")
    assert [case.title for case in gallery.cases] == ["10.0 mm", "8.0 mm", "6.0 mm"]
    assert [case.lines for case in gallery.cases] == [
        (
            "a",
            "slice 21 of 40, (40.0, 40.0, 320.0) mm",
            "nearest mark 50.0 mm away: p = 0.750, false positive",
            "outside the lung crop",
        ),
        ("a", "slice 21 of 40, (-30.0, 40.0, 320.0) mm", "nearest mark 6.0 mm away: p = 0.250, false positive"),
        (
            "a",
            "slice 3 of 40, (-30.0, 40.0, 302.0) mm",
            "nearest mark 19.0 mm away: p = 0.250, false positive",
            "outside the lung mask, where there are no candidates",
        ),
    ]
    pictures = [np.asarray(Image.open(BytesIO(case.jpeg))).astype(int) for case in gallery.cases]
    assert (np.abs(pictures[0][:, :80] - 170) < 12).all()
    assert pictures[1][112, 112].min() > 150


def test_the_nearest_mark_is_drawn_and_its_outcome_named(catalog: Catalog) -> None:
    place = Findings(world((20, 20, 30)), np.array([4.0]))
    for row, words in (
        (("b", (20, 20, 38), 0.5), "nearest mark 8.0 mm away: p = 0.500, on an excluded finding"),
        (("c", (20, 20, 38), 0.5), "nearest mark 8.0 mm away: p = 0.500, false positive"),
    ):
        table = marks(row)
        (case,) = misses_gallery(catalog, table, Table(table.scan_id, place), 1).cases
        assert case.lines[2] == words
        (bare,) = misses_gallery(catalog, no_marks(), Table(table.scan_id, place), 1).cases
        assert bare.lines[2] == "no mark in this scan"
        shown, without = (np.asarray(Image.open(BytesIO(each.jpeg))).astype(int) for each in (case, bare))
        assert (np.abs(shown - without).max(axis=2) > 60).sum() > 100


def test_false_positives_are_described_with_their_nearest_finding(catalog: Catalog) -> None:
    table = marks(
        ("a", (20, 20, 26), 0.5), ("b", (20, 26, 20), 0.75), ("b", (20, 20, 30), 0.25), ("c", (9, 9, 9), 0.125)
    )
    gallery = false_positives_gallery(catalog, table, scored(catalog, table).false_positives, 10)
    assert gallery.caption.startswith("Marks inside no finding, the most probable first.")
    assert [case.title for case in gallery.cases] == ["p = 0.750", "p = 0.500", "p = 0.250", "p = 0.125"]
    assert [case.lines[-1] for case in gallery.cases] == [
        "nearest finding 6.0 mm away: excluded finding of 5.0 mm",
        "nearest finding 6.0 mm away: nodule of 8.0 mm",
        "nearest finding 10.0 mm away: excluded finding of 5.0 mm",
        "no finding in this scan",
    ]
    assert gallery.cases[0].lines[:2] == ("b", "slice 21 of 40, (-30.0, 46.0, 320.0) mm")


def test_a_false_positive_shows_its_size_if_it_has_one(catalog: Catalog) -> None:
    table = marks(("c", (20, 20, 20), 0.5), diameter=7.0)
    (case,) = false_positives_gallery(catalog, table, table, 1).cases
    assert case.title == "p = 0.500, 7.0 mm"


def test_no_more_than_wanted_are_shown(catalog: Catalog) -> None:
    table = marks(*[("c", (20, 20, float(place)), place / 64) for place in range(10, 40)])
    found = scored(catalog, table)
    gallery = false_positives_gallery(catalog, table, found.false_positives, 2)
    assert [case.title for case in gallery.cases] == ["p = 0.609", "p = 0.594"]
    gallery = misses_gallery(catalog, table, found.misses.nodules, 1)
    assert gallery.caption.startswith("1 of 3 nodules without a mark inside")
    assert [case.title for case in gallery.cases] == ["10.0 mm"]


def test_an_empty_gallery_says_so_in_its_caption(catalog: Catalog) -> None:
    gallery = misses_gallery(catalog, no_marks(), no_findings(), 5)
    assert (gallery.caption, len(gallery.cases)) == ("No nodule is without a mark inside.", 0)
    gallery = false_positives_gallery(catalog, no_marks(), no_marks(), 5)
    assert (gallery.caption, len(gallery.cases)) == ("No mark is a false positive.", 0)


def test_the_best_candidates_are_those_of_all_scans(catalog: Catalog) -> None:
    table = marks(
        ("a", (20, 20, 30), 0.25), ("a", (20, 20, 20), 0.75), ("b", (20, 20, 20), 0.5), ("c", (20, 20, 20), 0.875),
        ("a", (20, 20, 31), 0.125),
    )  # fmt: skip
    tiles = best_tiles(catalog, table, 4)
    assert [(tile.probability, tile.outcome, tile.caption) for tile in tiles] == [
        (0.875, MarkOutcome.FALSE_POSITIVE, "c"),
        (0.75, MarkOutcome.HIT, "a"),
        (0.5, MarkOutcome.IGNORED, "b"),
        (0.25, MarkOutcome.FALSE_POSITIVE, "a"),
    ]
    assert tiles[1].patch[24, 24] > 150
    assert best_tiles(catalog, no_marks(), 4) == []
