"""Jobs in this process and in others."""

import os

import pytest

from neurosam3d.data.prepare.progress import default_workers, run_jobs


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_gives_its_result_once(workers: int) -> None:
    results = list(run_jobs(abs, [-3, 4, -5], workers=workers, title="jobs"))
    assert sorted(results) == [(0, 3), (1, 4), (2, 5)]


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"a worker process died.* fewer --workers, got 2"):
        list(run_jobs(os._exit, [1, 1], workers=2, title="jobs"))


def test_the_default_number_of_workers_fits_the_machine() -> None:
    assert 1 <= default_workers() <= min(4, os.cpu_count() or 1)
