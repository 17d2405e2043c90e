"""A progress bar on the terminal's standard error; nothing where there is no terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass the items on, and show how many of the total have come."""
    console = Console(stderr=True)
    yield from track(items, description, total, console=console, transient=True, disable=not console.is_terminal)
