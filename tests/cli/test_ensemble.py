"""nodule-ensemble on files, folders and patterns, and what it refuses."""

import json
from pathlib import Path

import pytest

from nodule_lightning.cli import ensemble, leaderboard
from nodule_lightning.io.tables import read_candidates, read_scan_ids
from tests.commands import Runner

HEADER = "seriesuid,coordX,coordY,coordZ,"
FIRST = "one,1,2,3,0.5\ntwo,0,0,0,0.25\n"
SECOND = "one,2,2,3,0.9\n"
LEARN = ("calibrate=true", "oof=bare.csv")


def write(path: Path, rows: str, scans: str | None = None, columns: str = "probability") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}{columns}\n{rows}", encoding="utf-8")
    if scans is not None:
        path.with_name("scans.csv").write_text("seriesuid\n" + "\n".join(scans.split()) + "\n")
    return path


def members(folder: Path) -> str:
    first, second = write(folder / "a, [1].csv", FIRST), write(folder / "b=.csv", SECOND)
    return f"members=['{first}','{second}']"


def held_out(folder: Path, name: str, *scans: str) -> Path:
    """Write out-of-fold predictions: a nodule found in each scan but the last, and as many mistakes."""
    rows = "".join(f"{scan},0,0,0,0.{7 - place}\n" for place, scan in enumerate(scans[:-1]))
    rows += "".join(f"{scan},90,0,0,0.{4 + place}\n" for place, scan in enumerate(scans))
    write(folder / "nodules.csv", "".join(f"{scan},0,0,0,8\n" for scan in ("u", "v", "w")), columns="diameter_mm")
    return write(folder / "oof" / name / "submission.csv", rows, " ".join(scans))


