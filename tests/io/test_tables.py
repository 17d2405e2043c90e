"""Tables: a round trip restores the values, and the error of a bad row names its line."""

import gc
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import (
    check_scan_id,
    join_findings,
    read_candidates,
    read_classed_candidates,
    read_findings,
    read_scan_ids,
    read_subsets,
    write_candidates,
    write_findings,
    write_scan_ids,
)
from nodule_lightning.structures import Candidates, Findings, Table

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
length_mm = st.floats(-1e6, 1e6)


@pytest.fixture
def csv(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "表 (1).csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["a", "1.2,3", "肺 1"]), length_mm, length_mm, length_mm, length_mm)))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float, float, float, float]]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "deep" / "t.csv"
    numbers = np.array([row[1:] for row in rows]).reshape(-1, 4)
    ids = np.array([row[0] for row in rows], dtype=np.str_)
    write_findings(path, Table(ids, Findings(numbers[:, :3], numbers[:, 3])))
    findings = read_findings(path, sized=False)
    write_candidates(path, Table(ids, Candidates(numbers[:, :3], numbers[:, 3], np.ones(len(ids)))))
    candidates = read_candidates(path)
    assert findings.scan_id.tolist() == candidates.scan_id.tolist() == ids.tolist()
    assert np.array_equal(findings.rows.centre_xyz_mm, numbers[:, :3])
    assert np.array_equal(findings.rows.diameter_mm, candidates.rows.probability)
    assert (candidates.rows.diameter_mm == -1).all()
    assert [file.name for file in path.parent.iterdir()] == ["t.csv"]


def test_columns_in_any_order_with_tabs_and_a_mark_at_the_start(csv: Callable[[str], Path]) -> None:
    path = csv(
        "\ufeffprobability\tcoordz\tCoordY\tcoordX\tseriesuid\tdiameter_mm\tnote\n\n.5\t3\t2\t1\tLKDS_00001\t7\tx\n\n"
    )
    table = read_candidates(path)
    assert table.scan_id.tolist() == ["LKDS-00001"]
    assert table.rows.centre_xyz_mm.tolist() == [[1, 2, 3]]
    assert (table.rows.probability.item(), table.rows.diameter_mm.item()) == (0.5, 7)


def test_empty_tables(csv: Callable[[str], Path]) -> None:
    assert read_findings(csv(HEADER)).rows.centre_xyz_mm.shape == (0, 3)
    assert len(join_findings([])) == 0


@pytest.mark.parametrize("text", ["seriesuid\na\nb\n", "a\nb\n", "a,0\nb,1\n"])
def test_scan_ids_with_and_without_header(csv: Callable[[str], Path], text: str) -> None:
    assert read_scan_ids(csv(text)) == ["a", "b"]


@pytest.mark.parametrize("diameter", ["-1", "0"])
def test_only_an_excluded_finding_may_lack_a_diameter(csv: Callable[[str], Path], diameter: str) -> None:
    path = csv(f"{HEADER}a,1,2,3,5\na,1,2,3,{diameter}\n")
    with pytest.raises(InputError) as error:
        read_findings(path)
    assert error.value.key == "table-value-invalid"
    assert f"line 3: diameter_mm is {diameter}," in str(error.value)
    assert read_findings(path, sized=False).rows.diameter_mm[1] == float(diameter)


def test_scan_ids_round_trip(tmp_path: Path) -> None:
    write_scan_ids(tmp_path / "ids.csv", ["b", "a"])
    assert read_scan_ids(tmp_path / "ids.csv") == ["b", "a"]


def test_subsets(csv: Callable[[str], Path]) -> None:
    assert read_subsets(csv("subset,seriesuid\n3,b\n,a\n")) == {"b": "3", "a": ""}


@pytest.mark.parametrize(
    ("text", "key", "line", "value"),
    [
        ("seriesuid,coordX,coordY,coordZ\n", "table-column-missing", 1, "diameter_mm"),
        ("", "table-column-missing", 1, "seriesuid"),
        (HEADER + "\na,1,2,3,4\n\na,1,nan,3,4\n", "table-value-invalid", 5, "coordY is 'nan'"),
        (HEADER + "a,1,2,3,4\na,1,2,3,big\n", "table-value-invalid", 3, "diameter_mm is 'big'"),
        (HEADER + "a,1,2,inf,4\n", "table-value-invalid", 2, "coordZ is 'inf'"),
        (HEADER + "a,1,2,3,4\n\na,1e308,-1e308,3,4\n", "table-value-invalid", 4, "coordX is '1e308' mm"),
        (HEADER + "a,1,-1000001,3,4\n", "table-value-invalid", 2, "coordY is '-1000001' mm"),
        (HEADER + "a,1,2,3,1e308\n", "table-value-invalid", 2, "diameter_mm is '1e308' mm"),
        (HEADER + "a,1,2,3\n", "table-value-invalid", 2, "4 values"),
        (HEADER + "../a,1,2,3,4\n", "table-value-invalid", 2, "'../a'"),
    ],
)
def test_bad_findings_name_the_line_and_the_value(
    csv: Callable[[str], Path], text: str, key: str, line: int, value: str
) -> None:
    path = csv(text)
    with pytest.raises(InputError) as error:
        read_findings(path)
    assert error.value.key == key
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert value in str(error.value)


@pytest.mark.parametrize(
    ("read", "text", "key", "value"),
    [
        (read_scan_ids, "seriesuid\na\na\n", "scan-repeated", "line 3: the scan a "),
        (read_scan_ids, "seriesuid\n", "table-value-invalid", ""),
        (
            read_candidates,
            "seriesuid,coordX,coordY,coordZ,probability\na,1,2,3,high\n",
            "table-value-invalid",
            "line 2: probability is 'high'",
        ),
        (read_subsets, "seriesuid\na\n", "table-column-missing", "subset"),
    ],
)
def test_other_bad_tables(
    csv: Callable[[str], Path], read: Callable[[Path], object], text: str, key: str, value: str
) -> None:
    path = csv(text)
    with pytest.raises(InputError) as error:
        read(path)
    assert error.value.key == key
    assert str(path) in str(error.value)
    assert value in str(error.value)


def test_files_that_are_missing_or_no_csv(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name, key in (("gone.csv", "file-missing"), (".", "file-unreadable"), ("binary.csv", "file-unreadable")):
        with pytest.raises(InputError) as error:
            read_findings(tmp_path / name)
        assert error.value.key == key
        assert str(tmp_path / name) in str(error.value)
        with pytest.raises(InputError) as error:
            read_scan_ids(tmp_path / name)
        assert error.value.key == key


@pytest.mark.parametrize("scan_id", ["", "  ", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "a\udcff", "x" * 201])
def test_unsafe_scan_ids(scan_id: str) -> None:
    with pytest.raises(InputError) as error:
        check_scan_id(scan_id)
    assert error.value.key == "scan-invalid"


@pytest.mark.parametrize("begin", ["../", "LKDS-"])
def test_a_long_id_is_shortened_in_the_message(begin: str) -> None:
    scan_id = begin + "1" * (5000 - len(begin))
    with pytest.raises(InputError) as error:
        check_scan_id(scan_id)
    assert error.value.key == "scan-invalid"
    assert str(error.value).startswith(f"{scan_id[:40]!r}... (5000 characters) ")
    assert len(str(error.value)) < 150


@pytest.mark.parametrize("scan_id", ["LKDS-00012", "LKDS_00012", "lkds_12", " LKDS00012"])
def test_tianchi_ids_have_one_spelling(scan_id: str) -> None:
    assert check_scan_id(scan_id) == "LKDS-00012"


def test_failed_write_leaves_the_old_file(csv: Callable[[str], Path]) -> None:
    path = csv("old")

    def broken() -> Iterator[str]:
        yield "a"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_scan_ids(path, broken())
    with pytest.raises(InputError) as error:
        write_scan_ids(path / "below a file.csv", ["a"])
    assert error.value.key == "output-refused"
    assert path.read_text(encoding="utf-8") == "old"
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.real_data
def test_official_tables(real_data: Path) -> None:
    luna = real_data / "luna16"
    assert len(read_findings(luna / "annotations.csv")) == 1186
    assert len(read_findings(luna / "annotations_excluded.csv", sized=False)) == 35192
    assert len(read_scan_ids(luna / "seriesuids.csv")) == 888
    assert set(read_subsets(luna / "subsets.csv").values()) == set("0123456789")
    assert len(read_findings(real_data / "tianchi/annotations_train_600.csv")) == 975


def test_reading_leaves_garbage_collection_as_it_was(csv: Callable[[str], Path]) -> None:
    read_candidates(csv("seriesuid,coordX,coordY,coordZ,probability\na,1,2,3,0.5\n"))
    assert gc.isenabled()
    with pytest.raises(InputError):
        read_candidates(csv("seriesuid,coordX\n\0"))
    assert gc.isenabled()


def test_candidates_of_a_second_stage_have_a_probability_or_a_class(csv: Callable[[str], Path]) -> None:
    table, classes = read_classed_candidates(csv("seriesuid,coordX,coordY,coordZ,class\nb,1,2,3,1\na,4,5,6,0\n"))
    assert table.scan_id.tolist() == ["b", "a"]
    assert table.rows.probability.tolist() == [1.0, 1.0]
    assert table.rows.diameter_mm.tolist() == [-1.0, -1.0]
    assert classes is not None
    assert classes.tolist() == [1, 0]
    table, classes = read_classed_candidates(
        csv("seriesuid,coordX,coordY,coordZ,probability,diameter_mm\na,1,2,3,0.25,7\n")
    )
    assert classes is None
    assert table.rows.probability.tolist() == [0.25]
    assert table.rows.diameter_mm.tolist() == [7.0]
    nothing, classes = read_classed_candidates(csv("seriesuid,coordX,coordY,coordZ,class\n"))
    assert len(nothing) == 0
    assert classes is not None
    assert classes.shape == (0,)


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("seriesuid,coordX,coordY,coordZ\na,1,2,3\n", "table-column-missing", "line 1:"),
        (
            "seriesuid,coordX,coordY,coordZ,class\na,1,2,3,1\na,1,2,3,2\n",
            "table-value-invalid",
            "line 3: class is 2,",
        ),
        ("seriesuid,coordX,coordY,coordZ,class\na,1,2,3,yes\n", "table-value-invalid", "line 2: class is 'yes',"),
    ],
)
def test_invalid_candidates_of_a_second_stage(csv: Callable[[str], Path], content: str, key: str, value: str) -> None:
    with pytest.raises(InputError) as error:
        read_classed_candidates(csv(content))
    assert error.value.key == key
    assert value in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "SeriesInstanceUID\nscan-1\nscan-2\n", "0\nscan-1\nscan-2\n", ",0\n0,scan-1\n1,scan-2\n",
        "scan_id,split\nscan-1,test\nscan-2,test\n", ",Series UID\n0,scan-1\n1,scan-2\n",
        "seriesuid,\nscan-1,\nscan-2,\n", "scan-1\nscan-2\n,\n",
    ],
)  # fmt: skip
def test_a_header_of_another_name_is_no_scan(tmp_path: Path, text: str) -> None:
    (tmp_path / "scans.csv").write_text(text)
    assert read_scan_ids(tmp_path / "scans.csv") == ["scan-1", "scan-2"]


