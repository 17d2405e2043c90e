"""`nodule-phantom` and `nodule-plant` on the command line."""

from pathlib import Path

from nodule_lightning.cli import phantom, plant
from nodule_lightning.io.scan_folders import find_scans
from nodule_lightning.preparation.layouts import Tianchi
from tests.commands import Runner

QUICK = (
    "phantom=coarse",
    "phantom.matrix=80",
    "phantom.pixel_mm=[4.3,4.4]",
    "phantom.slice_mm=[4,4.1]",
    "phantom.vessel_ends=20",
    "workers=1",
)


def test_layout_trouble_and_truth_are_chosen_on_the_command_line(run: Runner) -> None:
    ended = run(
        phantom.main, "output=made, 1", "scans=1", "trouble.abdomen=2", "layout=tianchi", "truth=true", "seed=3", *QUICK
    )
    assert ended.code == 0, ended.error
    assert "3 scans with" in ended.out
    assert sorted(Tianchi("made, 1").scans) == ["LKDS-00001", "LKDS-20001", "LKDS-20002"]
    assert '"diameters": "tianchi"' in Path("made, 1/phantom.json").read_text(encoding="utf-8")
    assert len(list(Path("made, 1/truth").iterdir())) == 6


def test_a_smaller_rerun_and_wrong_kinds_are_one_line(run: Runner) -> None:
    assert run(phantom.main, "output=made", "scans=2", *QUICK).code == 0
    for arguments, key, named in (
        (("output=made", "scans=1", *QUICK), "output-refused", "scans=2"),
        (("output=other", "trouble.haed=1"), "argument-unknown", "did you mean trouble.head?"),
        (("output=other", "layout=lidc", "phantom.diameters=luna16"), "argument-invalid", "'lidc'"),
    ):
        ended = run(phantom.main, *arguments)
        assert ended.key == key
        assert named in ended.line()


def test_plant_writes_scans_and_refuses_in_one_line(run: Runner) -> None:
    assert run(phantom.main, "output=made", "scans=1", *QUICK).code == 0
    ended = run(
        plant.main, "input=made", "annotations=made/annotations.csv", "output=planted 2", "plant.diameters_mm=[9,12]"
    )
    assert ended.code == 0, ended.error
    assert "planted 2" in ended.out
    assert list(find_scans(Path("planted 2"))) == ["phantom-0-0000-planted-0-0"]
    Path("made/subset0/cut.mha").write_bytes(b"cut")
    ended = run(plant.main, "input=made", "output=some", "plant.diameters_mm=[9]")
    assert ended.code == 1
    assert "cut: " in ended.out
    assert len(find_scans(Path("some"))) == 1
    assert "1 of 2" in ended.error
    assert "cut: " in ended.error
    for arguments, key, named in (
        (("input=made", "output=planted 2"), "output-refused", "planted 2"),
        (("input=made", "output=x", "plant.diameters_mm=[1]"), "argument-invalid", "diameters_mm"),
        (("input=nowhere", "output=x"), "file-missing", "nowhere"),
    ):
        ended = run(plant.main, *arguments)
        assert ended.key == key
        assert named in ended.line()
