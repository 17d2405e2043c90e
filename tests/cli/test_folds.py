"""nodule-folds: each fold's own checkpoint on its own test scans, pooled and scored once."""

import json
from pathlib import Path

import pytest

from nodule_lightning.cli import folds, predict
from nodule_lightning.io.tables import read_candidates, read_scan_ids, write_scan_ids
from tests.commands import Ended, Runner, write_cache, write_checkpoint

SCANS = ("one", "three", "two")


def write_fold(folder: Path, test: str, validation: str = "", train: str | None = None, **changes: object) -> Path:
    rest = " ".join(scan for scan in SCANS if scan not in (*test.split(), *validation.split()))
    for name, scans in (("test", test), ("validation", validation), ("train", rest if train is None else train)):
        write_scan_ids(folder / "splits" / f"{name}.csv", scans.split())
    write_checkpoint(folder / "checkpoints" / "best.ckpt", epoch=3, **changes)
    write_checkpoint(folder / "checkpoints" / "last.ckpt", epoch=7, **changes)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "my runs ${x}, [1]"
    for place, test in enumerate(SCANS):
        write_fold(root / str(place), test)
    return root


def start(run: Runner, runs: Path, cache: Path, *arguments: str) -> Ended:
    given = [f"runs={runs}", f"cache={cache}", "output=out", "bootstraps=10", "+predict.device=cpu"]
    return run(folds.main, *given, *arguments)


def test_all_folds_are_searched_pooled_and_scored_once(run: Runner, runs: Path, cache: Path) -> None:
    ended = start(run, runs, cache)
    assert ended.code == 0, ended.error
    assert "fold 3 of 3, 2: 1 test scans" in ended.out
    for place, scan in enumerate(SCANS):
        assert read_scan_ids(runs / str(place) / "test_best" / "scans.csv") == [scan]
    pooled = read_candidates(Path("out/submission.csv"))
    assert sorted(set(pooled.scan_id.tolist())) == sorted(SCANS)
    assert len(pooled) == sum(len(read_candidates(path)) for path in runs.glob("*/test_best/submission.csv"))
    assert read_scan_ids(Path("out/scans.csv")) == sorted(SCANS)
    written = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
    assert (written["counts"]["scans"], written["counts"]["nodules"]) == (3, 3)
    assert [fold["counts"]["scans"] for fold in written["folds"]] == [1, 1, 1]
    assert "Cross-validation" in Path("out/report/report.html").read_text(encoding="utf-8")


