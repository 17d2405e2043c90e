"""What Ctrl-C and SIGTERM do to a command, and when."""

import signal
from collections.abc import Iterator

import pytest

from nodule_lightning.cli._stopping import stopped_once


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, KeyboardInterrupt()), (signal.SIGTERM, SystemExit(143))], ids=["INT", "TERM"]
)
def test_the_first_stops_and_the_second_does_not_disturb_the_clean_up(
    number: signal.Signals, end: BaseException
) -> None:
    order = []

    def work() -> None:
        try:
            signal.raise_signal(number)
            order.append("worked on")
        finally:
            signal.raise_signal(number)
            order.append("put in order")

    with pytest.raises(type(end)) as raised, stopped_once():
        work()
    assert raised.value.args == end.args
    assert order == ["put in order"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_insists_is_heard() -> None:
    def insist() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit, match="143"), stopped_once():
        insist()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_holds_a_signal_keeps_it(number: signal.Signals) -> None:
    heard: list[int] = []
    signal.signal(number, lambda number, frame: heard.append(number))
    with stopped_once():
        signal.raise_signal(number)
    assert heard == [number]
    signal.signal(number, signal.SIG_IGN)
    with stopped_once():
        signal.raise_signal(number)
    assert signal.getsignal(number) is signal.SIG_IGN
