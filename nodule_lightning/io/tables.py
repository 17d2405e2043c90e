"""The csv files: findings, candidates, scan ids and subsets, without any dependency but NumPy.

Columns are found by name in any order and others are passed over; comma and tab both separate. Files are written
beside their final name and then moved into place.
"""

import csv
import gc
import math
import re
from _csv import Reader as CsvReader
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import csv_bytes, write_whole
from nodule_lightning.structures import Candidates, Findings, Table

COORDINATES = ("coordX", "coordY", "coordZ")
_IN_MM = (*COORDINATES, "diameter_mm")
# A kilometre: no scanner's table reaches there. Squares of larger numbers may be none.
_FURTHEST_MM = 1e6
# Of an id that is too long.
_SHOWN = 40
_TIANCHI_ID = re.compile(r"LKDS[-_ ]?(\d{1,20})", re.IGNORECASE)


def check_scan_id(scan_id: str) -> str:
    """Give the one spelling of a scan id, or refuse an id that could not name a folder.

    Tianchi's files spell the same scan LKDS-00001 and LKDS_00001; the first is the one spelling.

    Raises:
        InputError: an empty id, one with a separator or control character, one that starts with a dot, or one too
            long for a file name.

    >>> check_scan_id(" LKDS_00001 ")
    'LKDS-00001'
    """
    scan_id = scan_id.strip()
    if match := _TIANCHI_ID.fullmatch(scan_id):
        return f"LKDS-{match[1]:0>5}"
    unsafe = not scan_id.isprintable() or set(scan_id) & set("/\\") or scan_id.startswith(".")
    if len(scan_id.encode(errors="surrogatepass")) > 200:
        begin = f"{scan_id[:_SHOWN]!r}... ({len(scan_id)} characters)"
        raise InputError(f"{begin} cannot be a scan id: it must be a plain file name of at most 200 bytes")
    if not scan_id or unsafe:
        raise InputError(f"{scan_id!r} cannot be a scan id: it must be a plain file name without separators")
    return scan_id


def read_findings(path: Path, *, sized: bool = True) -> Table[Findings]:
    """Read marks with the columns `seriesuid,coordX,coordY,coordZ,diameter_mm`.

    Args:
        path: the csv file.
        sized: every mark must have a diameter; in an excluded list -1 stands for one that the reader did not give.

    Raises:
        InputError: the file is missing, lacks a column, or holds something that is not a number, an id or a diameter.
    """
    columns = _read_columns(path, (*COORDINATES, "diameter_mm"))
    numbers = _numbers(columns, (*COORDINATES, "diameter_mm"))
    if sized and (wrong := np.flatnonzero(numbers[:, 3] <= 0)).size:
        raise columns.error(int(wrong[0]), f"diameter_mm is {numbers[wrong[0], 3]:g}, but a nodule has a positive one")
    return Table(_scan_ids(columns), Findings(numbers[:, :3], numbers[:, 3]))


def read_candidates(path: Path) -> Table[Candidates]:
    """Read a submission with the columns `seriesuid,coordX,coordY,coordZ,probability` and perhaps `diameter_mm`.

    Raises:
        InputError: the file is missing, lacks a column, or holds something that is not a number, a place or an id.
    """
    columns = _read_columns(path, (*COORDINATES, "probability"), ("diameter_mm",))
    numbers = _numbers(columns, (*COORDINATES, "probability"))
    has_diameter = "diameter_mm" in columns.place
    diameter = _numbers(columns, ("diameter_mm",))[:, 0] if has_diameter else np.full(len(numbers), -1.0)
    return Table(_scan_ids(columns), Candidates(numbers[:, :3], numbers[:, 3], diameter))


def read_classed_candidates(path: Path) -> tuple[Table[Candidates], Int8[np.ndarray, "n"] | None]:
    """Read candidates that a second stage learns from: a submission, or the file of LUNA16's second track.

    That file, `candidates_V2.csv`, has the columns `seriesuid,coordX,coordY,coordZ,class` and no probability: each of
    its marks gets the probability 1, so that the second stage alone ranks them.

    Returns:
        The candidates, and the class of each, 1 for a nodule and 0 for none; None where there is no such column.

    Raises:
        InputError: the file is missing, lacks a column, has neither a probability nor a class, or holds something
            that is not a number, an id or a class.
    """
    columns = _read_columns(path, COORDINATES, ("probability", "class", "diameter_mm"))
    if "probability" not in columns.place and "class" not in columns.place:
        raise InputError(f"{path}, line 1: it has neither a column probability, as a submission, nor a column class")
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
    """Read the scans of an evaluation, one id a line; the header `seriesuid` may be absent, as in LUNA16's file.

    Raises:
        InputError: the file is missing, holds no id, or holds one twice.
    """
    columns = _read_columns(path, ())
    if not columns.rows:
        raise InputError(f"{path} holds no scan id")
    return _each_once(columns)


