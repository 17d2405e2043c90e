"""Work on many tasks in several processes, of which any may be killed."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
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