def test_numbered_scans_have_no_header(tmp_path: Path) -> None:
    (tmp_path / "scans.csv").write_text("0\n1\n2\n")
    assert read_scan_ids(tmp_path / "scans.csv") == ["0", "1", "2"]


@pytest.mark.parametrize(
    "text", ["Patienten\nscan-1\nscan-2\n", "seriesuid;split\nscan-1;a\n", "scan-1;a\nscan-2;b\n", ",id\n0,scan-1\n1\n"]
)
def test_what_may_be_no_list_of_scans_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scans.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_scan_ids(tmp_path / "scans.csv")
    assert error.value.key == "table-value-invalid"
    assert ", line " in str(error.value)


def test_rows_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    good = "a,1,2,3,0.5,\n"
    path.write_text(f"seriesuid,coordX,coordY,coordZ,probability\n{good}a,-14,08,-71,67,31,10,1,00\n")
    with pytest.raises(InputError) as error:
        read_candidates(path)
    assert error.value.key == "table-value-invalid"
    assert "line 3" in str(error.value)
    path.write_text("seriesuid,coordX,coordY,coordZ,probability,\na,1,2,3,0,5\n")
    with pytest.raises(InputError):
        read_candidates(path)
    path.write_text(f"seriesuid,coordX,coordY,coordZ,probability\n{good}")
    assert len(read_candidates(path)) == 1


def test_ids_are_compared_as_composed_text(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müller 肺") for form in ("NFC", "NFD"))
    assert composed != decomposed
    (tmp_path / "scans.csv").write_text(f"seriesuid\n{decomposed}\n", encoding="utf-8")
    assert read_scan_ids(tmp_path / "scans.csv") == [composed]
    assert check_scan_id(decomposed) == composed
