"""Patches: the right voxels, the right boxes, the right batch."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING, OUTSIDE, visible
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.data.patches import Patch, PatchDataset, collate, random_lung_voxel
from nodule_lightning.data.sampler import PatchDraw
from nodule_lightning.detection.anchors import AnchorGrid
from nodule_lightning.detection.assignment import CentreAssigner, IouAssigner
from nodule_lightning.structures import Findings, Labels
from tests.balls import ORIGIN_XYZ_MM, ball_entry

NODULES = [(12.0, 15.0, 33.0, 7.0), (25.0, 30.0, 20.0, 10.0)]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    cache = tmp_path_factory.mktemp("cache")
    entry, nodules = ball_entry("a", NODULES)
    excluded = Findings(entry.grid.to_world(np.array([[12.0, 24.0, 33.0]])), np.array([-1.0]))
    write_entry(cache, replace(entry, labels=Labels("0", nodules, excluded)))
    return Catalog.open(cache)


def dataset(catalog: Catalog, *, fill: bool = True, side: int = 32) -> PatchDataset:
    return PatchDataset(catalog, ["a"], side, fill_outside_lungs=fill, border_voxels=4.0)


@pytest.mark.parametrize("seed", range(8))
def test_the_drawn_nodule_lies_in_the_patch_where_its_box_says(catalog: Catalog, seed: int) -> None:
    for finding, (*_, diameter) in enumerate(NODULES):
        patch = dataset(catalog)[PatchDraw(0, finding, seed)]
        (row,) = np.flatnonzero(np.isclose(patch.boxes[:, 3], diameter) & (patch.kind == NODULE))
        centre = patch.boxes[row, :3]
        assert (centre >= 4 + diameter / 2 - 1).all()
        assert (centre <= 31 - 4 - diameter / 2 + 1).all()
        index = np.indices(patch.image.shape)
        distance = np.sqrt(((index - centre.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
        assert (patch.image[distance < diameter / 2] == 180).all()
        assert np.median(patch.image[(distance > diameter / 2) & (distance < diameter / 2 + 2)]) < 70


def test_a_patch_knows_where_in_the_crop_it_was_cut(catalog: Catalog) -> None:
    """The drawn nodule has the same place in the crop's coordinates, however it lies in the patch."""
    for seed in range(4):
        patch = dataset(catalog)[PatchDraw(0, 0, seed)]
        centre = patch.boxes[np.isclose(patch.boxes[:, 3], 7.0), :3][0]
        place = patch.position[:, 0] + (patch.position[:, 1] - patch.position[:, 0]) * centre / 31
        np.testing.assert_allclose(place, 2 * np.array([12.0, 15.0, 33.0]) / (39, 43, 51) - 1, atol=1e-5)


