"""Agreement of readers: LUNA16's rows from LIDC-IDRI's XML."""

from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.geometry import Grid
from nodule_lightning.io.lidc_xml import read_lidc_xml
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.tables import read_findings
from nodule_lightning.preparation.agreement import NODULE, NON_NODULE, SMALL, AgreedFinding, agree, to_findings
from tests.readings import contour, nodule, non_nodule, parse, square

UNIT = Grid((20, 40, 40), (1.0, 1.0, 1.0))


def block(low: int, high: int, z_mm: tuple[float, ...] = (4.0, 5.0, 6.0), **ratings: int) -> str:
    """One reader's cube of pixels `low` + 1 to `high` - 1 on both axes of each slice."""
    return nodule(*(contour(z, square(low, high)) for z in z_mm), malignancy=ratings.get("malignancy", 3))


def sphere_mm(voxels: int) -> float:
    return float(np.cbrt(6 * voxels / np.pi))


def test_a_mark_has_the_centre_and_the_volume_of_what_it_encloses(tmp_path: Path) -> None:
    grid = Grid((20, 40, 40), (2.0, 0.5, 0.5), (-10.0, 20.0, -30.0))
    z_mm = (-30.0 + 2 * 4, -30.0 + 2 * 5)
    [found], none = agree(parse(tmp_path, [block(9, 16, z_mm)]), grid, 1)
    np.testing.assert_allclose(found.centre_xyz_mm, [-10 + 12.5 * 0.5, 20 + 12.5 * 0.5, -21.0])
    assert found.diameter_mm == pytest.approx(sphere_mm(2 * 6 * 6) * 0.5 ** (1 / 3))
    assert none == ()


def test_the_first_reader_weighs_a_half_and_later_averages_stay_excluded(tmp_path: Path) -> None:
    marks = [[block(9, 20, malignancy=5)], [non_nodule(3, 1, 2), block(10, 21)], [block(12, 21, malignancy=1)], []]
    nodules, excluded = agree(parse(tmp_path, *marks), UNIT, 3)
    own = [(14.5, sphere_mm(300)), (15.5, sphere_mm(300)), (16.5, sphere_mm(192))]
    two = np.mean([own[1], own[2]], axis=0)
    three = np.mean([own[0], two], axis=0)
    assert [rounded(one) for one in nodules] == [[*three.round(9)]]
    assert [rounded(one) for one in excluded] == [[1.0, -1.0], [*two.round(9)], [*np.round(own[2], 9)]]
    assert [one.kind for one in excluded] == [NON_NODULE, NODULE, NODULE]
    assert nodules[0].columns() == {"kind": NODULE, "readers": 3, "malignancy": 3.0, "texture": 5.0}
    assert excluded[0].columns() == {"kind": NON_NODULE, "readers": 1, "malignancy": None, "texture": None}


def rounded(finding: AgreedFinding) -> list[float]:
    return [round(float(finding.centre_xyz_mm[0]), 9), round(finding.diameter_mm, 9)]


@pytest.mark.parametrize(("least", "nodules", "excluded"), [(1, 2, 1), (2, 1, 2), (3, 0, 3)])
def test_the_least_number_of_readers(tmp_path: Path, least: int, nodules: int, excluded: int) -> None:
    readings = parse(tmp_path, [block(2, 9)], [block(3, 10), block(25, 35)], [], [])
    assert [len(found) for found in agree(readings, UNIT, least)] == [nodules, excluded]


def test_marks_merge_only_closer_than_the_sum_of_their_radii_and_of_different_readers(tmp_path: Path) -> None:
    far = parse(tmp_path, [block(2, 9)], [block(2, 9, (14.0, 15.0, 16.0))])
    assert [len(one.readers) for one in agree(far, UNIT, 1)[0]] == [1, 1]
    same = parse(tmp_path, [block(2, 9), block(3, 10)], [])
    assert [len(one.readers) for one in agree(same, UNIT, 1)[0]] == [1, 1]
    assert [len(found) for found in agree(same, UNIT, 2)] == [0, 2]


def test_small_nodules_and_non_nodules_have_no_diameter_and_never_count(tmp_path: Path) -> None:
    point, empty = nodule(contour(5, [(7, 8)])), nodule(contour(5, [(7, 8), (8, 8), (8, 9), (7, 9)]), malignancy=3)
    nodules, excluded = agree(parse(tmp_path, [point], [point], [empty], [non_nodule(5, 7, 8)]), UNIT, 1)
    assert nodules == ()
    assert [one.kind for one in excluded] == [SMALL, SMALL, SMALL, NON_NODULE]
    assert [one.diameter_mm for one in excluded] == [-1] * 4
    np.testing.assert_allclose(excluded[0].centre_xyz_mm, [7, 8, 5])
    np.testing.assert_allclose(excluded[2].centre_xyz_mm, [7.5, 8.5, 5])


def test_a_scan_without_marks(tmp_path: Path) -> None:
    nodules, excluded = agree(parse(tmp_path, [], [], [], []), UNIT, 3)
    assert nodules == excluded == ()
    assert len(to_findings(nodules)) == 0


@pytest.mark.real_data
@pytest.mark.parametrize(("xml", "subset"), [("069.xml", "subset1"), ("071.xml", "subset3")])
def test_luna16s_own_rows(real_data: Path, xml: str, subset: str) -> None:
    readings = read_lidc_xml(real_data / "lidc_xml" / xml)
    grid = read_scan(real_data / "lidc" / subset / f"{readings.scan_id}.mhd").grid
    for agreed, table in zip(agree(readings, grid, 3), ("annotations", "annotations_excluded"), strict=True):
        rows = read_findings(real_data / "lidc" / f"{table}.csv", sized=False)
        official = rows[rows.scan_id == readings.scan_id].rows
        own = to_findings(agreed)
        # Row by row, in LUNA16's order.
        np.testing.assert_allclose(own.centre_xyz_mm, official.centre_xyz_mm, atol=0.002)
        np.testing.assert_allclose(own.diameter_mm, official.diameter_mm, rtol=1e-4)
