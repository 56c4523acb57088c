"""Run jobs in worker processes, with a progress bar and messages on standard error."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Job = TypeVar("Job")
Result = TypeVar("Result")

console = Console(stderr=True, soft_wrap=True)

# Enough that no worker waits for the next job; each job that waits is in memory twice.
_PENDING_PER_WORKER = 2


class ConsoleHandler(logging.Handler):
    """Prints log records as plain lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        prefix = "error: " if record.levelno >= logging.ERROR else ""
        console.print(prefix + self.format(record), markup=False, highlight=False)


def default_workers() -> int:
    """Number of worker processes for this machine: its processors, but four at most."""
    # Only Linux tells which processors a batch job may use.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(4, usable or 1)


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    title: str,
) -> Iterator[tuple[int, Result]]:
    """Yield (position of the job, its result) as the jobs end.

    Args:
        function: What to do with a job; importable by name, as it runs in other processes.
        jobs: The jobs.
        workers: Number of processes; 1 works in this one.
        title: What the progress bar is called.

    Raises:
        ValueError: If a worker process dies.
    """
    workers = min(workers, len(jobs))
    with _progress(title, len(jobs)) as advance:
        results = _run_here(function, jobs) if workers <= 1 else _run_pool(function, jobs, workers)
        for result in results:
            advance()
            yield result


def _run_here(
    function: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[tuple[int, Result]]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker: waking threads costs more than a volume's work
    try:
        for position, job in enumerate(jobs):
            yield position, function(job)
    finally:
        torch.set_num_threads(num_threads)


def _run_pool(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[int, Result]]:
    # A forked process would inherit torch's threads in a state that can hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)
    pending: dict[Future[Result], int] = {}
    try:
        for position, job in enumerate(jobs):
            pending[pool.submit(function, job)] = position
            if len(pending) >= _PENDING_PER_WORKER * workers:
                yield from _take_finished(pending)
        while pending:
            yield from _take_finished(pending)
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process died, most likely for lack of memory; try fewer --workers, or "
            f"--data.num_workers if a cache is filled, got {workers}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _take_finished(pending: dict[Future[Result], int]) -> Iterator[tuple[int, Result]]:
    """Wait for at least one job and take those that have ended out of the pending ones."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _start_worker() -> None:
    torch.set_num_threads(1)  # the processes already share the processors among them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed; the pool alone would wait for jobs for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
