"""Csv files of findings, candidates, scan ids and subsets; needs only NumPy.

Columns are matched by name, in any order, and unknown ones are ignored. The separator is a comma or a tab. Files are
written atomically.
"""

import csv
import gc
import math
import re
import unicodedata
from _csv import Reader as CsvReader
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from nodule_lightning.errors import ErrorKey, InputError
from nodule_lightning.io.files import csv_bytes, write_whole
from nodule_lightning.structures import Candidates, Findings, Table

COORDINATES = ("coordX", "coordY", "coordZ")
_IN_MM = (*COORDINATES, "diameter_mm")
# A kilometre is beyond any scanner. Much larger numbers would overflow when squared.
_FURTHEST_MM = 1e6
# Headers of a list of ids, without case and punctuation; pandas names a column 0.
_ID_HEADERS = frozenset({
    "seriesuid", "seriesinstanceuid", "seriesid", "series", "scanid", "scan", "scans", "id", "ids", "uid", "uids",
    "caseid", "case", "name", "filename", "0",
})  # fmt: skip
# How many characters of a too long id a message shows.
_SHOWN = 40
_TIANCHI_ID = re.compile(r"LKDS[-_ ]?(\d{1,20})", re.IGNORECASE)


def check_scan_id(scan_id: str) -> str:
    """Normalise a scan id, and refuse one that cannot name a folder.

    Tianchi's files spell the same scan LKDS-00001 and LKDS_00001; the normal form is LKDS-00001. Unicode is composed
    (NFC).

    Raises:
        InputError: the id is empty, has a separator or control character, starts with a dot, or is too long for a
            file name.

    >>> check_scan_id(" LKDS_00001 ")
    'LKDS-00001'
    """
    # macOS writes accents of file names as characters of their own (NFD).
    scan_id = unicodedata.normalize("NFC", scan_id.strip())
    if match := _TIANCHI_ID.fullmatch(scan_id):
        return f"LKDS-{match[1]:0>5}"
    unsafe = not scan_id.isprintable() or set(scan_id) & set("/\\") or scan_id.startswith(".")
    if len(scan_id.encode(errors="surrogatepass")) > 200:
        begin = f"{scan_id[:_SHOWN]!r}... ({len(scan_id)} characters)"
        raise InputError(
            f"{begin} cannot be a scan id: it must be a plain file name of at most 200 bytes", "scan-invalid"
        )
    if not scan_id or unsafe:
        raise InputError(
            f"{scan_id!r} cannot be a scan id: it must be a plain file name without separators", "scan-invalid"
        )
    return scan_id


def read_findings(path: Path, *, sized: bool = True) -> Table[Findings]:
    """Read findings from the columns `seriesuid,coordX,coordY,coordZ,diameter_mm`.

    Args:
        path: the csv file.
        sized: require a positive diameter; an excluded list has -1 where the reader gave none.

    Raises:
        InputError: the file is missing, lacks a column, or has a value that is not a number, an id or a diameter.
    """
    columns = _read_columns(path, (*COORDINATES, "diameter_mm"))
    numbers = _numbers(columns, (*COORDINATES, "diameter_mm"))
    if sized and (wrong := np.flatnonzero(numbers[:, 3] <= 0)).size:
        raise columns.error(int(wrong[0]), f"diameter_mm is {numbers[wrong[0], 3]:g}, but a nodule has a positive one")
    return Table(_scan_ids(columns), Findings(numbers[:, :3], numbers[:, 3]))


def read_candidates(path: Path) -> Table[Candidates]:
    """Read a submission from the columns `seriesuid,coordX,coordY,coordZ,probability` and optionally `diameter_mm`.

    Raises:
        InputError: the file is missing, lacks a column, or has a value that is not a number, a position or an id.
    """
    columns = _read_columns(path, (*COORDINATES, "probability"), ("diameter_mm",))
    numbers = _numbers(columns, (*COORDINATES, "probability"))
    has_diameter = "diameter_mm" in columns.place
    diameter = _numbers(columns, ("diameter_mm",))[:, 0] if has_diameter else np.full(len(numbers), -1.0)
    return Table(_scan_ids(columns), Candidates(numbers[:, :3], numbers[:, 3], diameter))


def read_classed_candidates(path: Path) -> tuple[Table[Candidates], Int8[np.ndarray, "n"] | None]:
    """Read candidates to train a second stage on: a submission, or `candidates_V2.csv` of LUNA16's second track.

    The latter has the columns `seriesuid,coordX,coordY,coordZ,class` and no probability. Its candidates get the
    probability 1, so that the second stage alone ranks them.

    Returns:
        The candidates, and the class of each: 1 for a nodule, 0 otherwise. None if there is no such column.

    Raises:
        InputError: the file is missing, lacks a column, has neither a probability nor a class, or has a value that is
            not a number, an id or a class.
    """
    columns = _read_columns(path, COORDINATES, ("probability", "class", "diameter_mm"))
    if "probability" not in columns.place and "class" not in columns.place:
        raise InputError(
            f"{path}, line 1: it has neither a column probability, as a submission, nor a column class",
            "table-column-missing",
        )
    probability, diameter_mm, given = (
        _numbers(columns, (name,))[:, 0] if name in columns.place else None
        for name in ("probability", "diameter_mm", "class")
    )
    if given is not None and (wrong := np.flatnonzero((given != 0) & (given != 1))).size:
        raise columns.error(int(wrong[0]), f"class is {given[wrong[0]]:g}, but must be 1 for a nodule or 0 for none")
    count = len(columns.rows)
    rows = Candidates(
        _numbers(columns, COORDINATES),
        np.ones(count) if probability is None else probability,
        np.full(count, -1.0) if diameter_mm is None else diameter_mm,
    )
    return Table(_scan_ids(columns), rows), None if given is None else given.astype(np.int8)


