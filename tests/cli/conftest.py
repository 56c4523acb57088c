"""A recipe on toy data, for all that the command line is tested by."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace

from neurosam3d.cli import NeuroSamCLI, run

RECIPE = """
seed_everything: 11
data:
  data_dir: {tree}
  training_sets: [Toy_Tr]
  validation_sets: [Toy_Val]
  img_size: 32
  spacing: [2.0, 2.0, 2.5]
  batch_size: 3
  num_workers: 0
  seed: ${{seed_everything}}
model:
  model_type: vit_tiny
  num_clicks: 2
  eval_clicks: 2
  test_pictures: 1
  work_dir: {work_dir}
  task_name: toy
trainer:
  accelerator: cpu
  max_steps: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  default_root_dir: ${{model.work_dir}}/${{model.task_name}}
  logger: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: ${{model.work_dir}}/${{model.task_name}}/checkpoints
        save_last: true
    - class_path: neurosam3d.training.callbacks.PredictionWriter
"""


@pytest.fixture(autouse=True)
def _keep_process_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a run sets for its whole process."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NEUROSAM3D_DEBUG"):
        monkeypatch.setenv(name, "")  # recorded, so that it is restored
        monkeypatch.delenv(name)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def toy(prepared_tree: Path, tmp_path: Path) -> Path:
    """Write a recipe of a two-step run on toy data and return its path."""
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE.format(tree=prepared_tree, work_dir=tmp_path / "runs"), encoding="utf-8")
    return path


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Namespace]:
    """Return a function from a command line to its resolved configuration; nothing runs."""

    def parse_only(args: list[str]) -> Namespace:
        with monkeypatch.context() as patch:
            for name in ("instantiate_classes", "after_instantiate_classes"):
                patch.setattr(NeuroSamCLI, name, lambda self: None)
            patch.setattr(NeuroSamCLI, "_run_subcommand", lambda self, verb: None)
            parsed = run(args).config
        settings = parsed[parsed.subcommand]
        settings.pop("config", None)  # which files the values came from
        return settings

    return parse_only


@pytest.fixture
def trained(toy: Path) -> Path:
    """Run the toy recipe once and return its folder."""
    run(["fit", f"--config={toy}"])
    return toy.parent / "runs" / "toy"
