"""Phantom data sets: both layouts are read like the challenges', and no scan is ever without its rows."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nodule_lightning.errors import InputError
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.scan_folders import find_scans
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.phantom.dataset import PhantomDataset, write_dataset
from nodule_lightning.phantom.layouts import TianchiLayout
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.trouble import TROUBLES
from nodule_lightning.preparation.layouts import Luna16, Tianchi

QUICK = PhantomSettings(
    matrix=64,
    pixel_mm=(2.2, 2.3),
    slice_mm=(4.0, 4.5),
    body_scale=(0.34, 0.36),
    nodule_counts=(0, 0, 1),
    vessel_ends=20,
)


def write(output: Path, dataset: PhantomDataset, workers: int = 1, truth: bool = False) -> None:
    assert len(list(write_dataset(output, dataset, workers=workers, truth=truth))) == len(dataset)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_luna16_layout_is_read_as_luna16(tmp_path: Path) -> None:
    write(tmp_path, PhantomDataset(QUICK, scans=11))
    read = Luna16(tmp_path)
    assert (
        sorted(read.scans)
        == [f"phantom-0-{index:04d}" for index in range(11)]
        == read_scan_ids(tmp_path / "seriesuids.csv")
    )
    assert read.subset["phantom-0-0003"] == "3"
    assert read.subset["phantom-0-0010"] == "0"
    assert len(read.nodules) == 22
    assert set(read.nodules.scan_id) == set(read.scans)
    assert read.notes == ()
    assert (read.excluded.rows.diameter_mm == -1).all()
    made = make_phantom(QUICK, 0, 3)
    scan = read_scan(read.scans["phantom-0-0003"])
    assert np.array_equal(scan.hu, np.maximum(made.scan.hu, -1024))
    assert scan.grid.origin_xyz_mm == pytest.approx(made.scan.grid.origin_xyz_mm, abs=1e-4)
    assert np.allclose(read.nodules.by_scan()["phantom-0-0003"].centre_xyz_mm, made.nodules.centre_xyz_mm)


def test_tianchi_layout_is_read_as_tianchi(tmp_path: Path) -> None:
    write(tmp_path, PhantomDataset(QUICK, scans=6, trouble={"head": 1}, layout="tianchi"))
    read = Tianchi(tmp_path)
    assert sorted(read.scans) == [*(f"LKDS-{number:05d}" for number in range(1, 7)), "LKDS-10001"]
    assert set(read.subset.values()) == {"train", "val", "test"}
    assert read.subset["LKDS-00004"] == "val"
    assert set(read.nodules.scan_id) == set(read.scans)
    assert read.notes == ()
    assert (tmp_path / "csv/train/annotations.csv").is_file()
    assert (tmp_path / "train/LKDS-00001.raw").is_file()
    assert not list(tmp_path.rglob("annotations_excluded.csv"))


def test_same_seed_gives_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    dataset = PhantomDataset(QUICK, scans=3, trouble={"flipped": 2})
    write(tmp_path / "one", dataset, workers=1, truth=True)
    write(tmp_path / "three", dataset, workers=3, truth=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    write(tmp_path / "other", PhantomDataset(QUICK, seed=1, scans=3))
    assert contents(tmp_path / "other")["subset1/phantom-1-0001.raw"] not in contents(tmp_path / "one").values()


def test_truth_is_written_on_request_on_the_grid_of_the_scan(tmp_path: Path) -> None:
    write(tmp_path / "without", PhantomDataset(QUICK, scans=1))
    assert not (tmp_path / "without" / "truth").exists()
    write(tmp_path / "with", PhantomDataset(QUICK, scans=1, trouble={"flipped": 1}), truth=True)
    for kind, scan_id in (("", "phantom-0-0000"), ("flipped", "phantom-0-flipped-0000")):
        made = make_phantom(QUICK, 0, 0, kind)
        for name, expected in (("lungs", made.lungs), ("nodules", made.nodule_labels)):
            image = SimpleITK.ReadImage(str(tmp_path / "with" / "truth" / f"{scan_id}_{name}.nii.gz"))
            assert np.array_equal(SimpleITK.GetArrayFromImage(image), expected)
            assert np.allclose(image.GetOrigin(), made.scan.grid.origin_xyz_mm, atol=1e-3)
            assert np.allclose(image.GetDirection(), made.scan.grid.direction, atol=1e-5)
    assert (
        sorted(find_scans(tmp_path / "with"))
        == sorted(Luna16(tmp_path / "with").scans)
        == ["phantom-0-0000", "phantom-0-flipped-0000"]
    )


def test_trouble_comes_in_the_number_asked_for_and_leaves_other_scans_alone(tmp_path: Path) -> None:
    write(tmp_path / "plain", PhantomDataset(QUICK, scans=2))
    write(tmp_path / "mixed", PhantomDataset(QUICK, scans=2, trouble={"fluid": 3, "arms": 1, "head": 0}))
    rows = (tmp_path / "mixed/trouble.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "seriesuid,trouble"
    kinds = [row.split(",")[1] for row in rows[1:]]
    assert sorted(kinds) == ["", "", "arms", "fluid", "fluid", "fluid"]
    assert sorted(row.split(",")[0] for row in rows[1:]) == sorted(Luna16(tmp_path / "mixed").scans)
    plain, mixed = contents(tmp_path / "plain"), contents(tmp_path / "mixed")
    assert all(mixed[name] == plain[name] for name in plain if name.startswith("subset"))


def test_a_truncated_file_is_cut_and_refused_and_its_truth_is_whole(tmp_path: Path) -> None:
    write(tmp_path, PhantomDataset(QUICK, scans=0, trouble={"truncated": 2}), truth=True)
    for index in range(2):
        made = make_phantom(QUICK, 0, index, "truncated")
        path = tmp_path / f"subset{index}/phantom-0-truncated-{index:04d}.mhd"
        assert 0 < path.with_suffix(".raw").stat().st_size < 0.96 * made.scan.hu.nbytes
        with pytest.raises(InputError) as error:
            read_scan(path)
        assert error.value.key == "file-damaged"
        lungs = SimpleITK.ReadImage(str(tmp_path / f"truth/{path.stem}_lungs.nii.gz"))
        assert np.array_equal(SimpleITK.GetArrayFromImage(lungs), made.lungs)


def test_a_rerun_with_fewer_scans_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, PhantomDataset(QUICK, scans=3, trouble={"arms": 1}))
    before = contents(tmp_path)
    for dataset, name in (
        (PhantomDataset(QUICK, scans=2, trouble={"arms": 1}), "scans=3"),
        (PhantomDataset(QUICK, scans=3), "trouble.arms=1"),
    ):
        with pytest.raises(InputError) as error:
            write(tmp_path, dataset)
        assert error.value.key == "output-refused"
        assert name in str(error.value)
    assert contents(tmp_path) == before


def test_a_data_set_may_grow_and_every_scan_has_its_rows(tmp_path: Path) -> None:
    write(tmp_path / "grown", PhantomDataset(QUICK, scans=1))
    write(tmp_path / "grown", PhantomDataset(QUICK, scans=3))
    write(tmp_path / "whole", PhantomDataset(QUICK, scans=3))
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_while_a_data_set_grows_it_has_no_csv_file(tmp_path: Path) -> None:
    write(tmp_path, PhantomDataset(QUICK, scans=1, trouble={"arms": 1}))
    growing = write_dataset(tmp_path, PhantomDataset(QUICK, scans=3, trouble={"arms": 1}), workers=1)
    next(growing)
    growing.close()
    assert not list(tmp_path.glob("*.csv"))
    with pytest.raises(InputError) as error:
        Luna16(tmp_path)
    assert error.value.key == "file-missing"


@pytest.mark.parametrize(
    "other",
    [
        PhantomDataset(QUICK, seed=1, scans=1),
        PhantomDataset(QUICK, scans=1, layout="tianchi"),
        PhantomDataset(PhantomSettings(matrix=64), scans=1),
    ],
    ids=["seed", "layout", "settings"],
)
def test_a_folder_of_another_data_set_is_refused(tmp_path: Path, other: PhantomDataset) -> None:
    write(tmp_path, PhantomDataset(QUICK, scans=1))
    with pytest.raises(InputError) as error:
        write(tmp_path, other)
    assert error.value.key == "output-refused"
    assert str(tmp_path) in str(error.value)


def test_a_folder_with_other_files_and_a_damaged_manifest_are_refused(tmp_path: Path) -> None:
    (tmp_path / "phantom.json").write_text('{"seed": 0}', encoding="utf-8")
    with pytest.raises(InputError) as error:
        write(tmp_path, PhantomDataset(QUICK, scans=1))
    assert error.value.key == "file-damaged"
    (tmp_path / "phantom.json").rename(tmp_path / "mine.json")
    with pytest.raises(InputError) as error:
        write(tmp_path, PhantomDataset(QUICK, scans=1))
    assert error.value.key == "output-refused"


def test_ids_of_the_tianchi_layout_are_unique() -> None:
    PhantomDataset(QUICK, scans=9_999, layout="tianchi")
    last_and_first = [(9_998, ""), (0, TROUBLES[0]), (9_998, TROUBLES[0]), (0, TROUBLES[1])]
    assert len({TianchiLayout().scan_id(0, index, kind) for index, kind in last_and_first}) == 4


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"scans": 0}, "scans"),
        ({"scans": -1}, "-1"),
        ({"trouble": {"arms": -2}}, "trouble.arms"),
        ({"trouble": {"arm": 1}}, "'arm'"),
        ({"layout": "lidc"}, "'lidc'"),
        ({"layout": "tianchi", "scans": 10_000}, "9999"),
        ({"layout": "tianchi", "trouble": {"arms": 10_000}}, "9999"),
        ({"seed": -1}, "-1"),
    ],
)
def test_wrong_definitions_are_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as error:
        PhantomDataset(QUICK, **values)  # type: ignore[arg-type]
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)