def test_the_place_in_the_patch_is_random_and_the_seeds(catalog: Catalog) -> None:
    patches = [dataset(catalog)[PatchDraw(0, 0, seed)] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(patches[0].image, patches[1].image)
    np.testing.assert_array_equal(patches[0].boxes, patches[1].boxes)
    assert not np.array_equal(patches[0].boxes, patches[2].boxes)


def test_excluded_and_cut_findings_are_ignored(catalog: Catalog) -> None:
    kinds, cut = set(), 0
    for seed in range(40):
        patch = dataset(catalog)[PatchDraw(0, 0, seed)]
        for box, kind in zip(patch.boxes, patch.kind, strict=True):
            inside = ((box[:3] > -0.5) & (box[:3] < 31.5)).all()
            if box[3] == 10 and np.allclose(box[:3] - patch.boxes[0, :3], (0, 9, 0)):
                assert kind == IGNORED
            else:
                assert kind == (NODULE if inside else IGNORED)
                cut += not inside
            kinds.add(int(kind))
    assert kinds == {NODULE, IGNORED}
    assert cut


def test_a_place_is_cut_around_where_it_is_said_to_be(catalog: Catalog) -> None:
    whole = catalog.entry("a").ct
    for seed in range(8):
        patch = dataset(catalog, fill=False, side=16)[PatchDraw(0, -1, seed, (20.0, 23.0, 26.0))]
        (start,) = [
            (z, y, x)
            for z in range(9, 17) for y in range(12, 20) for x in range(15, 23)
            if np.array_equal(whole[z : z + 16, y : y + 16, x : x + 16], patch.image)
        ]  # fmt: skip
        # The place lies at least 4 voxels from every face.
        assert all(4 <= place - first <= 11 for place, first in zip((20, 23, 26), start, strict=True))


def test_no_anchor_on_an_excluded_finding_is_a_negative(tmp_path: Path) -> None:
    """Also in patches at random places; only what the finding does not touch is negative."""
    entry, _ = ball_entry("a", [(20.0, 22.0, 26.0, 8.0)])
    marked = Findings(entry.grid.to_world(np.array([[20.0, 22.0, 26.0]])), np.array([8.0]))
    write_entry(tmp_path, replace(entry, labels=Labels("", Findings.empty(), marked)))
    patches = PatchDataset(Catalog.open(tmp_path), ["a"], 32)
    grid = AnchorGrid((6.0, 10.0))
    anchors = grid.boxes((8, 8, 8), torch.device("cpu"))
    for assigner in (IouAssigner(), CentreAssigner()):
        seen = 0
        for seed in range(20):
            batch = collate([patches[PatchDraw(0, -1, seed)]])
            label = assigner(anchors, batch.boxes, batch.kind).label[0]
            assert not (label == 1).any()
            assert (label == 0).any()
            for box in batch.boxes[0]:
                inside = (anchors[..., :3] - box[:3]).norm(dim=-1) < box[3] / 2
                assert (label[inside] == -1).all()
                seen += int(inside.sum())
        assert seen > 50


def test_outside_the_lungs_and_the_volume_is_filled(catalog: Catalog) -> None:
    filled, raw = (dataset(catalog, fill=fill, side=64)[PatchDraw(0, 0, 0)].image for fill in (True, False))
    entry = catalog.entry("a")
    assert (filled != OUTSIDE).sum() <= entry.lung.sum()
    # The volume of 40 x 44 x 52 lies somewhere in the patch of 64: all else is padding.
    assert (raw == OUTSIDE).sum() >= 64**3 - entry.ct.size
    # Beyond the lungs the raw volume has noise around 170.
    assert (raw != OUTSIDE).sum() > (filled != OUTSIDE).sum()


def test_a_random_place_lies_in_the_lungs() -> None:
    lung = np.zeros((20, 20, 20), np.uint8)
    lung[3:9, 10:15, 4:12] = 1
    for seed in range(50):
        assert lung[tuple(random_lung_voxel(lung, np.random.default_rng(seed)))]
    assert random_lung_voxel(np.zeros((8, 8, 8), np.uint8), np.random.default_rng(0)).tolist() == [4, 4, 4]


def test_a_scan_without_findings_gives_empty_boxes(tmp_path: Path) -> None:
    write_entry(tmp_path, ball_entry("b", [])[0])
    patch = PatchDataset(Catalog.open(tmp_path), ["b"], 16)[PatchDraw(0, -1, 0)]
    assert patch.boxes.shape == (0, 4)
    assert patch.boxes.dtype == np.float32
    batch = collate([patch, patch])
    assert batch.boxes.shape == (2, 0, 4)


def test_a_nodule_that_the_network_cannot_see_is_neither_drawn_nor_taught(tmp_path: Path) -> None:
    boxes = [(20.0, 20.0, 20.0, 6.0), (20.0, 20.0, 1.0, 6.0), (20.0, 20.0, 90.0, 6.0)]
    entry, nodules = ball_entry("a", boxes)
    write_entry(tmp_path, replace(entry, labels=Labels("", nodules)))
    patches = PatchDataset(Catalog.open(tmp_path), ["a"], 48)
    assert patches.diameters_mm()[0].tolist() == [6]
    patch = patches[PatchDraw(0, 0, 0)]
    assert sorted(patch.kind.tolist()) == sorted([NODULE, IGNORED][: len(patch.kind)])
    assert np.count_nonzero(patch.kind == NODULE) == 1
    np.testing.assert_array_equal(visible(np.array(boxes), entry.lung), [True, False, False])


def test_collate_pads_the_lists_of_boxes() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    none = Patch("a", image, np.zeros((0, 4), np.float32), np.zeros(0, np.int8), np.zeros((3, 2), np.float32))
    one = Patch("b", image, np.ones((1, 4), np.float32), np.array([NODULE], np.int8), np.ones((3, 2), np.float32))
    batch = collate([none, one])
    assert batch.scan_id == ("a", "b")
    assert batch.image.shape == (2, 1, 4, 4, 4)
    assert batch.kind.tolist() == [[NOTHING], [NODULE]]
    assert batch.position[:, 2, 0].tolist() == [0, 1]
    assert batch.to(torch.device("meta")).boxes.device.type == "meta"


def test_the_origin_is_not_mixed_up(catalog: Catalog) -> None:
    """A guard for the fixture: world x is the last index."""
    centre = catalog.nodules("a").centre_xyz_mm[0]
    np.testing.assert_allclose(centre - ORIGIN_XYZ_MM, [33.0, 15.0, 12.0])


def test_scans_stay_open_but_do_not_travel_to_workers(tmp_path: Path) -> None:
    entry, _ = ball_entry("a", [])
    write_entry(tmp_path, entry)
    patches = PatchDataset(Catalog.open(tmp_path), ["a"], 16)
    closed = pickle.dumps(patches)
    patch = patches[PatchDraw(0, -1, 0)]
    (tmp_path / "scans" / "a" / "scan.json").unlink()
    assert np.array_equal(patches[PatchDraw(0, -1, 0)].image, patch.image)
    assert pickle.dumps(patches) == closed


def test_no_more_scans_stay_open_than_a_process_may_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (11, 99))
    for scan_id in "abc":
        write_entry(tmp_path, ball_entry(scan_id, [])[0])
    patches = PatchDataset(Catalog.open(tmp_path), "abc", 16)
    assert [patches[PatchDraw(index, -1, 0)].scan_id for index in (0, 1, 2, 0)] == ["a", "b", "c", "a"]
    assert list(patches.open_scans) == [2, 0]


