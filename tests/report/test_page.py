from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import froc
from nodule_lightning.report.canvas import new_figure, to_png
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


def write(output: Path, bootstraps: int = 20) -> Reader:
    case = random_case(215)
    result = froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=bootstraps)
    page = write_report(
        output,
        "Phantom <script>alert(1)</script>",
        result.with_warning("careful & <b>slow</b>"),
        [Picture("crop", "Lung <crop>", 'one "slice"', PNG)],
        {"model": {"width": 16}, "name": "<i>demo</i>"},
        "nodule-train experiment=demo && echo '<done>'",
    )
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_page_stands_alone_and_the_pictures_lie_beside_it(tmp_path: Path) -> None:
    reader = write(tmp_path / "out")
    sources = [attributes["src"] or "" for tag, attributes in reader.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["crop.png", "froc.png", "report.html"]
    assert (tmp_path / "out" / "crop.png").read_bytes() == PNG


def test_page_tells_everything_and_escapes_it(tmp_path: Path) -> None:
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
    assert "not for clinical use" in text


def test_page_without_bootstraps(tmp_path: Path) -> None:
    text = "\n".join(write(tmp_path, bootstraps=0).words)
    assert "95 % interval 0" not in text
    assert "0.4010" in text


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"froc\.png cannot be written"):
        write(tmp_path / "file")


def test_figures_leave_the_global_state_of_matplotlib_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_png(new_figure(1, 1))
    assert np.all([before[name] == value for name, value in matplotlib.rcParams.items()])
