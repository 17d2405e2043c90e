"""The catalog and its split: disjoint, complete, and reproducible."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_lightning.cache.catalog import Catalog, split_scans
from nodule_lightning.cache.entries import write_entry
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.structures import Entry, Findings, Labels


def catalog(subset: dict[str, str], with_nodules: set[str]) -> Catalog:
    mark = Findings(np.zeros((1, 3)), np.array([5.0]))
    nodules = {scan_id: mark if scan_id in with_nodules else Findings.empty() for scan_id in subset}
    return Catalog(Path("cache"), {scan_id: Labels(subset[scan_id], nodules[scan_id]) for scan_id in sorted(subset)})


def many(count: int, every: int = 3) -> Catalog:
    ids = [f"s{index:03d}" for index in range(count)]
    return catalog({name: str(index % 5) for index, name in enumerate(ids)}, set(ids[::every]))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    volume = np.zeros((2, 2, 2), np.uint8)
    grid = Grid((2, 2, 2), (1.0, 1.0, 1.0))
    nodules, excluded = (Findings(np.ones((1, 3)), np.array([diameter])) for diameter in (5.0, -1.0))
    for scan_id, labels in (("b", Labels("1", nodules, excluded)), ("a", Labels("0"))):
        write_entry(tmp_path, Entry(scan_id, volume, volume, grid, grid, {}, labels=labels))
    return tmp_path


def test_open(cache: Path) -> None:
    opened = Catalog.open(cache)
    assert opened.scan_ids == ("a", "b")
    assert (opened.subset("a"), opened.subset("b")) == ("0", "1")
    assert opened.nodules("b").diameter_mm.tolist() == [5]
    assert opened.nodules("a").centre_xyz_mm.shape == (0, 3)
    assert len(opened.excluded("a")) == 0
    assert opened.nodule_table().scan_id.tolist() == ["b"]
    assert opened.excluded_table().rows.diameter_mm.tolist() == [-1]
    assert opened.entry("a").ct.shape == (2, 2, 2)
    for read in (opened.subset, opened.nodules, opened.excluded, opened.entry):
        with pytest.raises(InputError) as error:
            read("failed")
        assert error.value.key == "scan-unknown"
        assert "failed" in str(error.value)


def test_open_refuses(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Catalog.open(tmp_path / "gone")
    assert error.value.key == "cache-empty"
    (cache / "scans/a/scan.json").write_text("{")
    with pytest.raises(InputError) as error:
        Catalog.open(cache)
    assert error.value.key == "file-damaged"
    assert str(cache / "scans/a/scan.json") in str(error.value)


@given(st.integers(2, 60), st.integers(1, 5), st.floats(0, 0.9), st.integers(0, 99))
def test_a_split_covers_all_scans_once(count: int, every: int, fraction: float, seed: int) -> None:
    scans = many(count, every)
    split = split_scans(scans, ["0"], fraction, seed)
    assert sorted((*split.train, *split.validation, *split.test)) == list(scans.scan_ids)
    assert {scans.subset(scan_id) for scan_id in split.test} == {"0"}
    assert "0" not in {scans.subset(scan_id) for scan_id in (*split.train, *split.validation)}
    assert split == split_scans(scans, ["0"], fraction, seed)


def test_split_is_stratified_and_follows_the_seed() -> None:
    scans = many(300)
    split = split_scans(scans, [], 0.2, 0)
    assert len(split.validation) == 60
    assert sum(len(scans.nodules(scan_id)) for scan_id in split.validation) == 20
    assert split_scans(scans, [], 0.2, 1) != split
    assert split_scans(scans, [], 0.0, 0).validation == ()


def test_split_keeps_a_nodule_on_either_side_when_there_are_two() -> None:
    scans = catalog(dict.fromkeys("abcdef", ""), {"a", "b"})
    for seed in range(5):
        split = split_scans(scans, [], 0.1, seed)
        assert len({"a", "b"} & set(split.validation)) == 1


def test_split_refuses() -> None:
    with pytest.raises(InputError) as error:
        split_scans(many(10), ["x", "0", "7"], 0.1, 0)
    assert error.value.key == "split-invalid"
    assert all(names in str(error.value) for names in ("7, x", "0, 1, 2, 3, 4"))
    with pytest.raises(InputError) as error:
        split_scans(many(10), [], 1.0, 0)
    assert error.value.key == "argument-invalid"
    assert "1.0" in str(error.value)
    with pytest.raises(InputError) as error:
        split_scans(many(10), list("01234"), 0.1, 0)
    assert error.value.key == "split-invalid"


def test_an_unknown_subset_names_the_arguments_to_change() -> None:
    with pytest.raises(InputError) as error:
        split_scans(catalog(dict.fromkeys("abc", ""), {"a"}), ["0"], 0.1, 0)
    assert error.value.key == "split-invalid"
    assert all(name in str(error.value) for name in ("data=", "data.test_subsets=[...]"))


def test_unannotated_subsets_may_be_absent_and_are_in_no_set() -> None:
    scans = many(40)
    split = split_scans(scans, ["0"], 0.2, 0, ["1", "absent"])
    chosen = {scans.subset(scan_id) for scan_id in (*split.train, *split.validation, *split.test)}
    assert chosen == {"0", "2", "3", "4"}
    assert {scans.subset(scan_id) for scan_id in split_scans(scans, ["1"], 0.2, 0, ["1"]).test} == {"1"}


def test_subsets_may_be_numbers() -> None:
    assert split_scans(many(10), [0], 0.1, 0) == split_scans(many(10), ["0"], 0.1, 0)


def test_neither_simpleitk_nor_torch_is_needed(cache: Path) -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(['SimpleITK', 'torch', 'wandb', 'matplotlib'])\n"
        "from pathlib import Path\n"
        "import nodule_lightning.preparation.prepare\n"
        "from nodule_lightning.cache.catalog import Catalog\n"
        "assert Catalog.open(Path(sys.argv[1])).entry('a').ct.shape == (2, 2, 2)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache)], check=True)
