"""nodule-predict on each kind of input, and what it says of a scan."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from hashlib import sha256
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from nodule_lightning.cli import predict
from nodule_lightning.cli.predict import render
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.geometry import Grid
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.lungs.segmentation import FALLBACK_NOTE
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.search.predict import Prediction
from nodule_lightning.structures import Candidates, Entry
from tests import warm
from tests.chest import GRID, draw_chest, write_dicom, write_image
from tests.commands import TINY, Ended, Runner, recipe, write_reducer_checkpoint
from tests.ranks import ENVIRONMENT, finished


def rows(ended: Ended, output: str) -> dict[str, list[tuple[float, ...]]]:
    assert ended.code == 0, ended.error
    found: dict[str, list[tuple[float, ...]]] = {}
    with Path(output, "submission.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["seriesuid"], []).append(tuple(float(row[name]) for name in list(row)[1:]))
    return found


def relative(ended: Ended) -> str:
    """Give what was printed without the place of the working folder."""
    return ended.out.replace(f"{Path.cwd()}/", "")


def test_a_cache_and_the_raw_scan_give_the_same_candidates(
    run: Runner, checkpoint: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = tmp_path / "chosen, [1].csv"
    chosen.write_text("seriesuid\ntwo\n")
    from_cache = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"scans={chosen}", "output=a=(1), 肺")
    assert list(rows(from_cache, "a=(1), 肺")) == ["two"]
    scan = write_image(tmp_path / "My CT (1)" / "肺.mha", draw_chest().hu, draw_chest().grid)
    from_raw = run(predict.main, f"checkpoint={checkpoint}", f"input={scan}", "output=b")
    assert rows(from_raw, "b")["肺"] == rows(from_cache, "a=(1), 肺")["two"]
    assert "submission.csv" in from_raw.out


def test_a_dicom_folder_and_a_folder_of_scans(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    chest = draw_chest()
    write_dicom(tmp_path / "all" / "case", chest.hu, "1.2.3.4")
    one = run(predict.main, f"checkpoint={checkpoint}", f"input={tmp_path / 'all' / 'case'}", "output=one")
    write_image(tmp_path / "all" / "file.nii.gz", chest.hu, chest.grid)
    both = run(predict.main, f"checkpoint={checkpoint}", f"input={tmp_path / 'all'}", "output=both")
    assert list(rows(one, "one")) == ["1.2.3.4"]
    assert sorted(rows(both, "both")) == ["1.2.3.4", "file"]
    assert "Secret" not in both.out + both.error + Path("both/submission.csv").read_text(encoding="utf-8")


def test_doubts_about_a_scan_stand_in_the_list_and_at_the_end(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    chest = draw_chest()
    kept = np.r_[0:20, 21:54]
    z_mm = list(GRID.origin_xyz_mm[2] + 3.0 * kept)
    for series in ("1.2.3", "1.2.4"):
        pixels = chest.hu[kept]
        write_dicom(tmp_path / "all" / series, pixels, series, grid=GRID, z_mm=z_mm)
    write_image(tmp_path / "all" / "sound.mha", chest.hu, GRID)
    arguments = [f"checkpoint={checkpoint}", "show=0", "output=out", "workers=0"]
    ended = run(predict.main, f"input={tmp_path / 'all'}", *arguments, "reading=lenient")
    assert ended.code == 0, ended.error
    with Path("out/scans.csv").open(encoding="utf-8", newline="") as file:
        doubts = {row["seriesuid"]: row["doubts"] for row in csv.DictReader(file)}
    assert read_scan_ids(Path("out/scans.csv")) == list(doubts) == ["1.2.3", "1.2.4", "sound"]
    assert "missing" in doubts["1.2.3"]
    assert doubts["sound"] == ""
    last = ended.out.splitlines()[-1]
    assert last.startswith("2 scans ")
    assert last.endswith(f"1.2.3: {doubts['1.2.3']}")
    assert json.loads(Path("out/prediction.json").read_text(encoding="utf-8"))["reading"]["lenient"] is True


def test_settings_of_the_reader_are_refused_for_a_cache(run: Runner, checkpoint: Path, cache: Path) -> None:
    refused = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", "output=out", "reading.offset_hu=-1024")
    assert refused.key == "argument-conflict"


def test_other_formats_on_request(run: Runner, checkpoint: Path, cache: Path) -> None:
    arguments = [f"checkpoint={checkpoint}", f"input={cache}"]
    chosen = "formats=[list,grand_challenge,slicer,pictures]"
    found = rows(run(predict.main, *arguments, "output=out", chosen), "out")
    assert found
    for folder, suffix in (("grand_challenge", ".json"), ("slicer", ".mrk.json"), ("pictures", ".png")):
        assert sorted(path.name for path in Path("out", folder).iterdir()) == [
            f"{scan_id}{suffix}" for scan_id in ("one", "three", "two")
        ]
    told = Path("out/candidate_list.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(told) == sum(map(len, found.values()))
    run(predict.main, *arguments, "output=one", "formats=list")
    assert sorted(path.name for path in Path("one").iterdir()) == [
        "candidate_list.csv", "prediction.json", "scans.csv", "submission.csv",
    ]  # fmt: skip
    refused = run(predict.main, *arguments, "output=none", "formats=[pdf]")
    assert refused.key == "argument-invalid"
    for named in ("'pdf'", "list", "grand_challenge", "slicer", "pictures"):
        assert named in refused.line()
    assert not Path("none").exists()


def test_what_an_earlier_search_left_is_named(run: Runner, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.csv"
    chosen.write_text("seriesuid\ntwo\n")
    arguments = [f"checkpoint={checkpoint}", f"input={cache}", "output=out", "show=0"]
    every = "formats=[list,grand_challenge,slicer,pictures]"
    for _ in range(2):
        again = run(predict.main, *arguments, every)
        assert again.code == 0
        assert "earlier" not in again.out
    before = {path: path.read_bytes() for path in Path("out").rglob("*.*")}
    ended = run(predict.main, *arguments, f"scans={chosen}", "formats=[slicer,pictures]")
    note = relative(ended).splitlines()[-1]
    assert note.startswith("note: out ")
    for named in (
        "candidate_list.csv",
        "3 of grand_challenge/",
        "2 of slicer/",
        "2 of pictures/",
        "pictures/three.png",
    ):
        assert named in note
    assert all(path.exists() for path in before)
    assert "belong" not in run(predict.main, *arguments, f"scans={chosen}", every, "output=other").out


def test_a_picture_that_cannot_be_written_costs_no_candidate(
    run: Runner, checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [f"checkpoint={checkpoint}", f"input={cache}", "formats=[list,pictures]"]
    whole = rows(run(predict.main, *arguments, "output=whole"), "whole")
    Path("out").mkdir()
    Path("out/pictures").write_text("in the way")
    ended = run(predict.main, *arguments, "output=out")
    assert rows(ended, "out") == whole
    for scan_id in ("one", "three", "two"):
        assert f"note: {scan_id}: " in relative(ended)
        assert f"out/pictures/{scan_id}.png" in relative(ended)
    assert Path("out/candidate_list.csv").read_bytes() == Path("whole/candidate_list.csv").read_bytes()

    nearly_full = shutil.disk_usage(Path.cwd())._replace(free=32 * 10**6)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: nearly_full)
        ended = run(predict.main, *arguments, "output=nearly_full")
    assert rows(ended, "nearly_full") == whole
    assert any("one.png" in line and "32 MB" in line for line in ended.out.splitlines())
    assert not Path("nearly_full/pictures").exists()

    def trip(*_: object) -> None:
        raise RuntimeError("no\nfont")

    monkeypatch.setattr("nodule_lightning.report.overlay.draw_overlay", trip)
    ended = run(predict.main, *arguments, "output=unforeseen")
    assert rows(ended, "unforeseen") == whole
    assert any("one: " in line and "RuntimeError: no font" in line for line in ended.out.splitlines())


def test_a_segmentations_components_are_candidates(run: Runner, cache: Path, tmp_path: Path) -> None:
    model = recipe("model=unet3d_segmentation_narrow", "+model.spacing_mm=4.0")
    torch.manual_seed(0)
    network = instantiate(model["network"])
    # Untrained weights, which find this and that.
    torch.nn.init.zeros_(network.head.output.bias)
    torch.nn.init.normal_(network.head.output.weight)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    about = {"version": "0", "model": model, "preparation": TINY.to_dict()}
    checkpoint = tmp_path / "segmentation.ckpt"
    torch.save({"state_dict": weights, "nodule_lightning": about}, checkpoint)
    found = rows(run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", "output=out"), "out")
    assert set(found) == {"one", "two", "three"}
    assert found["one"] == found["two"]


def test_the_options_of_the_search_reach_it(
    run: Runner, checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[InferenceSettings, bool, bool]] = []

    def search(network: DetectionNetwork, entry: Entry, settings: InferenceSettings) -> Candidates:
        has_norm = any(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
        seen.append((settings, torch.is_autocast_enabled("cpu"), has_norm))
        return Candidates.empty()

    monkeypatch.setattr("nodule_lightning.search.predict.detect", search)
    given = (f"checkpoint={checkpoint}", f"input={cache}", "output=out")
    run(predict.main, *given, "memory_gb=2.5", "mirror=[x,z]", "precision=bf16")
    run(predict.main, *given, "mirror=true", "precision=fp32")
    assert seen[0] == (InferenceSettings(memory_gb=2.5, mirror=(0, 2)), True, False)
    assert seen[-1] == (InferenceSettings(mirror=(0, 1, 2)), False, False)


def test_a_network_that_cannot_be_compiled_is_told_in_one_line(
    run: Runner, checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*arguments: object) -> None:
        raise RuntimeError("no C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: no_compiler)
    given = (f"checkpoint={checkpoint}", f"input={cache}", "output=out")
    ended = run(predict.main, *given, "compile=true")
    assert ended.key == "device-unavailable"
    assert "compile=true" in ended.line()
    assert "no C++ compiler was found" in ended.line()


def test_too_little_memory_names_the_cure(run: Runner, checkpoint: Path, cache: Path) -> None:
    given = (f"checkpoint={checkpoint}", f"input={cache}", "output=out", "memory_gb=0.0001")
    ended = run(predict.main, *given)
    assert ended.code == 2
    for named in ("0.0001 GB", "memory_gb", "[memory-exhausted]"):
        assert named in ended.error.splitlines()[-1]


@pytest.mark.ddp
@pytest.mark.parametrize("scans", [3, 1])
def test_several_devices_share_the_scans(
    run: Runner, checkpoint: Path, cache: Path, tmp_path: Path, scans: int
) -> None:
    chosen = tmp_path / "chosen.csv"
    chosen.write_text("\n".join(["seriesuid", *["one", "three", "two"][:scans]]) + "\n")
    given = (f"checkpoint={checkpoint}", f"input={cache}", f"scans={chosen}")
    alone = rows(run(predict.main, *given, "output=alone"), "alone")
    program = str(Path(sys.executable).with_name("nodule-predict"))
    arguments = (*given, "output=shared", "device=cpu", "devices=2")
    if scans == 3:
        printed = finished([program, *arguments], Path.cwd())
    else:
        printed = warm.run("predict", *arguments, environment=ENVIRONMENT, before=warm.FORKED_RANKS).stdout
    assert printed.count("shared/submission.csv") == 1
    shared = rows(Ended(0, printed, ""), "shared")
    assert list(shared) == list(alone)
    for scan_id, marks in alone.items():
        np.testing.assert_allclose(shared[scan_id], marks, atol=1e-6)
    assert Path("shared/scans.csv").read_text(encoding="utf-8") == Path("alone/scans.csv").read_text(encoding="utf-8")


def test_what_preparing_noted_is_told(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    chest = draw_chest(lungs=False)
    scan = write_image(tmp_path / "no lungs.mha", chest.hu, chest.grid)
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={scan}", "output=out")
    assert ended.code == 0
    assert f"note: no lungs: {FALLBACK_NOTE}" in ended.out
    assert "probability" in ended.out
    bare = run(predict.main, f"checkpoint={checkpoint}", f"input={scan}", "output=out", "show=0")
    note, last = bare.out.splitlines()
    assert note.startswith(f"note: no lungs: {FALLBACK_NOTE}")
    assert "submission.csv" in last


@pytest.mark.parametrize("direction", [1, -1])
def test_the_place_is_told_in_slices_from_1_and_voxels_from_0(direction: int) -> None:
    grid = Grid((30, 40, 50), (2.5, 0.7, 0.8), (100.0, -50.0, 7.0), (direction, 0, 0, 0, direction, 0, 0, 0, 1))
    centre = grid.to_world(np.array([[11.0, 5.2, 30.9], [0.0, 39.0, 0.0]]))
    found = Prediction("scan", Candidates(centre, np.array([0.87654, 0.5]), np.array([7.25, 30.0])), grid)
    console = Console(width=100, file=StringIO(), record=True)
    console.print(render(found, most=5))
    lines = [line.split("│")[1:-1] for line in console.export_text().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["1", "12", "0.877", "[31, 5]", "7.2"],
        ["2", "1", "0.500", "[0, 39]", "30.0"],
    ]


def test_a_centre_a_little_past_the_scan_is_told_at_its_border() -> None:
    grid = Grid((30, 40, 50), (0.6, 0.7, 0.8))
    centre = np.array([[-0.5, 0.0, -0.5], [0.8 * 49.6, 0.7 * 39.6, 0.6 * 29.6]])
    found = Prediction("scan", Candidates(centre, np.ones(2), np.ones(2)), grid)
    assert found.voxels_zyx().tolist() == [[0, 0, 0], [29, 39, 49]]


def test_a_scan_without_candidates_is_shown_as_such() -> None:
    console = Console(width=100, file=StringIO(), record=True)
    console.print(render(Prediction("scan", Candidates.empty(), Grid((3, 3, 3), (1, 1, 1))), most=5))
    assert "0 candidates" in console.export_text()


def test_a_second_stage_rescores_the_same_candidates(run: Runner, checkpoint: Path, reducer: Path, cache: Path) -> None:
    common = (f"checkpoint={checkpoint}", f"input={cache}")
    without = rows(run(predict.main, *common, "output=without"), "without")["two"]
    again = {
        rule: rows(
            run(predict.main, *common, f"reducer={reducer}", f"combine={rule}", f"output=by_{rule}"), f"by_{rule}"
        )["two"]
        for rule in ("product", "reducer", "null")
    }
    assert len(without) > 3
    places = {row[:3]: row[3] for row in without}
    seen_again = {row[:3]: row[3] for row in again["reducer"]}
    assert set(seen_again) == set(places)
    assert {row[:3] for row in again["product"]} == set(places)
    for *place, probability in again["product"]:
        key = (place[0], place[1], place[2])
        assert probability == pytest.approx(places[key] * seen_again[key])
    for found in again.values():
        assert [row[3] for row in found] == sorted((row[3] for row in found), reverse=True)
    # The rule that it was validated with.
    assert again["null"] == again["product"]
    told = [json.loads(Path(f"by_{rule}", "prediction.json").read_text(encoding="utf-8"))["reducer"] for rule in again]
    assert [one["combine"] for one in told] == ["product", "reducer", "product"]
    assert {one["sha256"] for one in told} == {sha256(reducer.read_bytes()).hexdigest()}
    assert json.loads(Path("without/prediction.json").read_text(encoding="utf-8"))["reducer"] is None


def test_a_second_stage_that_cannot_be_taken(
    run: Runner, checkpoint: Path, reducer: Path, cache: Path, tmp_path: Path
) -> None:
    def require_refused(key: str, *named: str, arguments: tuple[str, ...] = (), first: Path = checkpoint) -> None:
        ended = run(predict.main, f"checkpoint={first}", f"input={cache}", "output=out", *arguments)
        assert ended.key == key
        for value in named:
            assert value in ended.line()

    require_refused("argument-conflict", "combine=mean", arguments=("combine=mean",))
    require_refused("argument-invalid", "combine", "'vote'", arguments=(f"reducer={reducer}", "combine=vote"))
    require_refused("checkpoint-unfit", "experiment=reducer", arguments=(f"reducer={checkpoint}",))
    require_refused("checkpoint-unfit", str(reducer), first=reducer)
    require_refused("file-missing", "gone.ckpt", arguments=("reducer=gone.ckpt",))
    model = recipe("task=reduction", "candidates=unused", "+classifier.spacing_mm=4.0")
    coarse = {"version": "0", "model": model, "preparation": replace(TINY, spacing_mm=3.0).to_dict()}
    other = write_reducer_checkpoint(tmp_path / "other.ckpt", nodule_lightning=coarse)
    require_refused("cache-settings-differ", "spacing_mm", "4.0", "3.0", arguments=(f"reducer={other}",))
    assert list(Path.cwd().iterdir()) == []
