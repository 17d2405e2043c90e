"""nodule-report: the page names no path, and its command line has every argument."""

from pathlib import Path

from nodule_lightning.cli import report
from tests.chest import draw_chest, write_image
from tests.cli.commands import Runner


def test_the_page_shows_the_whole_command_without_paths(run: Runner, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Secret^Name"
    write_image(folder / "one.mha", draw_chest().hu, draw_chest().grid)
    (folder / "wanted.csv").write_text("seriesuid\none\n")
    (folder / "marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\none,1,2,3,0.5\n")
    ended = run(
        report.main, f"submission={folder / 'marks.csv'}", f"cache={cache}", "output=Secret^Name",
        f"scans={folder / 'wanted.csv'}", f"root={folder}", "title=Two words", "best=3",
    )  # fmt: skip
    assert ended.code == 0, ended.error
    page = Path("Secret^Name/report.html").read_text(encoding="utf-8")
    assert "Secret" not in page
    assert str(cache) not in page
    line = page.split("<pre>")[1].split("</pre>")[0]
    assert line == (
        "nodule-report submission=FILE cache=DIR output=DIR scans=FILE root=DIR &#x27;title=Two words&#x27; best=3"
    )


def test_arguments_that_were_not_given_are_not_shown(run: Runner, cache: Path) -> None:
    Path("marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\none,1,2,3,0.5\n")
    ended = run(report.main, "submission=marks.csv", f"cache={cache}", "output=out")
    assert ended.code == 0, ended.error
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "nodule-report submission=FILE cache=DIR output=DIR &#x27;title=Lung nodule detection&#x27; best=18" in page
