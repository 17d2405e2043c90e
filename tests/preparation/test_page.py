"""The page about a cache: every scan once, the worst first, in one file; and the picture of each scan."""

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.geometry import Grid
from nodule_lightning.preparation.crop_picture import draw_crop
from nodule_lightning.preparation.page import check_cache, write_preparation_page
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.structures import Entry, Findings, Labels, Scan
from tests.chest import CENTRE_XYZ_MM, GRID, draw_chest, lung_centre

SETTINGS = PreparationSettings(spacing_mm=3.0)
FLIPPED = Grid(GRID.shape, GRID.spacing_zyx_mm, (147.2, 103.4, -69.0), (-1, 0, 0, 0, -1, 0, 0, 0, -1))


@pytest.fixture(scope="module")
def scan() -> Scan:
    return draw_chest()


@pytest.fixture(scope="module")
def entry(scan: Scan) -> Entry:
    return prepare_scan(scan, SETTINGS)


@pytest.fixture
def cache(tmp_path: Path, scan: Scan, entry: Entry) -> Path:
    """Fill a cache with every kind of scan; the names are sorted from the best to the worst."""
    right = {**entry.record["lungs"], "ratio": 1.0}
    inside = {"annotated": 2, "in_crop": 2, "in_mask": 2}
    far = Findings(CENTRE_XYZ_MM[None] + np.array([[0, 0, 900.0]]), np.array([9.0]))

    def add(name: str, labels: Labels | None = None, nodules: dict[str, int] = inside, **lungs: object) -> None:
        record = {**entry.record, "lungs": {**right, **lungs}, "nodules": nodules}
        named = replace(entry, scan_id=name, record=record, labels=labels or Labels())
        write_entry(tmp_path, named, draw_crop(scan, named))

    add("a well")
    add("b uneven", ratio=3.0)
    add("c cured", cures=["pieces"])
    add("d outside the mask", nodules={**inside, "in_mask": 1})
    add("e the body's <box>", found=False, right_l=0.0, left_l=0.0, ratio=None)
    add("f outside the crop", Labels("", far), {"annotated": 1, "in_crop": 0, "in_mask": 0})
    return tmp_path


def test_the_worst_come_first(cache: Path) -> None:
    assert [check.scan_id[0] for check in check_cache(cache)] == ["f", "e", "d", "c", "b", "a"]


def test_one_page_shows_every_scan_and_needs_no_other_file(cache: Path) -> None:
    page = write_preparation_page(cache, {"g <bad>": "cannot be read"}).read_text(encoding="utf-8")
    shown = re.findall(r"<section class=\"(look|well)\"><h2>(\w) ", page)
    assert shown == [("look", "f"), ("well", "e"), ("well", "d"), ("well", "c"), ("well", "b"), ("well", "a")]
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(pictures) == 6
    assert all(Image.open(BytesIO(b64decode(picture))).format == "JPEG" for picture in pictures)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "g &lt;bad&gt;: cannot be read" in page
    assert "e the body&#x27;s &lt;box&gt;" in page
    assert "the nodule at (10.0, -20.0, 750.0) mm lies outside the crop" in page
    assert "<td>annotated nodules</td><td>11</td>" in page
    assert "<td>in the mask</td><td>9</td>" in page
    assert "cured: pieces" in page
    assert str(cache) not in page


def test_an_empty_cache_has_a_page(tmp_path: Path) -> None:
    assert "<td>scans</td><td>0</td>" in write_preparation_page(tmp_path, {}).read_text(encoding="utf-8")


def test_the_picture_of_a_scan_is_small_enough_for_a_page_of_a_thousand(scan: Scan, entry: Entry) -> None:
    assert len(draw_crop(scan, entry)) < 30_000


@pytest.mark.parametrize("grid", [GRID, FLIPPED], ids=["plain", "flipped"])
def test_picture(grid: Grid) -> None:
    drawn = draw_chest(grid)
    picture = np.array(Image.open(BytesIO(draw_crop(drawn, prepare_scan(drawn, SETTINGS))))).astype(int)
    low, high = (ends(GRID.corners_xyz_mm(), axis=0) for ends in (np.min, np.max))
    width = int((high[0] - low[0]) / 2) + 1
    assert np.abs(picture[:40, width + 1 : width + 3] - 255).max() < 40
    # Radiological convention: the left lung is on the right of the axial slice. x grows with columns, y with rows.
    x, y, _ = (np.array(lung_centre(1)) - low) / 2
    assert picture[round(y), round(x)].mean() < 80
    redness = picture[:, :width, 0] - picture[:, :width, 2]
    assert (redness > 90).sum() > 150
    assert (redness < -60).sum() > 100
    assert redness[:8].max() < 40
    after = picture[:, 2 * width + 8 :]
    assert (np.abs(after - 170).max(axis=2) < 12).mean() > 0.1
