"""Progress where there is no terminal: few lines, at about even times."""

import time
from collections.abc import Iterator

import pytest

from nodule_lightning.cli._progress import progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def slow(self, count: int, seconds: float) -> Iterator[int]:
        """Take so many seconds for each item."""
        for item in range(count):
            self.now += seconds
            yield item


@pytest.mark.parametrize(
    ("count", "seconds", "said"),
    [
        # 25 s for each tenth: a line for each.
        (20, 12.5, [f"working: {2 * n} of 20 after {25 * n} s" for n in range(1, 11)]),
        # 2.5 s for each tenth: a line after each 10 s.
        (100, 0.25, ["working: 40 of 100 after 10 s", "working: 80 of 100 after 20 s"]),
        # 1000 s for each tenth: a line for each minute.
        (1000, 10.0, [f"working: {6 * n} of 1000 after {60 * n} s" for n in range(1, 4)]),
        (5, 0.5, []),
        (0, 1.0, []),
    ],
)
def test_lines_of_a_log_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], count: int, seconds: float, said: list[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    assert list(progress(clock.slow(count, seconds), "working", count)) == list(range(count))
    out, error = capsys.readouterr()
    assert out == ""
    lines = error.splitlines()
    assert lines[: len(said)] == said
    assert len(lines) == len(said) or seconds == 10.0
    assert len(lines) <= 10 + count * seconds / 60


def test_a_terminal_gets_a_bar_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress(range(3), "working", 3)) == [0, 1, 2]
    assert "\x1b[" in capsys.readouterr().err
