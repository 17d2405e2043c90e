"""All that a search can leave behind: at the right place in the original scan, and nowhere else on the disk."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from matplotlib.patches import Circle

from nodule_lightning.cache.failures import keep_failure
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.tables import read_candidates
from nodule_lightning.preparation.prepare import PreparationSettings, prepare_scan
from nodule_lightning.report.overlay import MOST_DRAWN, draw_overlay
from nodule_lightning.search.outputs import Format, parse_formats, write_outputs, write_picture
from nodule_lightning.search.predict import Prediction
from nodule_lightning.structures import Candidates
from tests.chest import GRID, NODULE_XYZ_MM, draw_chest

ANISOTROPIC = Grid((30, 40, 50), (2.5, 0.7, 0.8), (100.0, -50.0, 7.0))
FLIPPED = replace(ANISOTROPIC, direction=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
# Index x runs along world y, index y along world z, index z along world x, backwards.
TURNED = replace(ANISOTROPIC, direction=(0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
GRIDS = {"anisotropic": ANISOTROPIC, "flipped": FLIPPED, "turned": TURNED}
PLANTED_ZYX = (11, 5, 31)
EVERY = tuple(Format)


def itk_image(grid: Grid) -> SimpleITK.Image:
    """Give the scan to one who knows nothing of this package's geometry."""
    image = SimpleITK.Image([*grid.shape[::-1]], SimpleITK.sitkUInt8)
    image.SetSpacing(grid.spacing_zyx_mm[::-1])
    image.SetOrigin(grid.origin_xyz_mm)
    image.SetDirection(grid.direction)
    return image


def planted(grid: Grid, scan_id: str = "scan") -> Prediction:
    place = itk_image(grid).TransformIndexToPhysicalPoint([*PLANTED_ZYX[::-1]])
    other = itk_image(grid).TransformIndexToPhysicalPoint([0, 0, 0])
    found = Candidates(np.array([place, other]), np.array([0.87654321, 0.5]), np.array([7.25, -1.0]))
    return Prediction(scan_id, found, grid)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def place_in_submission(folder: Path) -> list[float]:
    found: list[float] = read_candidates(folder / "submission.csv").rows.centre_xyz_mm[0].tolist()
    return found


def place_in_marks(folder: Path) -> list[float]:
    place: list[float] = read_json(folder / "grand_challenge/scan.json")["points"][0]["point"]
    return place


def place_in_markups(folder: Path) -> list[float]:
    [markup] = read_json(folder / "slicer/scan.mrk.json")["markups"]
    assert (markup["coordinateSystem"], markup["coordinateUnits"]) == ("LPS", "mm")
    place: list[float] = markup["controlPoints"][0]["position"]
    return place


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("read_place", [place_in_submission, place_in_marks, place_in_markups])
def test_a_planted_point_comes_back_at_its_voxel(
    tmp_path: Path, name: str, read_place: Callable[[Path], list[float]]
) -> None:
    write_outputs(tmp_path, [planted(GRIDS[name])], EVERY)
    found = itk_image(GRIDS[name]).TransformPhysicalPointToIndex(read_place(tmp_path))
    assert tuple(found)[::-1] == PLANTED_ZYX


@pytest.mark.parametrize("name", GRIDS)
def test_the_list_tells_slices_from_1_and_voxels_from_0(tmp_path: Path, name: str) -> None:
    write_outputs(tmp_path, [planted(GRIDS[name])], [Format.LIST])
    with (tmp_path / "candidate_list.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["seriesuid", "rank", "slice", "probability", "x", "y", "diameter_mm"],
        ["scan", "1", "12", "0.876543", "31", "5", "7.2"],
        ["scan", "2", "1", "0.5", "0", "0", ""],
    ]


