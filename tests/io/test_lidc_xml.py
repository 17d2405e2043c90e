"""LIDC-IDRI's XML: what it says, and the ways in which it can be bad."""

from pathlib import Path

import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.io.lidc_xml import read_lidc_xml, series_of
from tests.readings import BOMB, CT, RADIOGRAPH, contour, document, nodule, non_nodule, parse, square, write


def test_the_marks_of_each_reader(tmp_path: Path) -> None:
    big = nodule(contour(-7.5, square(2, 6)), contour(-7.5, square(3, 5), "FALSE"), malignancy=4, texture=2)
    readings = parse(tmp_path, [big, non_nodule(5.0, 8, 9)], [], [nodule(contour(-5, [(3, 4)]))])
    assert (readings.scan_id, readings.readers) == ("1.2.3", 3)
    first, other, small = readings.marks
    assert [mark.reader for mark in readings.marks] == [0, 0, 2]
    assert [mark.is_nodule for mark in readings.marks] == [True, False, True]
    assert first.ratings == {"texture": 2, "malignancy": 4}
    assert other.ratings == small.ratings == {}
    assert [(one.z_mm, one.is_hole, len(one.xy)) for one in first.contours] == [(-7.5, False, 17), (-7.5, True, 9)]
    assert other.contours[0].xy.tolist() == [[8, 9]]


def test_any_namespace_and_the_other_spelling_of_the_series(tmp_path: Path) -> None:
    text = document("1.2.3", [non_nodule(5.0, 8, 9)])
    text = text.replace(' xmlns="http://www.nih.gov"', "").replace("SeriesInstanceUid", "SeriesInstanceUID")
    path = write(tmp_path / "a.xml", text)
    assert series_of(path) == "1.2.3"
    assert len(read_lidc_xml(path).marks) == 1


GOOD = document("1.2.3", [nodule(contour(-7.5, square(2, 6)), malignancy=4)])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (BOMB, "file-unsafe"),
        (GOOD.replace("?>\n", '?>\n<!DOCTYPE LidcReadMessage SYSTEM "file:///etc/passwd">'), "file-unsafe"),
        ("<html><body/></html>", "file-foreign"),
        (RADIOGRAPH, "file-foreign"),
        (GOOD[: len(GOOD) // 2], "file-damaged"),
        ("", "file-damaged"),
        ("no XML at all", "file-damaged"),
        (GOOD.replace("UTF-8", "klingon"), "file-damaged"),
        (f"{CT}<ResponseHeader/></LidcReadMessage>", "file-damaged"),
        (document("../1.2", []), "scan-invalid"),
        (document("1.2.3", ["<unblindedReadNodule/>"]), "file-damaged"),
        (document("1.2.3", [nodule(contour(1, []))]), "file-damaged"),
        (GOOD.replace("<xCoord>2<", "<xCoord>left<", 1), "file-damaged"),
        (GOOD.replace("<xCoord>2<", "<xCoord>nan<", 1), "file-damaged"),
        (GOOD.replace("<xCoord>2<", "<xCoord>-2<", 1), "file-damaged"),
        (GOOD.replace("<xCoord>2<", "<xCoord>2000000000<", 1), "file-damaged"),
        (GOOD.replace("<xCoord>2<", "<xCoord>2.5<", 1), "file-damaged"),
        (GOOD.replace("-7.5", "inf"), "file-damaged"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, key: str) -> None:
    path = write(tmp_path / "a.xml", text)
    with pytest.raises(InputError) as error:
        read_lidc_xml(path)
    assert error.value.key == key
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        series_of(tmp_path / "gone.xml")
    assert error.value.key == "file-unreadable"


def test_the_series_of_a_file_that_is_cut_after_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", GOOD[: len(GOOD) // 2])
    assert series_of(path) == "1.2.3"
    assert series_of(write(tmp_path / "b.xml", RADIOGRAPH)) is None
    for text, key in ((BOMB, "file-unsafe"), ("<html/>", "file-foreign"), (GOOD[:60], "file-damaged")):
        with pytest.raises(InputError) as error:
            series_of(write(tmp_path / "c.xml", text))
        assert error.value.key == key
