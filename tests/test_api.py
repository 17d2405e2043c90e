"""The Python API: lazy, typed, and in agreement with the commands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nodule_lightning as nl
from nodule_lightning.cache.entries import open_entry
from nodule_lightning.cli import ensemble, predict
from tests.chest import draw_chest, write_dicom, write_image
from tests.commands import TINY, Runner


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("a scan") / "肺 1.mha", draw_chest().hu, draw_chest().grid)


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> nl.Detector:
    return nl.load_detector(checkpoint, device="cpu")


def same(first: nl.Candidates, second: nl.Candidates) -> bool:
    columns = ("centre_xyz_mm", "probability", "diameter_mm")
    return len(first) > 0 and all(np.array_equal(getattr(first, name), getattr(second, name)) for name in columns)


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8")
    return set(ended.stdout.split())


def test_the_import_loads_nothing_heavy() -> None:
    loaded = loaded_after("import nodule_lightning as nl; nl.__version__; dir(nl); nl.__all__")
    assert not loaded & {"torch", "numpy", "SimpleITK", "hydra", "pytorch_lightning", "scipy"}
    assert {name for name in loaded if name.startswith("nodule_lightning.")} == set()


def test_what_needs_no_network_loads_no_torch(tmp_path: Path) -> None:
    table = tmp_path / "marks.csv"
    table.write_text("seriesuid,coordX,coordY,coordZ,probability\na,1,2,3,0.5\n")
    assert "torch" not in loaded_after(f"import nodule_lightning as nl; nl.read_candidates({str(table)!r}); nl.Table")


def test_every_name_is_listed_and_there() -> None:
    assert set(nl.__all__) <= set(dir(nl))
    assert all(getattr(nl, name).__doc__ for name in nl.__all__)
    with pytest.raises(AttributeError, match="load_detektor"):
        _ = nl.load_detektor  # type: ignore[attr-defined]


def test_a_scan_its_path_and_its_entry_give_the_same(detector: nl.Detector, scan_file: Path) -> None:
    scan = nl.read_scan(str(scan_file))
    found = detector.search(scan)
    assert (np.diff(found.probability) <= 0).all()
    assert same(found, detector.search(scan_file))
    assert same(found, detector.search(str(scan_file)))
    assert same(found, detector.search(nl.prepare(scan, detector.preparation)))
    assert same(found, detector.search(nl.prepare(scan_file, TINY), device="cpu", precision="auto"))


def test_the_reading_can_be_set(detector: nl.Detector, scan_file: Path) -> None:
    whole, shifted = nl.read_scan(scan_file), nl.ReadingSettings(offset_hu=-24)
    assert nl.read_scan(scan_file, shifted).hu.max() == whole.hu.max() - 24
    assert nl.prepare(scan_file, TINY, shifted).ct.max() < nl.prepare(whole, TINY).ct.max()
    assert same(detector.search(scan_file, reading=shifted), detector.search(nl.read_scan(scan_file, shifted)))


def test_a_dicom_folder_is_a_scan(detector: nl.Detector, tmp_path: Path) -> None:
    write_dicom(tmp_path / "case", draw_chest().hu, "1.2.3.4")
    assert same(detector.search(tmp_path / "case"), detector.search(nl.read_scan(tmp_path / "case")))


def test_the_search_is_that_of_the_command(
    run: Runner, checkpoint: Path, reducer: Path, scan_file: Path, tmp_path: Path
) -> None:
    for second_stage in (None, reducer):
        output = tmp_path / f"reducer={second_stage is not None}"
        arguments = [] if second_stage is None else [f"reducer={second_stage}"]
        ended = run(predict.main, f"checkpoint={checkpoint}", f"input={scan_file}", f"output={output}", *arguments)
        assert ended.code == 0, ended.error
        table = nl.read_candidates(output / "submission.csv")
        found = nl.load_detector(checkpoint, reducer=second_stage).search(scan_file)
        np.testing.assert_array_equal(table.rows.centre_xyz_mm, found.centre_xyz_mm)
        np.testing.assert_array_equal(table.rows.probability, found.probability)


def test_the_second_stage_stays_with_the_copy_that_moved(checkpoint: Path, reducer: Path) -> None:
    first = nl.load_detector(checkpoint, reducer=reducer, device="cpu")
    second = first.on("cpu")
    assert first.reducer is not None
    assert second.reducer is not None
    assert second.network is not first.network
    assert second.reducer.network is not first.reducer.network


def test_an_entry_of_other_settings_is_refused(detector: nl.Detector) -> None:
    with pytest.raises(nl.InputError) as error:
        detector.search(nl.prepare(draw_chest(), nl.PreparationSettings(spacing_mm=5.0)))
    assert error.value.key == "cache-settings-differ"
    assert "5.0" in str(error.value)


def test_what_cannot_be_used_is_named(checkpoint: Path, detector: nl.Detector, scan_file: Path) -> None:
    for call, key, value in (
        (lambda: nl.load_detector(checkpoint, device="tpu"), "argument-invalid", "tpu"),
        (lambda: nl.load_detector(checkpoint, device="cuda:77"), "device-unavailable", "cuda:77"),
        (lambda: detector.search(scan_file, precision="fp8"), "argument-invalid", "fp8"),
    ):
        with pytest.raises(nl.InputError) as error:
            call()
        assert error.value.key == key
        assert value in str(error.value)


def test_a_scan_without_lungs_is_searched_with_a_warning(
    detector: nl.Detector, caplog: pytest.LogCaptureFixture
) -> None:
    scan = draw_chest(lungs=False)
    detector.search(scan)
    assert nl.prepare(scan, TINY).record["notes"]
    assert scan.scan_id in caplog.text


def test_preparing_is_that_of_the_cache(cache: Path) -> None:
    there, here = open_entry(cache, "one"), nl.prepare(draw_chest(), TINY)
    np.testing.assert_array_equal(there.ct, here.ct)
    np.testing.assert_array_equal(there.lung, here.lung)
    assert there.grid == here.grid
    assert nl.prepare(draw_chest()).grid.spacing_zyx_mm == (1.0, 1.0, 1.0)


def write_tables(folder: Path) -> list[Path]:
    contents = {
        "submission": "seriesuid,coordX,coordY,coordZ,probability\na,0,0,0,0.9\na,50,0,0,0.8\nb,0,0,0,0.7\n",
        "annotations": "seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,0,0,8\nb,0,1,0,6\n",
        "excluded": "seriesuid,coordX,coordY,coordZ,diameter_mm\na,50,0,0,-1\n",
        "seriesuids": "seriesuid\na\nb\n",
    }
    for name, text in contents.items():
        (folder / f"{name}.csv").write_text(text)
    return [folder / f"{name}.csv" for name in contents]


def test_a_score_of_tables_is_that_of_their_files(tmp_path: Path) -> None:
    submission, annotations, excluded, scans = write_tables(tmp_path)
    of_files = nl.froc(submission, str(annotations), excluded, scans, bootstraps=20)
    of_tables = nl.froc(
        nl.read_candidates(submission),
        nl.read_findings(annotations),
        nl.read_findings(excluded, sized=False),
        ["a", "b"],
        bootstraps=20,
    )
    assert isinstance(of_files, nl.FrocResult)
    assert of_files.to_dict() == of_tables.to_dict()
    assert of_files.counts.false_positives == 0
    assert nl.froc(submission, annotations, None, scans, bootstraps=0).counts.false_positives == 1
    assert nl.froc(submission, annotations, None, scans, protocol="tianchi", bootstraps=0).mean >= 0
    with pytest.raises(nl.InputError) as error:
        nl.froc(submission, annotations, None, scans, protocol="kaggle")
    assert error.value.key == "argument-invalid"


def test_fusion_is_that_of_the_command(run: Runner, tmp_path: Path) -> None:
    first = write_tables(tmp_path)[0]
    second = tmp_path / "other.csv"
    second.write_text("seriesuid,coordX,coordY,coordZ,probability\na,1,0,0,0.5\nc,0,0,0,0.4\n")
    ended = run(ensemble.main, f"members=['{first}','{second}']", "weights=[3,1]", f"output={tmp_path / 'fused.csv'}")
    assert ended.code == 0, ended.error
    expected = nl.read_candidates(tmp_path / "fused.csv")
    of_tables = [nl.read_candidates(first), nl.read_candidates(second)]
    for fused in (
        nl.fuse([first, str(second)], [3, 1]),
        nl.fuse(of_tables, [3, 1]),
        nl.fuse([of_tables[0], second], (6, 2)),
    ):
        nl.write_candidates(tmp_path / "again.csv", fused)
        again = nl.read_candidates(tmp_path / "again.csv")
        assert again.scan_id.tolist() == expected.scan_id.tolist()
        np.testing.assert_array_equal(again.rows.centre_xyz_mm, expected.rows.centre_xyz_mm)
        np.testing.assert_array_equal(again.rows.probability, expected.rows.probability)


def test_fusion_refuses_what_is_no_probability(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,probability\na,1,0,0,5\n")
    with pytest.raises(nl.InputError) as error:
        nl.fuse([path])
    assert error.value.key == "table-value-invalid"
    assert "scores" in str(error.value)
    with pytest.raises(nl.InputError) as none:
        nl.fuse([])
    assert none.value.key == "argument-missing"
