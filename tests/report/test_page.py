import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import froc
from nodule_lightning.report.canvas import new_figure, to_png
from nodule_lightning.report.gallery_section import Case, Gallery
from nodule_lightning.report.page import Picture, write_report
from tests.metrics.cases import random_case

PNG = to_png(new_figure(0.5, 0.5))


class Reader(HTMLParser):
    """Collect the tags with their attributes and the visible text, and check that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


GALLERIES = (
    Gallery(
        "Missed <nodules>", "<i>2</i> & more", [Case("4 <mm>", ("<x>", "far & wide"), b"one"), Case("5", (), b"2")]
    ),
    Gallery("Highest false positives", "No mark is a false positive.", []),
)


def write(output: Path, bootstraps: int = 20) -> Reader:
    case = random_case(215)
    result = froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=bootstraps)
    other = froc(case.candidates, case.nodules, None, case.scan_ids, bootstraps=bootstraps)
    page = write_report(
        output,
        "Phantom <script>alert(1)</script>",
        result.with_warning("careful & <b>slow</b>"),
        [Picture("crop", "Lung <crop>", 'one "slice"', PNG)],
        {"model": {"width": 16}, "name": "<i>demo</i>"},
        "nodule-train experiment=demo && echo '<done>'",
        galleries=GALLERIES,
        others=[("the <other>", other)],
    )
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_page_stands_alone_and_the_pictures_lie_beside_it(tmp_path: Path) -> None:
    reader = write(tmp_path / "out")
    sources = [attributes["src"] or "" for tag, attributes in reader.tags if tag == "img"]
    assert len(sources) == 5
    assert all(re.match(r"data:image/(png|jpeg);base64,[\w+/]+=*$", source) for source in sources)
    names = ["crop.png", "froc.png", "report.html", "sizes.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / "crop.png").read_bytes() == PNG


def test_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    reader = write(tmp_path)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    allowed = {"src", "alt", "class", "style", "lang", "charset", "name", "content", "scope", "min", "max", "value"}
    assert {name for _, attributes in reader.tags for name in attributes} <= allowed | {"loading"}
    # Nor does a style: a font, a picture, another sheet.
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<style>" in page
    assert not re.search(r"url\(|@import|@font-face|image-set|https?:|//", re.sub(r"data:image/[^\"]*", "", page))


def test_gallery_shows_its_cases_with_their_words(tmp_path: Path) -> None:
    reader = write(tmp_path)
    text = "\n".join(reader.words)
    for words in ("Missed <nodules>", "<i>2</i> & more", "1. 4 <mm>", "<x>", "far & wide", "2. 5"):
        assert words in text
    assert "No mark is a false positive." in text
    # What colours and lines mean is said once for each gallery that has pictures.
    assert text.count("excluded finding") - text.count("excluded findings") == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'src="data:image/jpeg;base64,b25l"' in page


def test_other_systems_are_compared(tmp_path: Path) -> None:
    text = "\n".join(write(tmp_path).words)
    row = text[text.index("Compared") :]
    assert "the <other>" in row
    assert "the <other>: " in text[: text.index("Compared")]
    assert "careful & <b>slow</b>" in text
    assert "the <other>: careful" not in text


def test_page_shows_everything_and_escapes_it(tmp_path: Path) -> None:
    reader = write(tmp_path)
    text = "\n".join(reader.words)
    assert {"b", "i"}.isdisjoint(tag for tag, _ in reader.tags)
    assert "Phantom <script>alert(1)</script>" in text
    assert "careful & <b>slow</b>" in text
    assert "nodule-train experiment=demo && echo '<done>'" in text
    assert "model.width" in text
    assert "<i>demo</i>" in text
    assert "0.4010" in text
    assert "1/8" in text
    assert "10-20 mm" in text
    assert "10-30 mm" in text
    assert "not for clinical use" in text


def test_page_without_bootstraps(tmp_path: Path) -> None:
    text = "\n".join(write(tmp_path, bootstraps=0).words)
    assert "95 % interval 0" not in text
    assert "0.4010" in text


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError) as error:
        write(tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_figures_leave_the_global_state_of_matplotlib_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_png(new_figure(1, 1))
    assert np.all([before[name] == value for name, value in matplotlib.rcParams.items()])