def read_scan_ids(path: Path) -> list[str]:
    """Read a list of scans, one id per line; a header such as `seriesuid` is optional, as in LUNA16's file.

    Raises:
        InputError: the file is missing, holds no id or one twice, or its first line looks like an unknown header.
    """
    columns = _without_header(_read_columns(path, ()))
    if not columns.rows:
        raise InputError(f"{path} holds no scan id; list one per line", "table-value-invalid")
    return _each_once(columns)


def read_subsets(path: Path) -> dict[str, str]:
    """Read the subset of each scan from the columns `seriesuid,subset`.

    Raises:
        InputError: the file is missing, lacks a column, or holds a scan twice.
    """
    columns = _read_columns(path, ("subset",))
    names = [text.strip() for text in columns.texts("subset")]
    return dict(zip(_each_once(columns), names, strict=True))


def write_findings(path: Path, table: Table[Findings]) -> None:
    """Write findings; `read_findings` restores the same numbers exactly."""
    numbers = np.column_stack([table.rows.centre_xyz_mm, table.rows.diameter_mm])
    rows = zip(table.scan_id.tolist(), numbers.tolist(), strict=True)
    write_whole(
        path, csv_bytes(("seriesuid", *COORDINATES, "diameter_mm"), ([scan_id, *values] for scan_id, values in rows))
    )


def write_candidates(path: Path, table: Table[Candidates], *, sized: bool = False) -> None:
    """Write a submission in the format of the leaderboard, which has no diameter.

    Args:
        path: the csv file.
        table: the candidates.
        sized: add the column `diameter_mm`, with -1 for unknown diameters.
    """
    columns = ("probability", "diameter_mm") if sized else ("probability",)
    numbers = np.column_stack([table.rows.centre_xyz_mm, *(getattr(table.rows, name) for name in columns)])
    rows = zip(table.scan_id.tolist(), numbers.tolist(), strict=True)
    write_whole(
        path, csv_bytes(("seriesuid", *COORDINATES, *columns), ([scan_id, *values] for scan_id, values in rows))
    )


def write_scan_ids(path: Path, scan_ids: Iterable[str]) -> None:
    """Write scan ids, one per line, under the header `seriesuid`."""
    write_whole(path, csv_bytes(("seriesuid",), ([scan_id] for scan_id in scan_ids)))


def write_read_scans(path: Path, doubts: Mapping[str, Sequence[str]]) -> None:
    """Write scan ids as `write_scan_ids` does, with a column `doubts`: with what doubts each scan was read."""
    rows = ([scan_id, "; ".join(notes)] for scan_id, notes in doubts.items())
    write_whole(path, csv_bytes(("seriesuid", "doubts"), rows))


