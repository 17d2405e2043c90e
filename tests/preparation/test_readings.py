"""LIDC-IDRI as published: from XML beside scans to entries and tables, each scan on its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cache.entries import open_entry
from nodule_lightning.cli import prepare
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import read_findings
from nodule_lightning.preparation.filling import PreparedScan, fill_cache
from nodule_lightning.preparation.layouts import Lidc
from nodule_lightning.preparation.readings import ReadingFiles, read_marks, write_tables
from nodule_lightning.structures import Failure
from tests.cache.runs import COARSE
from tests.chest import GRID, NODULE_XYZ_MM, draw_chest, write_dicom, write_image
from tests.commands import Runner
from tests.readings import BOMB, RADIOGRAPH, contour, document, drawn_ball, nodule, non_nodule, outline, write

READ = [
    [outline(drawn_ball(), GRID, malignancy=5)],
    [outline(drawn_ball((2, 0, 0)), GRID, malignancy=4, texture=1)],
    [outline(drawn_ball(), GRID, malignancy=3), non_nodule(-150.0, 20, 30)],
    [nodule(contour(-150.0, [(40, 41)]))],
]
CHEST = draw_chest()


def scan(root: Path, *names: str) -> Path:
    for name in names:
        write_image(root / f"{name}.mhd", CHEST.hu, GRID)
    return root


def empty_scan(root: Path, *names: str) -> Path:
    for name in names:
        write_image(root / f"{name}.mhd", np.zeros((4, 5, 6), np.int16))
    return root


def fill(dataset: Lidc, cache: Path) -> dict[str, PreparedScan | Failure]:
    return {result.scan_id: result for result in fill_cache(dataset, cache, COARSE)}


def reasons(results: dict[str, PreparedScan | Failure]) -> dict[str, str]:
    return {scan_id: result.reason for scan_id, result in results.items() if isinstance(result, Failure)}


def test_a_scan_with_its_xml_in_another_folder(tmp_path: Path) -> None:
    root = scan(tmp_path / "ct", "1.2.3")
    write(tmp_path / "xml/157/158.xml", document("1.2.3", *READ))
    cache = tmp_path / "cache"
    assert fill(Lidc(root, tmp_path / "xml"), cache) == {"1.2.3": PreparedScan("1.2.3")}
    entry = open_entry(cache, "1.2.3")
    assert len(entry.labels.nodules) == 1
    assert np.linalg.norm(entry.labels.nodules.centre_xyz_mm[0] - NODULE_XYZ_MM) < 2
    assert entry.labels.nodules.diameter_mm[0] == pytest.approx(18, rel=0.1)
    assert sorted(entry.labels.excluded.diameter_mm > 0) == [False, False, True, True]
    assert entry.outlines is not None
    assert entry.outlines.max() == 3
    place = np.rint(entry.grid.to_index(NODULE_XYZ_MM[None])[0]).astype(int)
    assert entry.outlines[tuple(place)] == 3
    assert entry.record["nodules"] == {"annotated": 1, "in_crop": 1, "in_mask": 1}
    nodules, excluded = write_tables(cache)
    [row] = nodules.read_text().splitlines()[1:]
    assert row.startswith("1.2.3,")
    assert row.endswith(",nodule,3,4.0,3.667")
    np.testing.assert_allclose(read_findings(nodules).rows.centre_xyz_mm, entry.labels.nodules.centre_xyz_mm, atol=1e-5)
    assert len(read_findings(excluded, sized=False)) == 4


def test_other_settings_of_agreement_change_labels_and_new_xml_prepares_again(tmp_path: Path) -> None:
    root, cache = scan(tmp_path / "ct", "1.2.3"), tmp_path / "cache"
    xml = write(root / "1.2.3.xml", document("1.2.3", *READ))
    fill(Lidc(root), cache)
    assert fill(Lidc(root, least_readers=4), cache) == {"1.2.3": PreparedScan("1.2.3", skipped=True)}
    entry = open_entry(cache, "1.2.3")
    assert (len(entry.labels.nodules), len(entry.labels.excluded)) == (0, 5)
    assert entry.record["nodules"]["annotated"] == 0
    assert [len(entry.record["readings"][name]) for name in ("nodules", "excluded")] == [0, 5]
    write(xml, document("1.2.3", *READ[:3], []))
    assert fill(Lidc(root), cache) == {"1.2.3": PreparedScan("1.2.3")}
    assert len(open_entry(cache, "1.2.3").labels.excluded) == 3


def test_a_bad_xml_is_the_failure_of_its_scan_alone(tmp_path: Path) -> None:
    root = empty_scan(tmp_path / "ct", "bomb", "cut", "foreign", "none", "few", "twice", "other")
    scan(root, "good")
    good = document("good", *READ)
    write(root / "good.xml", good)
    write(root / "bomb.xml", BOMB)
    write(root / "cut.xml", good.replace(">good<", ">cut<")[: len(good) // 2])
    write(root / "foreign.xml", "<html><body/></html>")
    write(root / "few.xml", document("few", *READ[:2]))
    write(root / "twice.xml", document("twice", *READ))
    write(root / "again/twice.xml", document("twice", *READ[::-1]))
    write(root / "other.xml", document("none of these", *READ))
    failed = reasons(fill(Lidc(root), tmp_path / "cache"))
    assert set(failed) == {"bomb", "cut", "foreign", "none", "few", "twice", "other"}
    for scan_id, named in {"bomb": "attack", "cut": "cut short", "foreign": "html", "few": "2 readings"}.items():
        assert named in failed[scan_id]
    for scan_id in ("none", "other"):
        assert "no XML" in failed[scan_id]
    assert "differ" in failed["twice"]
    for reason in failed.values():
        assert "\n" not in reason
        assert str(tmp_path) not in reason


def keyed(files: Sequence[Path], scan_id: str) -> str:
    with pytest.raises(InputError) as error:
        read_marks(ReadingFiles(tuple(files), 3), scan_id)
    return error.value.key


def test_the_keys_of_bad_readings(tmp_path: Path) -> None:
    one = write(tmp_path / "a.xml", document("1.2.3", *READ))
    other = write(tmp_path / "b.xml", document("1.2.3", *READ[::-1]))
    few = write(tmp_path / "c.xml", document("1.2.3", *READ[:2]))
    assert keyed([], "1.2.3") == "annotations-missing"
    assert keyed([one, other], "1.2.3") == "scan-repeated"
    assert keyed([few], "1.2.3") == "annotations-missing"
    assert keyed([one], "1.2.4") == "scan-invalid"
    same = write(tmp_path / "d.xml", document("1.2.3", *READ) + "\n")
    assert len(read_marks(ReadingFiles((one, same), 3), "1.2.3").marks) == 5


def test_the_tree_of_the_archive(run: Runner, tmp_path: Path) -> None:
    """Series with XML beside their slices; a radiograph, whose XML is of another kind, is left out."""
    root = tmp_path / "LIDC-IDRI"
    series = root / "LIDC-IDRI-0001/01-01-2000-1/3000566-2"
    write_dicom(series, CHEST.hu, "1.9.1", grid=GRID)
    write(series / "069.xml", document("1.9.1", *READ))
    radiograph = root / "LIDC-IDRI-0001/01-01-2000-2/5"
    write_dicom(radiograph, CHEST.hu[:1], "1.9.2", grid=GRID)
    write(radiograph / "070.xml", RADIOGRAPH)
    common = ["data=lidc", f"data.root={root}", "cache=out", "preparation.spacing_mm=4", "workers=1"]
    ended = run(prepare.main, *common)
    assert ended.code == 0, ended.error
    assert "1 series are chest radiographs" in ended.out
    assert len(read_findings(Path("out/annotations.csv"))) == 1
    assert len(read_findings(Path("out/annotations_excluded.csv"), sized=False)) == 4
    assert len(open_entry(Path("out"), "1.9.1").labels.nodules) == 1


def test_a_folder_without_xml_and_an_impossible_agreement(run: Runner, tmp_path: Path) -> None:
    root = empty_scan(tmp_path / "ct", "1.2.3")
    for arguments, key in (
        ([], "file-missing"),
        ([f"data.xml={tmp_path / 'gone'}"], "file-missing"),
        (["data.least_readers=0"], "argument-invalid"),
        (["data.least_readers=three"], "argument-invalid"),
    ):
        ended = run(prepare.main, "data=lidc", f"data.root={root}", "cache=out", *arguments)
        assert ended.key == key, arguments
    write(root / "x.xml", BOMB)
    write(root / "y.xml", document("1.2.9", *READ))
    dataset = Lidc(root)
    assert ["belong to no scan" in dataset.notes[0], "1.2.9" in dataset.notes[1]] == [True, True]


@pytest.mark.real_data
def test_a_slab_of_a_real_series(real_data: Path, tmp_path: Path) -> None:
    """The nodule's row is LUNA16's although the slab holds 16 of the 133 slices."""
    dataset = Lidc(real_data / "lidc_dicom_slab", real_data / "lidc_xml")
    [(scan_id, result)] = fill(dataset, tmp_path / "cache").items()
    assert isinstance(result, PreparedScan), result
    official = read_findings(real_data / "lidc/annotations.csv").rows
    own = open_entry(tmp_path / "cache", scan_id).labels.nodules
    np.testing.assert_allclose(own.centre_xyz_mm, official.centre_xyz_mm, atol=0.01)
    np.testing.assert_allclose(own.diameter_mm, official.diameter_mm, rtol=1e-3)
