"""Walks of folders, atomic writes of files, csv text, and short distinct names for paths."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path

from nodule_lightning.errors import ErrorKey, InputError, full_disk


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a draft beside a file that replaces it atomically if the block succeeds.

    Yields:
        The path of the draft.

    Raises:
        InputError: the folder cannot be created or written.
    """
    draft = path.with_name(_draft_name(path.name, os.getpid()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        raise write_error(path, error, "; choose another place") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def write_error(path: Path, error: OSError, cure: str = "") -> InputError:
    """Make the error of a path that cannot be written; its key tells a full disk from any other cause."""
    key: ErrorKey = "disk-full" if full_disk(error) else "output-refused"
    return InputError(f"{path} cannot be written: {error.strerror}{cure}", key)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        InputError: as `replacing`.
    """
    with replacing(path) as draft:
        draft.write_bytes(content)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Format rows as the bytes of a csv file, UTF-8 with LF line ends."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Name each path by the shortest part that distinguishes it: its own name, with as many parents as needed.

    A common ending is left out. If the parents do not distinguish the paths either, as with one file given twice, the
    names are numbered.

    >>> distinct_names([Path("runs/a/test/submission.csv"), Path("runs/b/test/submission.csv")])
    ['a', 'b']
    >>> distinct_names([Path("/home/a.csv"), Path("/home/a.tsv")])
    ['a (1)', 'a (2)']
    """
    bare = [path.with_suffix("").parts for path in paths]
    if len(set(bare)) > 1:
        while len({parts[-1] for parts in bare}) == 1 and min(map(len, bare)) > 1:
            bare = [parts[:-1] for parts in bare]
    deepest = max(map(len, bare), default=0)
    for depth in range(1, deepest + 1):
        names = ["/".join(parts[-depth:]) for parts in bare]
        if len(set(names)) == len(names):
            return names
    return [f"{path.stem} ({place})" for place, path in enumerate(paths, 1)]


def drafts_of(folder: Path, pattern: str) -> list[Path]:
    """List the drafts of files that are being written, or that a killed process left behind.

    Args:
        folder: the folder that the pattern is relative to.
        pattern: a glob of the final files.
    """
    parent, _, name = pattern.rpartition("/")
    found = folder.glob(f"{parent}/{_draft_name(name, '*')}" if parent else _draft_name(name, "*"))
    return sorted(path for path in found if path.suffix[1:].isdigit())


def _draft_name(name: str, process: int | str) -> str:
    return f".{name}.{process}"


def walk(folder: Path, unreadable: list[Path]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk a folder and its subfolders as `os.walk` does; follow links, but enter no folder twice.

    Hidden folders are left out.

    Args:
        folder: where to begin.
        unreadable: takes the folders that cannot be listed.

    Yields:
        A folder, the names of its subfolders, which may be changed in place, and the names of its visible files.
    """
    entered: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=note):
        stat = Path(parent).stat()
        if (stat.st_dev, stat.st_ino) in entered:
            folders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), folders, sorted(name for name in names if not name.startswith("."))
