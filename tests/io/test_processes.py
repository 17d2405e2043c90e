"""Process pools: results in order, a bounded lead over the consumer, and one lost task per dead process."""

import os
import time
from functools import partial
from pathlib import Path

from nodule_lightning.io.processes import run_ahead


def slow_first_or_die(number: int, folder: Path) -> int:
    (folder / str(number)).touch()
    if number == 3:
        os._exit(1)
    # The first of two tasks finishes last.
    time.sleep(0.2 * (number % 2 == 0))
    return 10 * number


def touch(number: int, folder: Path) -> int:
    (folder / str(number)).touch()
    return number


def test_results_come_in_order_and_a_dead_process_loses_one_task(tmp_path: Path) -> None:
    work = partial(slow_first_or_die, folder=tmp_path)
    assert list(run_ahead(work, range(6), 2, lambda number: -number)) == [0, 10, 20, -3, 40, 50]


def test_the_lead_over_the_consumer_is_bounded(tmp_path: Path) -> None:
    results = run_ahead(partial(touch, folder=tmp_path), range(20), 2, lambda number: -1)
    assert next(results) == 0
    time.sleep(0.5)
    assert {int(path.name) for path in tmp_path.iterdir()} <= set(range(3))
    results.close()
    assert len(list(tmp_path.iterdir())) <= 3