def join_findings(tables: Iterable[Table[Findings]]) -> Table[Findings]:
    """Concatenate tables; without any, the result is empty."""
    tables = list(tables)
    scan_id = np.concatenate([np.zeros(0, dtype=np.str_), *[table.scan_id for table in tables]])
    return Table(scan_id, Findings.concatenate(table.rows for table in tables))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The rows of a csv file as text, without header and blank lines, and the position of each column."""

    path: Path
    place: dict[str, int]
    rows: list[list[str]]
    has_header: bool

    def texts(self, name: str) -> list[str]:
        place = self.place[name]
        return [row[place] for row in self.rows]

    def error(self, index: int, problem: str, key: ErrorKey = "table-value-invalid") -> InputError:
        """Make the error of a row, with its line number; reads the file again to count the lines."""
        with _opened(self.path) as reader:
            lines = [reader.line_num for row in reader if any(row)]
        return InputError(f"{self.path}, line {lines[index + self.has_header]}: {problem}", key)


@contextmanager
def _opened(path: Path) -> Iterator[CsvReader]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            # An id has no semicolon; a comma after one may be that of a decimal.
            if ";" in first.partition(",")[0] and "\t" not in first:
                raise InputError(
                    f"{path}, line 1: its columns are separated by semicolons; write it with commas, and numbers with "
                    "points",
                    "table-value-invalid",
                )
            delimiter = "\t" if "\t" in first else ","
            file.seek(0)
            yield csv.reader(file, delimiter=delimiter)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "file-missing") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a csv file: {error}", "file-unreadable") from None


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Suspend garbage collection: its search for cycles among a million new rows takes as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_columns(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> _Columns:
    with _opened(path) as reader, _no_garbage_collection():
        rows = [row for row in reader if any(row)]
    place = _header(path, rows[0] if rows else [], (*needed, *optional), len(needed))
    # A list of ids may have no header: its first row is then data.
    columns = _Columns(path, place or {"seriesuid": 0}, rows[1:] if place else rows, has_header=bool(place))
    width = max(columns.place.values()) + 1
    if min(map(len, columns.rows), default=width) < width:
        index = next(index for index, row in enumerate(columns.rows) if len(row) < width)
        raise columns.error(index, f"{len(columns.rows[index])} values where at least {width} are needed")
    # A number under a nameless last column would be the rest of one with a decimal comma.
    _refuse_long_rows(columns, len(_without_empty_end(rows[0])) if rows else 0)
    return columns


def _without_header(columns: _Columns) -> _Columns:
    """Take the first line of a list off if it is a header by another name than `seriesuid`.

    Raises:
        InputError: it may be one: it alone has no digit.
    """
    if columns.has_header or not columns.rows:
        return columns
    first, *others = columns.rows
    known = [place for place, name in enumerate(first) if _plain_name(name) in _ID_HEADERS]
    named = [place for place in known if first[place].strip() != "0"]
    # pandas leaves the header of its index empty. Scans that are numbered from 0 have no header.
    place = next(iter(named or (known if not any(first[:-1]) else [])), None)
    if place is not None and (short := [index for index, row in enumerate(others, 1) if len(row) <= place]):
        raise columns.error(short[0], f"it ends before column {place + 1}, which holds the ids")
    if place is not None and (named or not all(row[place].isdigit() for row in others)):
        return replace(columns, place={"seriesuid": place}, rows=others, has_header=True)
    ids = [row[0] for row in others]
    if ids and not _has_digit(first[0]) and all(map(_has_digit, ids)):
        raise columns.error(0, f"{first[0]!r} looks like a header, unlike all other lines; name it seriesuid")
    return columns


def _plain_name(header: str) -> str:
    return re.sub(r"[\W_]", "", header).lower()


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _without_empty_end(row: Sequence[str]) -> Sequence[str]:
    width = len(row)
    while width and not row[width - 1].strip():
        width -= 1
    return row[:width]


def _refuse_long_rows(columns: _Columns, width: int) -> None:
    """Refuse rows with more values than columns: with decimal commas, each value would be taken for another.

    Spreadsheets end rows with empty cells, which are no values.
    """
    if max(map(len, columns.rows), default=0) <= width:
        return
    for index, row in enumerate(columns.rows):
        if len(values := _without_empty_end(row)) > width:
            raise columns.error(
                index,
                f"{len(values)} values under {width} columns; write numbers with decimal points, not commas, and texts "
                "with commas in quotes",
            )


def _header(path: Path, first: Sequence[str], wanted: Sequence[str], needed: int) -> dict[str, int]:
    """Map the wanted columns to their positions; empty if there is no header. The first `needed` must be present."""
    found = [name.strip().lower() for name in first]
    place = {name: found.index(name.lower()) for name in ("seriesuid", *wanted) if name.lower() in found}
    missing = [name for name in ("seriesuid", *wanted[:needed]) if name not in place]
    if missing and needed:
        present = ", ".join(first) or "nothing"
        raise InputError(f"{path}, line 1: the column {missing[0]} is missing; found {present}", "table-column-missing")
    return {} if missing else place


def _scan_ids(columns: _Columns) -> Shaped[np.ndarray, "n"]:
    texts = columns.texts("seriesuid")
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    spelling = []
    for text in number:
        try:
            spelling.append(check_scan_id(text))
        except InputError as error:
            raise columns.error(texts.index(text), str(error)) from None
    return np.array(spelling, dtype=np.str_)[[number[text] for text in texts]]


def _each_once(columns: _Columns) -> list[str]:
    scan_ids: list[str] = _scan_ids(columns).tolist()
    seen: set[str] = set()
    for index, scan_id in enumerate(scan_ids):
        if scan_id in seen:
            raise columns.error(index, f"the scan {scan_id} is listed twice; keep one line", "scan-repeated")
        seen.add(scan_id)
    return scan_ids


def _numbers(columns: _Columns, names: Sequence[str]) -> Float64[np.ndarray, "n column"]:
    numbers = np.empty((len(columns.rows), len(names)))
    for position, name in enumerate(names):
        place = columns.place[name]
        try:
            numbers[:, position] = np.fromiter((float(row[place]) for row in columns.rows), float, len(columns.rows))
        except ValueError:
            numbers[:, position] = np.nan
        if not np.isfinite(numbers[:, position]).all():
            texts = columns.texts(name)
            index = next(index for index, text in enumerate(texts) if not _is_number(text))
            raise columns.error(index, f"{name} is {texts[index]!r}, not a number")
        if name in _IN_MM and (wrong := np.flatnonzero(np.abs(numbers[:, position]) > _FURTHEST_MM)).size:
            index = int(wrong[0])
            raise columns.error(
                index, f"{name} is {columns.texts(name)[index]!r} mm, but no scan reaches beyond {_FURTHEST_MM:.0f} mm"
            )
    return numbers


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