def test_it_goes_on_where_it_was_killed(run: Runner, runs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    search_scans = predict.search_scans

    def counted(wanted: predict.Search) -> None:
        searched.append(wanted.output.parent.name)
        if len(searched) == 2:
            raise KeyboardInterrupt
        search_scans(wanted)

    monkeypatch.setattr(predict, "search_scans", counted)
    assert start(run, runs, cache).code == 130
    assert searched == ["0", "1"]
    assert not Path("out").exists()
    first = start(run, runs, cache)
    assert first.code == 0, first.error
    assert searched == ["0", "1", "1", "2"]
    assert "fold 1 of 3, 0: 1 test scans, " in first.out
    metrics = Path("out/metrics.json").read_bytes()
    # A checkpoint that has changed since, and one whose scans were not all searched, are searched again.
    write_checkpoint(runs / "1" / "checkpoints" / "best.ckpt", epoch=5)
    write_scan_ids(runs / "2" / "test_best" / "scans.csv", ["one"])
    second = start(run, runs, cache)
    assert second.code == 0
    assert any("1: 1 test scans" in line and "checkpoint" in line for line in second.out.splitlines())
    assert searched[4:] == ["1", "2"]
    assert Path("out/metrics.json").read_bytes() == metrics


def test_a_setting_that_changes_what_is_found_has_the_folds_searched_again(
    run: Runner, runs: Path, cache: Path, reducer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is scored and drawn of it costs most of the time, and is no matter here.
    monkeypatch.setattr("nodule_lightning.cli.evaluate.evaluate", lambda config: 0.0)
    monkeypatch.setattr("nodule_lightning.cli.report.report", lambda config: None)

    def again(*arguments: str) -> list[str]:
        ended = start(run, runs, cache, *arguments)
        assert ended.code == 0, ended.error
        lines = [line for line in ended.out.splitlines() if line.startswith("fold ")]
        assert len({line.partition("test scans")[2] for line in lines}) == 1
        return lines[0].partition("test scans, ")[2].split(", ")

    again()
    assert again("+predict.mirror=false", "+predict.workers=0") == ["searched already"]
    assert again("+predict.mirror=[x]") == ["searched again", "with another mirror"]
    # What is not given is taken as it is.
    assert again() == ["searched already"]
    second = (f"+predict.reducer='{reducer}'", "+predict.combine=mean")
    assert again(*second) == ["searched again", "with another reducer", "combine"]
    assert again(second[0]) == ["searched already"]
    assert again(second[0], "+predict.combine=reducer") == ["searched again", "with another combine"]
    refused = start(run, runs, cache, "+predict.reducer=gone.ckpt")
    assert refused.key == "file-missing"
    assert "gone.ckpt" in refused.line()


def test_a_scan_that_cannot_be_searched_is_said_and_nothing_is_scored(run: Runner, runs: Path, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", list(SCANS))
    write_fold(runs / "0", "one two")
    write_fold(runs / "2", "", train="three")
    (runs / "2" / "splits" / "test.csv").unlink()
    (cache / "scans" / "two" / "ct.npy").write_bytes(b"torn")
    ended = start(run, runs, cache)
    assert ended.code == 1
    assert "0: 1 of 2" in ended.error
    assert (runs / "1" / "test_best" / "submission.csv").exists()
    assert not Path("out").exists()


def test_what_is_no_cross_validation_is_refused(run: Runner, runs: Path, cache: Path) -> None:
    def require_refused(key: str, *named: str, arguments: tuple[str, ...] = ()) -> None:
        ended = start(run, runs, cache, *arguments)
        assert ended.key == key
        for value in named:
            assert value in ended.line()
        assert not Path("out").exists()
        assert not list(runs.rglob("submission.csv"))

    write_fold(runs / "2", "two one")
    require_refused("split-invalid", "scan one", "0", "2", arguments=("partial=true",))
    write_fold(runs / "2", "two elsewhere")
    require_refused("scan-unknown", "elsewhere")
    write_fold(runs / "2", "two", train="one two")
    require_refused("split-invalid", str(runs / "2"), "trained", "scan two")
    write_fold(runs / "2", "two", validation="two", train="one")
    require_refused("split-invalid", str(runs / "2"), "checkpoint", "scan two")
    write_fold(runs / "2", "")
    require_refused("split-invalid", str(runs / "2"), "data.fold")
    write_fold(runs / "2", "two")
    write_checkpoint(runs / "2" / "checkpoints" / "last.ckpt", epoch=4)
    require_refused("run-changed", "2", "5", "8", "resume=true")
    (runs / "2" / "checkpoints" / "best.ckpt").unlink()
    require_refused("file-missing", str(runs / "2"), "best.ckpt")
    (runs / "2" / "splits" / "test.csv").unlink()
    require_refused("split-invalid", "1 of 3", "two")
    ended = start(run, runs, cache, "partial=true")
    assert ended.code == 0, ended.error
    assert json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))["counts"]["nodules"] == 2


@pytest.mark.parametrize(
    ("argument", "key", "named"),
    [
        ("runs=gone", "file-missing", ("gone",)),
        ("runs=.", "run-missing", ("splits/test.csv",)),
        ("checkpoint=first", "argument-invalid", ("checkpoint", "'first'")),
        ("partial=1", "argument-invalid", ("partial", "1")),
        ("protocol=kaggle", "argument-invalid", ("protocol", "'kaggle'")),
        ("bootstraps=-1", "argument-invalid", ("bootstraps", "-1")),
        ("+predict.devcie=cpu", "argument-unknown", ("devcie",)),
        ("+predict.devices=2", "argument-conflict", ("predict.devices",)),
        ("cache=gone", "cache-empty", ("gone",)),
        ("output=taken", "output-refused", ("taken",)),
    ],
)
def test_wrong_input_is_one_line(
    run: Runner, runs: Path, cache: Path, argument: str, key: str, named: tuple[str, ...]
) -> None:
    Path("taken").touch()
    given = {"runs": runs, "cache": cache, "output": "out"}
    given.pop(argument.partition("=")[0], None)
    ended = run(folds.main, *(f"{name}={value}" for name, value in given.items()), argument)
    assert ended.key == key
    for value in named:
        assert value in ended.line()
    assert not list(runs.rglob("submission.csv"))


def test_the_last_checkpoints_have_a_place_of_their_own_and_tianchi_no_excluded_findings(
    run: Runner, runs: Path, cache: Path
) -> None:
    ended = start(run, runs, cache, "protocol=tianchi", "checkpoint=last")
    assert ended.code == 0, ended.error
    assert len(list(runs.glob("*/test_last/submission.csv"))) == 3
    assert not list(runs.glob("*/test_best"))
    assert json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))["protocol"] == "tianchi"
