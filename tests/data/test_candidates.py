"""What candidates are, the patches about them, and which an epoch draws."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING, OUTSIDE
from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.data.candidates import (
    ClassedCandidates,
    ExampleDataset,
    Examples,
    ExampleSampler,
    read_by_scan,
)
from nodule_lightning.structures import Candidates, Findings, Labels
from tests.balls import ball_entry


def at(*places_x_mm: float) -> Candidates:
    centres = np.array([[x, 0.0, 0.0] for x in places_x_mm]).reshape(-1, 3)
    return Candidates(centres, np.full(len(centres), 0.5), np.full(len(centres), -1.0))


NODULES = Findings(np.array([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0]]), np.array([6.0, 20.0]))
# The second has no diameter: 10 mm by LUNA16's rule. It lies at the rim of the large nodule.
EXCLUDED = Findings(np.array([[60.0, 0.0, 0.0], [38.0, 0.0, 0.0]]), np.array([4.0, -1.0]))


def test_kinds_are_those_of_the_challenges_rule() -> None:
    marks = at(0.0, 2.999, 3.0, 39.9, 40.0, 42.9, 43.0, 61.9, 62.0)
    kinds = ClassedCandidates(marks, None).kinds(NODULES, EXCLUDED)
    # The radius itself is outside; what is in a nodule and in an excluded finding is the nodule's.
    expected = [NODULE, NODULE, NOTHING, NODULE, IGNORED, IGNORED, NOTHING, IGNORED, NOTHING]
    assert kinds.tolist() == expected


def test_more_candidates_than_the_score_counts_have_kinds() -> None:
    kinds = ClassedCandidates(at(*[0.0] * 150), None).kinds(NODULES, EXCLUDED)
    assert kinds.tolist() == [NODULE] * 150


def test_the_files_own_word_comes_first_but_for_excluded_findings() -> None:
    marks = at(0.0, 100.0, 61.0, 61.0)
    kinds = ClassedCandidates(marks, np.array([False, True, False, True])).kinds(NODULES, EXCLUDED)
    assert kinds.tolist() == [NOTHING, NODULE, IGNORED, NODULE]


def test_no_candidate_and_no_finding_have_no_kind() -> None:
    assert ClassedCandidates.empty().kinds(NODULES, EXCLUDED).shape == (0,)
    assert ClassedCandidates(at(0.0), None).kinds(Findings.empty(), Findings.empty()).tolist() == [NOTHING]


def test_the_file_of_the_second_track_is_read_by_scan(tmp_path: Path) -> None:
    path = tmp_path / "candidates_V2.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,class\nb,1,2,3,0\na,4,5,6,1\nb,7,8,9,1\n")
    found = read_by_scan(path)
    assert list(found) == ["a", "b"]
    assert found["b"].candidates.centre_xyz_mm.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert found["b"].candidates.probability.tolist() == [1, 1]
    assert found["b"].is_nodule is not None
    assert found["b"].is_nodule.tolist() == [False, True]
    path.write_text("seriesuid,coordX,coordY,coordZ,probability\na,4,5,6,0.25\n")
    assert read_by_scan(path)["a"].is_nodule is None


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    for index, boxes in enumerate([[(20.0, 22.0, 26.0, 9.0)], []]):
        entry, nodules = ball_entry(f"scan{index}", boxes, seed=index)
        write_entry(tmp_path, replace(entry, labels=Labels("0", nodules)))
    return Catalog.open(tmp_path)


def listed(catalog: Catalog, scan_id: str, places_zyx: list[list[float]]) -> ClassedCandidates:
    centres = catalog.entry(scan_id).grid.to_world(np.array(places_zyx))
    return ClassedCandidates(Candidates(centres, np.ones(len(centres)), np.full(len(centres), -1.0)), None)


def test_examples_are_candidates_and_nodules(catalog: Catalog) -> None:
    found = {
        "scan0": listed(catalog, "scan0", [[21.0, 22.0, 26.0], [10.0, 10.0, 10.0]]),
        "scan1": listed(catalog, "scan1", [[5.0, 6.0, 7.0]]),
    }
    examples = Examples.of_scans(catalog, catalog.scan_ids, found, with_nodules=True)
    assert examples.scan_index.tolist() == [0, 0, 0, 1]
    assert examples.positive.tolist() == [True, False, True, False]
    np.testing.assert_allclose(examples.place_zyx, [[21, 22, 26], [10, 10, 10], [20, 22, 26], [5, 6, 7]], atol=1e-9)
    np.testing.assert_allclose(examples.diameter, [10, 10, 9, 10])
    alone = Examples.of_scans(catalog, catalog.scan_ids, found, with_nodules=False)
    assert alone.positive.tolist() == [True, False, False]
    none = Examples.of_scans(catalog, catalog.scan_ids, {}, with_nodules=False)
    assert len(none) == 0
    assert none.place_zyx.shape == (0, 3)


def test_what_lies_outside_the_lung_mask_is_no_example(catalog: Catalog) -> None:
    """Its patch would be grey in the middle, as no candidate's is that a detector gives."""
    # Within the crop, but in its rim of 4 voxels, and beyond it.
    entry = catalog.entry("scan0")
    hidden = entry.grid.to_world(np.array([[2.0, 20.0, 20.0], [20.0, 60.0, 20.0]]))
    labels = Labels("0", Findings(hidden, np.array([9.0, 9.0])))
    found = listed(catalog, "scan0", [[2.0, 20.0, 20.0], [3.4, 20.0, 20.0], [3.6, 20.0, 20.0], [20.0, 60.0, 20.0]])
    examples = Examples.of_scan(0, replace(entry, labels=labels), found, with_nodules=True)
    np.testing.assert_allclose(examples.place_zyx, [[3.6, 20.0, 20.0]])
    assert len(examples.diameter) == len(examples.positive) == len(examples.scan_index) == 1