def test_files_are_fused_into_one(run: Runner, tmp_path: Path) -> None:
    ended = run(ensemble.main, members(tmp_path / "My CT (1), 肺"), "output=out/fused {1}.csv")
    assert ended.code == 0, ended.error
    rows = Path("out/fused {1}.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "seriesuid,coordX,coordY,coordZ,probability"
    table = read_candidates(Path("out/fused {1}.csv"))
    assert table.scan_id.tolist() == ["one", "two"]
    assert table.rows.probability.tolist() == [0.7, 0.125]
    assert table.rows.centre_xyz_mm[0] == pytest.approx([2.3 / 1.4, 2, 3])
    record = json.loads(Path("out/fused {1}.json").read_text(encoding="utf-8"))
    assert [(share["member"], share["weight"], share["marks"]) for share in record["members"]] == [
        ("a, [1]", 0.5, 2), ("b=", 0.5, 1),
    ]  # fmt: skip
    assert "b=: 1 scans, such as two" in " ".join(ended.out.split())
    assert "out/fused {1}.csv" in ended.out


def test_the_order_of_the_files_changes_no_byte(run: Runner, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", FIRST), write(tmp_path / "b.csv", SECOND)
    third = write(tmp_path / "deep" / "a.csv", "two,1,0,0,0.3\n")
    for name, files, weights in (
        ("x", (first, second, third), "0.1,0.2,0.3"),
        ("y", (third, first, second), "0.3,0.1,0.2"),
    ):
        given = f"members=[{','.join(map(str, files))}]"
        ended = run(ensemble.main, given, f"weights=[{weights}]", f"output={name}/fused.csv")
        assert ended.code == 0, ended.error
    for name in ("fused.csv", "fused.json"):
        assert Path("x", name).read_bytes() == Path("y", name).read_bytes()


def test_one_file_gives_itself_back(run: Runner, tmp_path: Path) -> None:
    rows = "one,0,0,0,0.9,6.5\none,0.125,0,0,0.3,-1\none,80,0,0,0.1,3\ntwo,1,2,3.25,0.7,12\n"
    alone = write(tmp_path / "alone.csv", rows.replace("\n", ",7\n"), columns="probability,diameter_mm,unknown")
    for method in ("weighted", "consensus"):
        ended = run(ensemble.main, f"members={alone}", f"method={method}", "weights=[0.3]", "output=again.csv")
        assert ended.code == 0, ended.error
        there = Path("again.csv").read_text(encoding="utf-8").splitlines()
        assert there[0].endswith("probability,diameter_mm")
        given = [[row.split(",")[0], *map(float, row.split(",")[1:])] for row in rows.splitlines()]
        assert [[row.split(",")[0], *map(float, row.split(",")[1:])] for row in there[1:]] == given


def test_runs_of_a_folder_or_pattern_are_the_members(run: Runner, tmp_path: Path) -> None:
    root = tmp_path / "multirun"
    for place, rows in enumerate((FIRST, SECOND, "")):
        write(root / str(place) / "test" / "submission.csv", rows, "one two three")
    write(root / "0" / "validation" / "submission.csv", "four,0,0,0,0.5\n", "four")
    ended = run(ensemble.main, f"members={root}/*/test", "output=runs/fused/submission.csv")
    assert ended.code == 0, ended.error
    assert read_candidates(Path("runs/fused/submission.csv")).rows.probability == pytest.approx([1.4 / 3, 0.25 / 3])
    # It is a run itself.
    assert read_scan_ids(Path("runs/fused/scans.csv")) == ["one", "three", "two"]
    nodules = write(tmp_path / "nodules.csv", "one,1,2,3,9\n", columns="diameter_mm")
    ranked = run(
        leaderboard.main, "runs=runs", f"annotations={nodules}", "protocol=tianchi", "bootstraps=0", "output=x"
    )
    assert "1 nodules in 3 scans" in ranked.out
    # A whole folder: the run over another scan counts for that one alone.
    ended = run(ensemble.main, f"members={root}", "output=all.csv")
    assert ended.code == 0, ended.error
    assert read_candidates(Path("all.csv")).rows.probability == pytest.approx([0.5, 1.4 / 3, 0.25 / 3])
    # The note of the scan that only one run has searched.
    assert "four" in ended.out
    # A run without its scans is left out, and named.
    (root / "1" / "test" / "scans.csv").unlink()
    ended = run(ensemble.main, f"members={root}", "output=all.csv")
    said = " ".join(ended.out.split())
    assert "1/test" in said
    assert "scans.csv" in said


def test_what_tells_of_another_submission_is_not_left_beside_this_one(run: Runner, tmp_path: Path) -> None:
    known = f"members={write(tmp_path / 'a' / 'submission.csv', FIRST, 'one two')}"
    output = "output=out/submission.csv"
    assert run(ensemble.main, known, output).code == 0
    assert run(ensemble.main, known, output).code == 0
    before = Path("out/submission.csv").read_bytes()
    ended = run(ensemble.main, members(tmp_path), output)
    assert ended.key == "output-refused"
    assert "output=out/submission.csv" in ended.line()
    assert "scans.csv" in ended.line()
    Path("out/prediction.json").write_text("{}")
    ended = run(ensemble.main, known, output)
    assert ended.key == "output-refused"
    assert "prediction.json" in ended.line()
    assert Path("out/submission.csv").read_bytes() == before
    assert run(ensemble.main, members(tmp_path), "output=out/fused.csv").code == 0


def test_nothing_found_is_an_empty_submission(run: Runner, tmp_path: Path) -> None:
    empty, other = write(tmp_path / "empty.csv", ""), write(tmp_path / "other.csv", "")
    ended = run(ensemble.main, f"members=[{empty},{other}]", "output=fused.csv")
    assert ended.code == 0, ended.error
    assert Path("fused.csv").read_text(encoding="utf-8") == HEADER + "probability\n"


def test_weights_are_searched_written_and_used_again(run: Runner, tmp_path: Path) -> None:
    for name in ("a", "b"):
        held_out(tmp_path, name, "u", "v", "w")
        write(tmp_path / "test" / name / "submission.csv", FIRST if name == "a" else SECOND, "one two")
    given = [f"oof={tmp_path / 'oof'}", f"annotations={tmp_path / 'nodules.csv'}", "calibrate=true"]
    searched = run(
        ensemble.main, f"members={tmp_path / 'test'}", "weights=search", *given, "protocol=tianchi", "output=s.csv"
    )
    assert searched.code == 0, searched.error
    record = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert record["out_of_fold_froc_of_weights"]["found"] >= record["out_of_fold_froc_of_weights"]["equal"] > 0
    assert record["calibrated"] is True
    assert [share["out_of_fold"] for share in record["members"]] == ["a", "b"]
    # Uncalibrated, the first mark would have 0.7.
    assert read_candidates(Path("s.csv")).rows.probability[0] != pytest.approx(0.7, abs=1e-3)
    again = run(
        ensemble.main, f"members={tmp_path / 'test'}", "weights=s.json", *given, "protocol=tianchi", "output=t.csv"
    )
    assert again.code == 0, again.error
    assert Path("t.csv").read_bytes() == Path("s.csv").read_bytes()
    for name, weights, output in (("", "s.json", "t.csv"), ("a", "t.json", "u.csv")):
        ended = run(ensemble.main, f"members={tmp_path / 'test' / name}", f"weights={weights}", f"output={output}")
        assert ended.key == "argument-conflict"
        assert f"weights={weights}" in ended.line()
        assert "calibrate=true" in ended.line()


@pytest.mark.parametrize("what", ["calibrate=true", "weights=search"])
@pytest.mark.parametrize("leak", ["marked", "searched", "listed"])
def test_to_learn_from_a_scan_that_is_fused_is_refused(run: Runner, tmp_path: Path, what: str, leak: str) -> None:
    learnt = held_out(tmp_path, "a", "u", "v", "w")
    rows = "one,0,0,0,0.5\n" + ("v,50,0,0,0.1\n" if leak == "marked" else "")
    fused = write(tmp_path / "test" / "submission.csv", rows, "one v" if leak == "searched" else None)
    given = [f"members={fused}", f"annotations={tmp_path / 'nodules.csv'}", what, "output=out.csv"]
    scans = []
    if leak == "listed":
        (tmp_path / "list.csv").write_text("seriesuid\nu\nv\none\n")
        scans = [f"oof_scans={tmp_path / 'list.csv'}"]
    ended = run(ensemble.main, *given, f"oof={learnt}", *scans)
    assert ended.key == "split-invalid"
    assert f"{learnt} holds scan {'one' if leak == 'listed' else 'v'}," in ended.line()
    assert not Path("out.csv").exists()
    # A list without that scan is all that is learnt from.
    (tmp_path / "list.csv").write_text("seriesuid\nu\nw\n")
    ended = run(ensemble.main, *given, f"oof={learnt}", f"oof_scans={tmp_path / 'list.csv'}")
    assert ended.code == 0, ended.error
    assert "excluded" in ended.out


@pytest.mark.parametrize(
    ("arguments", "key", "named"),
    [
        (["method=mean"], "argument-invalid", ("method", "'mean'")),
        (["agree=2"], "argument-conflict", ("agree=2", "consensus")),
        (["method=consensus", "agree=3"], "argument-invalid", ("agree=3",)),
        (["method=consensus", "agree=0"], "argument-invalid", ("agree", "0")),
        (["weights=[1]"], "argument-invalid", ("1", "2")),
        (["weights=[1,x]"], "argument-invalid", ("weights", "x")),
        (["weights=[0,0]"], "argument-invalid", ("weights", "[0.0, 0.0]")),
        (["weights=gone.json"], "file-missing", ("weights=gone.json",)),
        (["weights=torn.json"], "file-foreign", ("weights=torn.json",)),
        (["calibrate=1"], "argument-invalid", ("calibrate", "1")),
        (["calibrate=true"], "argument-missing", ("oof=",)),
        (["weights=search", "oof=gone.csv"], "argument-missing", ("annotations=",)),
        (["oof=gone.csv"], "argument-conflict", ("oof=",)),
        (["weights=search", "oof=gone.csv", "annotations=x"], "file-missing", ("gone.csv",)),
        ([*LEARN, "annotations=nodules.csv"], "argument-missing", ("bare.csv", "oof_scans=")),
        (
            [*LEARN, "oof_scans=[all.csv,all.csv]", "annotations=nodules.csv"],
            "argument-invalid",
            ("oof_scans", "2"),
        ),
        (
            [*LEARN, "oof_scans=all.csv", "annotations=nodules.csv"],
            "argument-invalid",
            ("oof", "1", "2"),
        ),
        (
            [*LEARN, "annotations=x", "excluded=y", "protocol=tianchi"],
            "argument-conflict",
            ("excluded=y",),
        ),
        (["output=folder"], "argument-invalid", ("output=folder",)),
        (["output=bare.csv/x.csv"], "output-refused", ("bare.csv",)),
        (["seed=-1"], "argument-invalid", ("seed", "-1")),
        (["members=gone.csv"], "file-missing", ("gone.csv",)),
        (["members=[bare.csv,./bare.csv]"], "argument-invalid", ("bare.csv",)),
        (["members=gone/*/test"], "file-missing", ("gone/*/test",)),
        (["members=empty"], "run-missing", ("empty", "submission.csv")),
        (["members=logits.csv"], "table-value-invalid", ("logits.csv", "-2.5")),
        (["members=nodules.csv"], "table-column-missing", ("nodules.csv", "probability")),
        (["members=bare.csv", "output=bare.csv"], "output-refused", ("output=bare.csv",)),
        (["members=runs", "output=runs/fused/submission.csv"], "output-refused", ("runs/fused/submission.csv",)),
    ],
)
def test_wrong_input_is_one_line(
    run: Runner, tmp_path: Path, arguments: list[str], key: str, named: tuple[str, ...]
) -> None:
    good = members(tmp_path)
    write(Path("bare.csv"), "u,0,0,0,0.5\n")
    write(Path("logits.csv"), "u,0,0,0,-2.5\n")
    write(Path("nodules.csv"), "u,0,0,0,5\n", columns="diameter_mm")
    write(Path("runs/a/submission.csv"), FIRST, "one two")
    Path("all.csv").write_text("seriesuid\nu\n")
    Path("torn.json").write_text('{"members": 3')
    Path("empty").mkdir()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = [text for text in (good, "output=out.csv") if text.partition("=")[0] not in given]
    ended = run(ensemble.main, *defaults, *arguments)
    assert ended.key == key
    for value in named:
        assert value in ended.line()
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_scores_of_any_kind_are_calibrated(run: Runner, tmp_path: Path) -> None:
    learnt = write(tmp_path / "oof.csv", "u,0,0,0,5.5\nu,90,0,0,-3\n")
    write(tmp_path / "nodules.csv", "u,0,0,0,5\n", columns="diameter_mm")
    (tmp_path / "scans.csv").write_text("seriesuid\nu\n")
    logits = write(tmp_path / "logits.csv", "one,0,0,0,-4\none,40,0,0,1.25\none,80,0,0,9\n")
    given = [f"oof={learnt}", f"oof_scans={tmp_path / 'scans.csv'}", f"annotations={tmp_path / 'nodules.csv'}"]
    ended = run(ensemble.main, f"members={logits}", "calibrate=true", *given, "protocol=tianchi", "output=out.csv")
    assert ended.code == 0, ended.error
    assert read_candidates(Path("out.csv")).rows.probability == pytest.approx([1, 0.5, 0], abs=2e-6)


def test_weights_need_scans_that_all_have_searched(run: Runner, tmp_path: Path) -> None:
    learnt = [held_out(tmp_path, "a", "u", "v"), held_out(tmp_path, "b", "w", "x")]
    given = [f"oof=[{learnt[0]},{learnt[1]}]", f"annotations={tmp_path / 'nodules.csv'}", members(tmp_path / "m")]
    assert run(ensemble.main, *given, "weights=search", "output=out.csv").key == "split-invalid"
    # Each is calibrated on its own.
    assert run(ensemble.main, *given, "calibrate=true", "output=out.csv").code == 0


def test_weights_of_other_members_are_refused(run: Runner, tmp_path: Path) -> None:
    assert run(ensemble.main, members(tmp_path), "weights=[1,3]", "output=out.csv").code == 0
    given = f"members={write(tmp_path / 'c.csv', FIRST)}"
    ended = run(ensemble.main, given, "weights=out.json", "output=next.csv")
    assert ended.key == "argument-conflict"
    for named in ("weights=out.json", "a, [1], b=", " c"):
        assert named in ended.line()
    again = run(ensemble.main, members(tmp_path), "weights=out.json", "output=next.csv")
    assert again.code == 0, again.error
    assert Path("next.csv").read_bytes() == Path("out.csv").read_bytes()
    # Of other scans, under the same names.
    ended = run(ensemble.main, members(tmp_path / "new"), "weights=out.json", "output=new.csv")
    assert ended.code == 0, ended.error
    shares = [json.loads(Path(name).read_text(encoding="utf-8"))["members"] for name in ("out.json", "new.json")]
    assert [[share["weight"] for share in one] for one in shares] == [[0.25, 0.75]] * 2
