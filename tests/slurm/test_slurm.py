"""Jobs of a real SLURM: training by two tasks, requeues, time limits, arrays."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from neurosam3d.__main__ import main
from neurosam3d.evaluation.result_files import read_results
from neurosam3d.evaluation.results import CaseResult
from tests.published import lightning_content, save, small_network
from tests.slurm.cluster import Cluster, missing_programs, running_cluster, wait_for

ROOT = Path(__file__).parent.parent.parent
NUM_STEPS = 24
# What the lines of mytrain.sh ask of a cluster with GPUs, for one without.
MODEST = ("--gres=none", "--mem=0", "--cpus-per-task=1", "--ntasks-per-node=2", "--time=10")

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = missing_programs()
    if missing and not os.environ.get("NEUROSAM3D_TEST_SLURM"):
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)}")
    if os.getuid() != 0:
        pytest.skip("SLURM's daemons need root")
    with running_cluster(tmp_path_factory.mktemp("cluster"), cpus=2) as running:
        yield running


class Job:
    """A training job by mytrain.sh, with two tasks."""

    def __init__(self, cluster: Cluster, tree: Path, folder: Path, *words: str) -> None:
        self.cluster, self.folder = cluster, folder
        self.log = folder / "job.log"
        self.run = folder / "run"
        folder.mkdir()
        self.number = cluster.submit(
            *MODEST,
            f"--output={self.log}",
            "--open-mode=append",
            "mytrain.sh",
            *self._arguments(tree),
            *words,
            cwd=ROOT,
            environment={"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
        )

    def _arguments(self, tree: Path) -> list[str]:
        return [
            "fit",
            f"--config={self._recipe()}",
            f"--data.data_dir={tree}",
            "--data.training_sets=[Toy_Tr]",
            "--data.validation_sets=[Toy_Val]",
            "--data.img_size=32",
            "--data.volume_threshold=0",
            "--data.batch_size=1",
            "--data.num_workers=0",
            f"--model.work_dir={self.folder}",
            "--model.task_name=run",
            "--model.num_clicks=2",
            f"--model.step_size=[{NUM_STEPS}]",
            f"--trainer.max_steps={NUM_STEPS}",
            "--trainer.devices=2",
            "--trainer.check_val_every_n_epoch=100",
        ]

    def _recipe(self) -> Path:
        """Write a copy of the demo's recipe that saves more often."""
        text = (ROOT / "configs/demo.yaml").read_text(encoding="utf-8")
        assert "every_n_train_steps: 500" in text
        path = self.folder / "often.yaml"
        path.write_text(text.replace("every_n_train_steps: 500", "every_n_train_steps: 2"))
        return path

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.is_file() else ""

    def is_training(self) -> bool:
        """Tell whether some steps are done and kept."""
        return (self.run / "checkpoints/last.ckpt").is_file()

    def finish(self) -> dict[str, torch.Tensor]:
        """Wait for the end and return the weights."""
        assert self.cluster.wait(self.number, seconds=400) == "COMPLETED", self.text()
        path = self.run / "checkpoints/last.ckpt"
        content = torch.load(path, weights_only=True)
        assert content["global_step"] == NUM_STEPS
        return dict(content["state_dict"])


def test_requeued_jobs_end_as_an_undisturbed_one(
    cluster: Cluster, prepared_tree: Path, tmp_path: Path
) -> None:
    undisturbed = Job(cluster, prepared_tree, tmp_path / "undisturbed")
    expected = undisturbed.finish()
    assert "Starting with 2 processes" in undisturbed.text()
    assert cluster.restarts(undisturbed.number) == 0

    # The node is taken away: the run goes on from its last checkpoint.
    taken = Job(cluster, prepared_tree, tmp_path / "taken", "--ckpt_path=last")
    wait_for(taken.is_training, "the job's training", seconds=400)
    cluster.call("scontrol", "requeue", str(taken.number))
    cluster.hurry(taken.number)

    assert_same(taken.finish(), expected)
    assert cluster.restarts(taken.number) == 1

    # The time is nearly up: SLURM sends the signal that mytrain.sh asks for; the run saves itself
    # and requeues its job.
    overdue = Job(cluster, prepared_tree, tmp_path / "overdue", "--ckpt_path=last")
    wait_for(overdue.is_training, "the job's training", seconds=400)
    cluster.call("scancel", "--signal=USR1", str(overdue.number))
    wait_for(lambda: cluster.restarts(overdue.number) == 1, "the requeue", seconds=100)
    assert list(overdue.run.glob("hpc_ckpt_*.ckpt"))
    cluster.hurry(overdue.number)
    assert_same(overdue.finish(), expected)


def assert_same(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name


def test_an_allocation_that_does_not_fit_the_recipe_is_refused(
    cluster: Cluster, prepared_tree: Path, tmp_path: Path
) -> None:
    job = Job(cluster, prepared_tree, tmp_path / "job", "--trainer.devices=3")
    assert cluster.wait(job.number, seconds=200) == "FAILED"
    assert "Traceback" not in job.text()
    message = (
        "error: trainer.num_nodes 1 with trainer.devices 3 needs sbatch --nodes=1 "
        "--ntasks-per-node=3, got 2 tasks on 1 node\n"
    )
    assert message in job.text()


def test_an_array_judges_a_part_per_task(
    cluster: Cluster, prepared_tree: Path, tmp_path: Path
) -> None:
    checkpoint = save(
        lightning_content(small_network(), spacing=(2.0, 2.0, 2.5), intensity="sam_med3d"),
        tmp_path / "last.ckpt",
    )
    words = ["-cp", str(checkpoint), "-tdp", str(prepared_tree), "-dt", "Val", "-nc", "2"]
    part = ["--split_num", "2", "--split_idx", "$SLURM_ARRAY_TASK_ID"]
    command = [sys.executable, "validation.py", *words, "--save_name", f"{tmp_path}/parts", *part]
    number = cluster.submit(
        "--array=0-1",
        "--mem=0",
        f"--output={tmp_path}/%a.log",
        f"--wrap={' '.join(command)}",
        cwd=ROOT,
        environment={"PYTHONPATH": str(ROOT)},
    )
    seen = ("squeue", "--noheader", f"--jobs={number}")
    wait_for(lambda: not cluster.call(*seen).strip(), "the array", seconds=400)
    logs = "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))
    parts = [tmp_path / f"parts_s2i{index}.json" for index in (0, 1)]
    assert all(path.is_file() for path in parts), logs

    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *words, "--save_name", str(tmp_path / "whole.json")])
    assert ended.value.code == 0
    whole = read_results(tmp_path / "whole.json").cases
    together = [case for path in parts for case in read_results(path).cases]
    assert len(whole) == 4
    assert sorted(map(scores, together)) == sorted(map(scores, whole))


def scores(case: CaseResult) -> tuple[str, str, tuple[float, ...]]:
    return case.case, case.class_name, tuple(entry.dice for entry in case.rounds)
