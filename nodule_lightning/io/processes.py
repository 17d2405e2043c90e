"""Process pools that survive the death of a worker: only the task that killed it is lost."""

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, killed: Callable[[Task], Result]
) -> Iterator[Result]:
    """Apply a function to tasks in several processes, in any order.

    Args:
        work: the function. It must be importable and must not raise.
        tasks: its arguments, one per call.
        workers: number of processes.
        killed: makes the result of a task whose process died, for example for lack of memory.

    Yields:
        The results, in the order in which they finish.
    """
    waiting = list(enumerate(tasks))
    while waiting:
        done = set()
        for place, result in _until_broken(work, waiting, workers):
            done.add(place)
            yield result
        waiting = [item for item in waiting if item[0] not in done]
        # Tasks start in order, so one of the first unfinished ones killed the pool. Running each alone finds it.
        suspects, waiting = waiting[:workers], waiting[workers:]
        for suspect in suspects:
            alone = [result for _, result in _until_broken(work, [suspect], 1)]
            yield alone[0] if alone else killed(suspect[1])


def run_ahead(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, killed: Callable[[Task], Result]
) -> Generator[Result, None, None]:
    """Apply a function to tasks in several processes, ahead of the consumer, in the order of the tasks.

    At most `workers` + 1 tasks are running or finished but not consumed, so memory is bounded even if the consumer is
    slow. Close the generator to end the processes. They ignore Ctrl-C: this process handles it, and closes them.

    Args:
        work: the function. It must be importable and must not raise.
        tasks: its arguments, one per call.
        workers: number of processes.
        killed: makes the result of a task whose process died, for example for lack of memory.

    Yields:
        The results, in the order of the tasks.
    """
    place = 0
    while place < len(tasks):
        with closing(_in_order_until_broken(work, tasks[place:], workers)) as results:
            for result in results:
                yield result
                place += 1
        # One of the running tasks killed the pool. Running each alone finds it.
        for suspect in tasks[place : place + workers + 1]:
            alone = list(_in_order_until_broken(work, [suspect], 1))
            yield alone[0] if alone else killed(suspect)
            place += 1


def _in_order_until_broken(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[Result, None, None]:
    """Yield results in order until all are done or a process dies."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_quiet_worker, (workers,))
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(cancel_futures=True)


def _until_broken(
    work: Callable[[Task], Result], items: Sequence[tuple[int, Task]], workers: int
) -> Iterator[tuple[int, Result]]:
    """Yield places and results as they finish, until all are done or a process dies."""
    # A forked process can hang if ITK or torch has already started threads.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (workers,))
    try:
        places = {pool.submit(work, task): place for place, task in items}
        for future in as_completed(places):
            yield places[future], future.result()
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_quiet_worker(workers: int) -> None:
    # Ctrl-C interrupts every process of the terminal. The parent handles it and shuts the workers down.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _begin_worker(workers)


def _begin_worker(workers: int) -> None:
    import SimpleITK

    Thread(target=_end_with_parent, daemon=True).start()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(max(1, (os.cpu_count() or 1) // workers))


def _end_with_parent() -> None:
    # If the parent is killed, its workers would wait for tasks forever.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