def test_a_patch_has_its_candidate_in_the_middle_and_says_whether_it_is_a_nodule(catalog: Catalog) -> None:
    found = {"scan0": listed(catalog, "scan0", [[20.0, 22.0, 26.0], [4.0, 4.0, 47.0]])}
    examples = Examples.of_scans(catalog, catalog.scan_ids, found, with_nodules=False)
    dataset = ExampleDataset(catalog, catalog.scan_ids, examples, 16, fill_outside_lungs=False)
    nodule, corner = dataset[0], dataset[1]
    assert nodule.kind.tolist() == [NODULE]
    assert np.abs(nodule.boxes[0, :3] - 7.5).max() <= 0.5
    ball = np.argwhere(nodule.image > 120).mean(axis=0)
    np.testing.assert_allclose(ball, nodule.boxes[0, :3], atol=0.1)
    assert corner.boxes.shape == (0, 4)
    # At the corner of the lung mask: its patch reaches beyond the crop.
    entry = catalog.entry("scan0")
    start = np.rint(np.array([4.0, 4.0, 47.0]) - 7.5).astype(int)
    low, high = -start[0], 52 - start[2]
    np.testing.assert_array_equal(corner.image[low:, low:, :high], entry.ct[: 16 - low, : 16 - low, start[2] :])
    beyond = np.ones(corner.image.shape, dtype=bool)
    beyond[low:, low:, :high] = False
    assert (corner.image[beyond] == OUTSIDE).all()
    filled = ExampleDataset(catalog, catalog.scan_ids, examples, 16)[1]
    assert (filled.image[low : low + 4] == OUTSIDE).all()


def drawn(sampler: ExampleSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_is_balanced_and_takes_each_class_in_turn() -> None:
    positive = np.array([True] * 3 + [False] * 50)
    draws = drawn(ExampleSampler(positive, 40, 0.25, seed=0), 0)
    counts = Counter(draws)
    assert sorted(counts[place] for place in range(3)) == [3, 3, 4]
    assert len(draws) == 40
    assert max(counts[place] for place in range(3, 53)) == 1
    assert sum(counts[place] for place in range(3, 53)) == 30
    assert draws == drawn(ExampleSampler(positive, 40, 0.25, seed=0), 0)
    assert draws != drawn(ExampleSampler(positive, 40, 0.25, seed=1), 0)
    assert draws != drawn(ExampleSampler(positive, 40, 0.25, seed=0), 1)


def test_one_pass_shows_each_nodule_once_in_whole_batches() -> None:
    positive = np.array([True] * 5 + [False] * 50)
    sampler = ExampleSampler(positive, None, 0.5, seed=0, batch_size=4)
    assert len(sampler) == 12
    assert {0, 1, 2, 3, 4} <= set(drawn(sampler, 0))


def test_ranks_share_the_draws() -> None:
    positive = np.array([True] * 30 + [False] * 30)
    ranks = [drawn(ExampleSampler(positive, 20, 0.5, 0, rank, 2), 3) for rank in (0, 1)]
    assert [len(draws) for draws in ranks] == [10, 10]
    assert sorted(ranks[0] + ranks[1]) == sorted(drawn(ExampleSampler(positive, 20, 0.5, 0), 3))
    assert not set(ranks[0]) & set(ranks[1])


def test_no_more_scans_stay_open_than_a_process_may_map(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (7, 99))
    found = {scan_id: listed(catalog, scan_id, [[5.0, 6.0, 7.0]]) for scan_id in catalog.scan_ids}
    examples = Examples.of_scans(catalog, catalog.scan_ids, found, with_nodules=False)
    dataset = ExampleDataset(catalog, catalog.scan_ids, examples, 16)
    assert [dataset[index].scan_id for index in (0, 1, 0)] == ["scan0", "scan1", "scan0"]
    assert list(dataset.open_scans) == [0]


def test_open_scans_do_not_travel_to_workers(catalog: Catalog) -> None:
    found = {"scan1": listed(catalog, "scan1", [[5.0, 6.0, 7.0]])}
    examples = Examples.of_scans(catalog, catalog.scan_ids, found, with_nodules=False)
    dataset = ExampleDataset(catalog, catalog.scan_ids, examples, 16)
    closed = pickle.dumps(dataset)
    assert dataset[0].scan_id == "scan1"
    assert len(dataset.open_scans) == 1
    assert pickle.dumps(dataset) == closed