def test_a_process_that_may_open_few_files_cuts_from_many_scans(tmp_path: Path) -> None:
    """In a process of its own, whose limit is real."""
    for scan_id in map(str, range(40)):
        write_entry(tmp_path, ball_entry(scan_id, [])[0])
    ended = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(tmp_path)], capture_output=True, encoding="utf-8", check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "40 patches, 16 scans open\n"), ended.stderr


FEW_FILES = """
import resource, sys
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.data.patches import PatchDataset
from nodule_lightning.data.sampler import PatchDraw
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
catalog = Catalog.open(sys.argv[1])
patches = PatchDataset(catalog, catalog.scan_ids, 16)
print(len([patches[PatchDraw(index, -1, 0)] for index in range(40)]), "patches,", len(patches.open_scans), "scans open")
"""


def test_outlines_are_cut_with_the_image(tmp_path: Path) -> None:
    entry, nodules = ball_entry("a", NODULES)
    outlines = np.where((entry.ct == 180) & (entry.lung == 1), 3, 0).astype(np.uint8)
    write_entry(tmp_path, replace(entry, labels=Labels("0", nodules), outlines=outlines))
    patches = PatchDataset(Catalog.open(tmp_path), ["a"], 48, border_voxels=4.0)
    batch = collate([patches[PatchDraw(0, finding, seed)] for finding in (0, 1) for seed in range(3)])
    assert batch.outlines is not None
    assert torch.equal(batch.outlines == 3, batch.image == 180)
    assert batch.to(torch.device("cpu")).outlines is not None
    drawn = patches[PatchDraw(0, 0, 0)]
    assert collate([drawn, replace(drawn, outlines=None)]).outlines is None