# A chest whose axes run backwards, and the usual one in thick slices.
CHESTS = {
    "anisotropic": Grid((27, 79, 100), (6.0, 2.8, 2.8), GRID.origin_xyz_mm),
    "flipped": Grid(
        GRID.shape,
        GRID.spacing_zyx_mm,
        (-130.0 + 99 * 2.8, -115.0 + 78 * 2.8, -228.0),
        (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    ),
}


@pytest.mark.parametrize("name", CHESTS)
def test_the_picture_has_its_mark_on_the_nodule(name: str) -> None:
    scan = draw_chest(CHESTS[name])
    entry = prepare_scan(scan, PreparationSettings(spacing_mm=2.0))
    found = Prediction("scan", Candidates(NODULE_XYZ_MM[None], np.array([0.9]), np.array([12.0])), scan.grid)
    [voxel] = found.voxels_zyx().tolist()
    figure = draw_overlay(entry, found.candidates, found.voxels_zyx())
    [panel] = [axes for axes in figure.axes if axes.images]
    [circle] = panel.patches
    assert isinstance(circle, Circle)
    column, row = np.rint(circle.get_center()).astype(int).tolist()
    plane = np.asarray(panel.images[0].get_array())
    # The nodule is as bright as the body, the lung about it is dark.
    assert plane[row, column] > 150
    assert plane[row, column - 6] < plane[row, column] - 80
    assert plane[row - 6, column] < plane[row, column] - 80
    assert scan.hu[tuple(voxel)] == 30
    assert panel.get_title(loc="left").endswith(f"slice {voxel[0] + 1}  [{voxel[2]}, {voxel[1]}]")


def test_the_picture_shows_the_best_and_bears_none() -> None:
    scan = draw_chest()
    entry = prepare_scan(scan, PreparationSettings(spacing_mm=4.0))
    for count, shown in ((0, 0), (2, 2), (9, MOST_DRAWN)):
        found = Prediction(
            "s", Candidates(np.tile(NODULE_XYZ_MM, (count, 1)), np.ones(count), np.ones(count)), scan.grid
        )
        figure = draw_overlay(entry, found.candidates, found.voxels_zyx())
        assert sum(bool(axes.images) for axes in figure.axes) == shown


def test_the_point_marks_hold_what_grand_challenge_allows_and_no_more(tmp_path: Path) -> None:
    write_outputs(tmp_path, [planted(ANISOTROPIC)], EVERY)
    marks = read_json(tmp_path / "grand_challenge/scan.json")
    assert set(marks) == {"name", "type", "points", "version"}
    assert (marks["type"], marks["version"]) == ("Multiple points", {"major": 1, "minor": 0})
    for point, size in zip(marks["points"], ("7.2 mm", "unknown size"), strict=True):
        assert set(point) == {"name", "type", "point", "probability"}
        assert (point["type"], point["name"]) == ("Point", size)
        assert len(point["point"]) == 3
        assert 0 <= point["probability"] <= 1


def test_the_markups_hold_what_slicer_asks_for(tmp_path: Path) -> None:
    write_outputs(tmp_path, [planted(ANISOTROPIC)], EVERY)
    content = read_json(tmp_path / "slicer/scan.mrk.json")
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    [markup] = content["markups"]
    assert markup["type"] == "Fiducial"
    assert [point["label"] for point in markup["controlPoints"]] == ["0.877", "0.500"]
    assert {point["positionStatus"] for point in markup["controlPoints"]} == {"defined"}
    assert markup["controlPoints"][0]["description"] == "rank 1, 7.2 mm"


def test_a_scan_without_candidates_is_in_every_format(tmp_path: Path) -> None:
    empty = Prediction("empty", Candidates.empty(), ANISOTROPIC)
    write_outputs(tmp_path, [empty], EVERY)
    assert read_json(tmp_path / "grand_challenge/empty.json")["points"] == []
    assert read_json(tmp_path / "slicer/empty.mrk.json")["markups"][0]["controlPoints"] == []
    assert len((tmp_path / "candidate_list.csv").read_text(encoding="utf-8").splitlines()) == 1


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    assert write_outputs(tmp_path, [planted(ANISOTROPIC)]) == tmp_path / "submission.csv"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans.csv", "submission.csv"]


def test_the_submission_is_tianchis_as_well(tmp_path: Path) -> None:
    # As the challenge's page showed it: LKDS-00012,75.5,56.0,-194.254518072,6.5243e-05
    found = Candidates(np.array([[75.5, 56.0, -194.254518072]]), np.array([6.5243e-05]), np.array([5.0]))
    write_outputs(tmp_path, [Prediction("LKDS-00012", found, ANISOTROPIC)])
    assert (tmp_path / "submission.csv").read_text(encoding="utf-8").splitlines() == [
        "seriesuid,coordX,coordY,coordZ,probability",
        "LKDS-00012,75.5,56.0,-194.254518072,6.5243e-05",
    ]


LEADING_OUT = ("../x", "/tmp/x", "..", ".hidden", "a/b", "a\\b", "", " ", "a\0b", "a\nb", "x" * 300)


@pytest.mark.parametrize("scan_id", LEADING_OUT)
def test_no_writer_follows_an_id_out_of_the_folder(tmp_path: Path, scan_id: str) -> None:
    output = tmp_path / "deep" / "output"
    for chosen in ((), *((name,) for name in Format)):
        with pytest.raises(InputError):
            write_outputs(output, [planted(ANISOTROPIC, scan_id)], chosen)
    scan = draw_chest()
    entry = prepare_scan(scan, PreparationSettings(spacing_mm=8.0))
    with pytest.raises(InputError):
        write_picture(output, entry, Prediction(scan_id, Candidates.empty(), scan.grid))
    with pytest.raises(InputError):
        keep_failure(output, scan_id, "it is broken")
    assert list(tmp_path.iterdir()) == []


def test_the_longest_id_is_a_file_in_every_format(tmp_path: Path) -> None:
    longest = "肺" * 66 + "ab"
    write_outputs(tmp_path, [planted(ANISOTROPIC, longest)], EVERY)
    assert (tmp_path / "slicer" / f"{longest}.mrk.json").is_file()


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    for wrong in ("nifti", "tianchi", None, 3, True, ["list"]):
        with pytest.raises(InputError) as error:
            parse_formats(["list", wrong])
        assert error.value.key == "argument-invalid"
        assert all(name in str(error.value) for name in (repr(wrong), *Format, "submission.csv"))
    assert parse_formats([]) == ()
