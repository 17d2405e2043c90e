"""Layouts of raw data sets: scans, tables and subsets."""

from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.preparation.layouts import Folder, Luna16, Tianchi
from tests.chest import write_dicom, write_image

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def scan(path: Path) -> None:
    write_image(path, np.zeros((4, 5, 6), np.int16))


def table(path: Path, *scan_ids: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{scan_id},1,2,3,4\n" for scan_id in scan_ids))


@pytest.mark.parametrize("folder", [".", "CSVFILES", "evaluationScript/annotations"])
def test_luna16(tmp_path: Path, folder: str) -> None:
    scan(tmp_path / "subset3/1.2.3.mhd")
    scan(tmp_path / "subset0/subset0/1.2.4.mhd")
    scan(tmp_path / "seg-lungs-LUNA16/1.2.3.mhd")
    table(tmp_path / folder / "annotations.csv", "1.2.3", "1.2.9")
    table(tmp_path / folder / "annotations_excluded.csv", "1.2.4")
    data = Luna16(str(tmp_path))
    assert data.scans == {
        "1.2.3": tmp_path / "subset3/1.2.3.mhd",
        "1.2.4": tmp_path / "subset0/subset0/1.2.4.mhd",
    }
    assert data.subset == {"1.2.3": "3", "1.2.4": "0"}
    assert data.nodules.scan_id.tolist() == ["1.2.3", "1.2.9"]
    assert data.excluded.scan_id.tolist() == ["1.2.4"]
    assert data.notes == ()


def missing(layout: type[Luna16 | Tianchi], root: Path, *names: str) -> bool:
    with pytest.raises(InputError) as error:
        layout(root)
    return error.value.key == "file-missing" and all(name in str(error.value) for name in (str(root), *names))


def test_luna16_names_what_is_missing(tmp_path: Path) -> None:
    assert missing(Luna16, tmp_path / "gone")
    assert missing(Luna16, tmp_path, "subset0")
    scan(tmp_path / "subset0/a.mhd")
    assert missing(Luna16, tmp_path, "annotations.csv")
    table(tmp_path / "annotations.csv")
    data = Luna16(tmp_path)
    assert len(data.excluded) == 0
    assert "no annotations_excluded.csv" in data.notes[0]
    scan(tmp_path / "subset1/a.mhd")
    with pytest.raises(InputError) as error:
        Luna16(tmp_path)
    assert error.value.key == "scan-repeated"
    assert all(str(tmp_path / name) in str(error.value) for name in ("subset0/a.mhd", "subset1/a.mhd"))


@pytest.mark.parametrize(
    "csv", ["csv/{}/annotations.csv", "{}/annotations.csv", "annotations_{}_600.csv", "{}_annotations.csv"]
)
def test_tianchi(tmp_path: Path, csv: str) -> None:
    scan(tmp_path / "train_subset00/LKDS-00001.mhd")
    scan(tmp_path / "train_subset01/LKDS_00003.mhd")
    scan(tmp_path / "val/LKDS-00002.mhd")
    scan(tmp_path / "Test_set/LKDS-00009.mhd")
    table(tmp_path / csv.format("train"), "LKDS_00001", "LKDS-00003")
    table(tmp_path / csv.format("val"), "LKDS-00002")
    data = Tianchi(tmp_path)
    names = {"LKDS-00001": "train", "LKDS-00003": "train", "LKDS-00002": "val", "LKDS-00009": "test"}
    assert data.subset == names
    assert set(data.scans) == set(names)
    assert sorted(data.nodules.scan_id) == ["LKDS-00001", "LKDS-00002", "LKDS-00003"]
    assert len(data.excluded) == 0
    assert "no annotations of test" in data.notes[0]


def test_tianchi_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert missing(Tianchi, tmp_path, "train")
    scan(tmp_path / "train/LKDS-00001.mhd")
    assert missing(Tianchi, tmp_path, "train", str(tmp_path / "csv/train/annotations.csv"))


def test_folder(tmp_path: Path) -> None:
    root = tmp_path / "医院 (1)"
    scan(root / "a.nii.gz")
    write_dicom(root / "Secret^Name", np.zeros((5, 12, 14), np.int16), "1.2.3.4")
    table(root / "marks.csv", "a")
    (root / "subsets.csv").write_text("seriesuid,subset\na,odd\n")
    data = Folder(root, annotations=str(root / "marks.csv"), excluded=root / "marks.csv", subsets=root / "subsets.csv")
    assert data.scans == {"1.2.3.4": root / "Secret^Name", "a": root / "a.nii.gz"}
    assert data.subset == {"1.2.3.4": "", "a": "odd"}
    assert len(data.nodules) == len(data.excluded) == 1
    (note,) = Folder(root).notes
    assert "annotations" in note
    with pytest.raises(InputError) as error:
        Folder(root, annotations=root / "gone.csv")
    assert error.value.key == "file-missing"
    assert str(root / "gone.csv") in str(error.value)


@pytest.mark.real_data
def test_real_luna16(real_data: Path) -> None:
    data = Luna16(real_data / "lidc")
    assert sorted(data.subset.values()) == ["1", "3"]
    assert len(data.nodules) == 1