def read_subsets(path: Path) -> dict[str, str]:
    """Read which subset each scan belongs to, from the columns `seriesuid,subset`.

    Raises:
        InputError: the file is missing, lacks a column, or holds a scan twice.
    """
    columns = _read_columns(path, ("subset",))
    names = [text.strip() for text in columns.texts("subset")]
    return dict(zip(_each_once(columns), names, strict=True))


def write_findings(path: Path, table: Table[Findings]) -> None:
    """Write marks so that `read_findings` gives the same numbers back."""
    numbers = np.column_stack([table.rows.centre_xyz_mm, table.rows.diameter_mm])
    rows = zip(table.scan_id.tolist(), numbers.tolist(), strict=True)
    write_whole(
        path, csv_bytes(("seriesuid", *COORDINATES, "diameter_mm"), ([scan_id, *values] for scan_id, values in rows))
    )


def write_candidates(path: Path, table: Table[Candidates], *, sized: bool = False) -> None:
    """Write a submission as the leaderboard takes it, of which the diameter is no part.

    Args:
        path: the csv file.
        table: the marks.
        sized: write the column `diameter_mm` too, -1 where a diameter is unknown.
    """
    columns = ("probability", "diameter_mm") if sized else ("probability",)
    numbers = np.column_stack([table.rows.centre_xyz_mm, *(getattr(table.rows, name) for name in columns)])
    rows = zip(table.scan_id.tolist(), numbers.tolist(), strict=True)
    write_whole(
        path, csv_bytes(("seriesuid", *COORDINATES, *columns), ([scan_id, *values] for scan_id, values in rows))
    )


def write_scan_ids(path: Path, scan_ids: Iterable[str]) -> None:
    """Write scan ids, one a line, under the header `seriesuid`."""
    write_whole(path, csv_bytes(("seriesuid",), ([scan_id] for scan_id in scan_ids)))


def join_findings(tables: Iterable[Table[Findings]]) -> Table[Findings]:
    """Put tables one after the other; no table gives an empty one."""
    tables = list(tables)
    scan_id = np.concatenate([np.zeros(0, dtype=np.str_), *[table.scan_id for table in tables]])
    return Table(scan_id, Findings.concatenate(table.rows for table in tables))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The rows of a file as text, without its header and blank lines, and the place of each column."""

    path: Path
    place: dict[str, int]
    rows: list[list[str]]
    has_header: bool

    def texts(self, name: str) -> list[str]:
        place = self.place[name]
        return [row[place] for row in self.rows]

    def error(self, index: int, what: str) -> InputError:
        """Say what is wrong with a row, by its line in the file; reads the file again to count its lines."""
        with _opened(self.path) as reader:
            lines = [reader.line_num for row in reader if row]
        return InputError(f"{self.path}, line {lines[index + self.has_header]}: {what}")


@contextmanager
def _opened(path: Path) -> Iterator[CsvReader]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            yield csv.reader(file, delimiter=delimiter)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a csv file: {error}") from None


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare Python the search for cycles among a million new rows, which takes as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_columns(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> _Columns:
    with _opened(path) as reader, _no_garbage_collection():
        rows = [row for row in reader if row]
    place = _header(path, rows[0] if rows else [], (*needed, *optional), len(needed))
    # A list of bare ids has no header: its first row is data.
    columns = _Columns(path, place or {"seriesuid": 0}, rows[1:] if place else rows, has_header=bool(place))
    width = max(columns.place.values()) + 1
    if min(map(len, columns.rows), default=width) < width:
        index = next(index for index, row in enumerate(columns.rows) if len(row) < width)
        raise columns.error(index, f"{len(columns.rows[index])} values where at least {width} are needed")
    return columns


def _header(path: Path, first: Sequence[str], wanted: Sequence[str], needed: int) -> dict[str, int]:
    """Find the wanted columns, of which the first `needed` must be there; nothing where there is no header."""
    found = [name.strip().lower() for name in first]
    place = {name: found.index(name.lower()) for name in ("seriesuid", *wanted) if name.lower() in found}
    missing = [name for name in ("seriesuid", *wanted[:needed]) if name not in place]
    if missing and needed:
        there = ", ".join(first) or "nothing"
        raise InputError(f"{path}, line 1: the column {missing[0]} is missing; found {there}")
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
            raise columns.error(index, f"the scan {scan_id} stands there twice; keep one line")
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
