"""nodule-report: the page names no path, and its command line has every argument."""

import re
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cache.entries import open_entry, update_labels
from nodule_lightning.cli import report
from nodule_lightning.structures import Findings, Labels
from tests.chest import draw_chest, write_image
from tests.commands import Runner, write_cache


def test_tianchi_leaves_out_the_excluded_findings_of_the_cache(run: Runner, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "own", ["one", "three", "two"])
    nodules = open_entry(cache, "one").labels.nodules
    update_labels(cache, "one", Labels("", nodules, Findings(np.array([[1.0, 2.0, 3.0]]), np.array([6.0]))))
    Path("marks.csv").write_text(MARKS)
    for protocol, false_positives in (("luna16", 1), ("tianchi", 2)):
        ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out", f"protocol={protocol}")
        assert ended.code == 0, ended.error
        page = Path("out/report.html").read_text(encoding="utf-8")
        assert re.search(rf">false positives</t[dh]><td[^>]*>{false_positives}<", page)


def test_the_page_shows_the_whole_command_without_paths(run: Runner, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Secret^Name"
    write_image(folder / "one.mha", draw_chest().hu, draw_chest().grid)
    (folder / "wanted.csv").write_text("seriesuid\none\n")
    (folder / "marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\none,1,2,3,0.5\n")
    ended = run(
        report.main, f"submission={folder / 'marks.csv'}", f"cache={cache}", "output=Secret^Name",
        f"scans={folder / 'wanted.csv'}", f"root={folder}", "title=Two words", "best=3",
        f"compare=[{folder / 'marks.csv'}]",
    )  # fmt: skip
    assert ended.code == 0, ended.error
    page = Path("Secret^Name/report.html").read_text(encoding="utf-8")
    assert "Secret" not in page
    assert str(cache) not in page
    line = page.split("<pre>")[1].split("</pre>")[0]
    assert line == (
        "nodule-report submission=FILE cache=DIR output=DIR scans=FILE &#x27;compare=[FILE]&#x27; root=DIR"
        " protocol=luna16 &#x27;title=Two words&#x27; best=3 misses=60 false_positives=24"
    )


MARKS = "seriesuid,coordX,coordY,coordZ,probability\none,1,2,3,0.5\nthree,5,5,5,0.25\n"


def test_misses_and_false_positives_are_shown(run: Runner, cache: Path) -> None:
    Path("marks.csv").write_text(MARKS)
    ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out", "false_positives=1")
    assert ended.code == 0, ended.error
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "All 3 nodules without a mark inside" in page
    assert page.count("no mark in this scan") == 1
    assert "Marks inside no finding, the most probable first" in page
    assert page.count("data:image/jpeg") == 4
    names = {"report.html", "froc.png", "sizes.png", "candidates.png"}
    assert {path.name for path in Path("out").iterdir()} == names


def test_galleries_that_are_not_wanted_are_left_out(run: Runner, cache: Path) -> None:
    Path("marks.csv").write_text(MARKS)
    ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out", "misses=0", "false_positives=0")
    assert ended.code == 0, ended.error
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Missed nodules" not in page
    assert "Highest false positives" not in page


@pytest.mark.parametrize(
    ("compare", "names"),
    [
        ("compare=other.csv", ["other"]),
        ("compare=[a/marks.csv,other.csv]", ["marks", "other"]),
        ("compare=[a/marks.csv,b/marks.csv]", ["a", "b"]),
    ],
)
def test_submissions_are_compared_under_the_names_of_their_files(
    run: Runner, cache: Path, compare: str, names: list[str]
) -> None:
    for name in ("marks.csv", "other.csv", "a/marks.csv", "b/marks.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(MARKS)
    ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out", "title=mine", compare)
    assert ended.code == 0, ended.error
    page = Path("out/report.html").read_text(encoding="utf-8")
    rows = page[page.index("<h2>Compared</h2>") :].partition("</table>")[0].split("<tr><td>")[1:]
    assert [row.partition("</td>")[0] for row in rows] == ["mine", *names]


def test_a_scan_that_was_not_prepared_is_refused(run: Runner, cache: Path) -> None:
    Path("marks.csv").write_text(MARKS)
    Path("wanted.csv").write_text("one\nelsewhere\n")
    ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out", "scans=wanted.csv")
    assert ended.key == "scan-unknown"
    assert "elsewhere" in ended.line()
    assert not Path("out").exists()


def test_arguments_that_were_not_given_are_not_shown(run: Runner, cache: Path) -> None:
    Path("marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\none,1,2,3,0.5\n")
    ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out")
    assert ended.code == 0, ended.error
    page = Path("out/report.html").read_text(encoding="utf-8")
    line = page.split("<pre>")[1].split("</pre>")[0]
    assert line.startswith(
        "nodule-report submission=FILE cache=DIR output=DIR protocol=luna16 &#x27;title=Lung nodule "
    )
    assert "compare=" not in line


def test_tianchi_has_no_excluded_findings_to_miss(run: Runner, cache: Path) -> None:
    Path("marks.csv").write_text(MARKS)
    for protocol, warned in (("luna16", True), ("tianchi", False)):
        ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out", f"protocol={protocol}")
        assert ended.code == 0, ended.error
        page = Path("out/report.html").read_text(encoding="utf-8")
        assert ("The list of excluded findings is empty" in page) == warned


def test_the_page_shows_what_the_training_drew(run: Runner, cache: Path, tmp_path: Path) -> None:
    Path("marks.csv").write_text(MARKS)
    trained = tmp_path / "trained"
    trained.mkdir()
    arguments = ("submission=marks.csv", f"cache={cache}", "output=out", f"run={trained}")
    ended = run(report.main, *arguments)
    assert ended.key == "file-missing"
    assert str(trained) in ended.line()
    assert "sampling.png" in ended.line()
    for name in ("sampling_first", "augmentation", "sampling_second"):
        (trained / f"{name}.png").write_bytes(f"picture of {name}".encode())
        assert run(report.main, *arguments).code == 0
        page = Path("out/report.html").read_text(encoding="utf-8")
        assert b64encode(f"picture of {name}".encode()).decode() in page
        assert Path(f"out/{name}.png").exists()
    assert str(trained) not in page
