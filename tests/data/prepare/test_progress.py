"""Jobs in this process and in others."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from neurosam3d.data.prepare import progress
from neurosam3d.data.prepare.progress import default_workers, run_jobs


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_gives_its_result_once(workers: int) -> None:
    results = list(run_jobs(abs, [-3, 4, -5], workers=workers, title="jobs"))
    assert sorted(results) == [(0, 3), (1, 4), (2, 5)]


def test_a_job_in_this_process_has_one_thread_like_a_worker() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        jobs = run_jobs(lambda _: torch.get_num_threads(), [0, 1], workers=1, title="jobs")
        assert list(jobs) == [(0, 1), (1, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_few_jobs_wait_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class LazyPool:
        """Does a job only when its result is waited for."""

        waiting: list[Future[int]]
        most = 0

        def __init__(self, *_: Any, **__: Any) -> None:
            LazyPool.waiting = []

        def submit(self, function: Callable[[int], int], job: int) -> Future[int]:
            future: Future[int] = Future()
            future.job = lambda: future.set_result(function(job))  # type: ignore[attr-defined]
            self.waiting.append(future)
            LazyPool.most = max(LazyPool.most, len(self.waiting))
            return future

        def shutdown(self, **_: Any) -> None:
            assert self.waiting == []

    def wait(futures: Any, *, return_when: str) -> Any:
        future = LazyPool.waiting.pop(0)
        assert set(LazyPool.waiting) < set(futures)
        future.job()  # type: ignore[attr-defined]
        return type("Done", (), {"done": {future}})

    monkeypatch.setattr(progress, "ProcessPoolExecutor", LazyPool)
    monkeypatch.setattr(progress, "wait", wait)
    results = sorted(run_jobs(abs, range(-500, 0), workers=3, title="jobs"))
    assert results == [(i, 500 - i) for i in range(500)]
    assert 3 < LazyPool.most <= 6


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"a worker process died.* fewer --workers, .*, got 2"):
        list(run_jobs(os._exit, [1, 1], workers=2, title="jobs"))


def test_the_default_number_of_workers_fits_the_machine() -> None:
    assert 1 <= default_workers() <= min(4, os.cpu_count() or 1)
