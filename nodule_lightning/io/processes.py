"""Work on many tasks in several processes, of which any may be killed."""

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
    """Do the work in several processes; a task that kills its process costs only itself.

    Args:
        work: what is done, once for each task. It must be importable, and not raise.
        tasks: what it is done to.
        workers: processes.
        killed: the result of a task that kills its process.

    Returns:
        The results as they come to be done.
    """
    waiting = list(enumerate(tasks))
    while waiting:
        done = set()
        for place, result in _until_broken(work, waiting, workers):
            done.add(place)
            yield result
        waiting = [item for item in waiting if item[0] not in done]
        # Tasks are begun in order, so one of the first that are left has killed its process: alone, it shows.
        suspects, waiting = waiting[:workers], waiting[workers:]
        for suspect in suspects:
            alone = [result for _, result in _until_broken(work, [suspect], 1)]
            yield alone[0] if alone else killed(suspect[1])


def run_ahead(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, killed: Callable[[Task], Result]
) -> Generator[Result, None, None]:
    """Do the work in other processes ahead of whoever takes the results, and give these in the tasks' order.

    At most `workers` + 1 results and tasks are under way or wait to be taken, so that memory is bounded however slow
    the taker is. Close the iterator to end the processes, also after Ctrl-C, which they leave to this process.

    Args:
        work: what is done, once for each task. It must be importable, and not raise.
        tasks: what it is done to.
        workers: processes.
        killed: the result of a task that kills its process.
    """
    place = 0
    while place < len(tasks):
        with closing(_in_order_until_broken(work, tasks[place:], workers)) as results:
            for result in results:
                yield result
                place += 1
        # One of those under way has killed its process: alone, it shows.
        for suspect in tasks[place : place + workers + 1]:
            alone = list(_in_order_until_broken(work, [suspect], 1))
            yield alone[0] if alone else killed(suspect)
            place += 1


def _in_order_until_broken(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[Result, None, None]:
    """Give results in order, until all are there or a process has died."""
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
    """Give results as they come, until all are there or a process has died."""
    # Forking a process in which ITK or torch has started threads can hang it.
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
    # Ctrl-C reaches every process of the terminal; the one that takes the results ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _begin_worker(workers)


def _begin_worker(workers: int) -> None:
    import SimpleITK

    Thread(target=_end_with_parent, daemon=True).start()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(max(1, (os.cpu_count() or 1) // workers))


def _end_with_parent() -> None:
    # When the command is killed, its processes would otherwise wait for work for ever.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
