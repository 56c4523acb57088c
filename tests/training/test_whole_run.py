"""The promptable module on prepared sets on disk, as `train.py` runs it."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from neurosam3d.commands.trained_network import make_predictor
from neurosam3d.data.datamodule import NeuroSamDataModule
from neurosam3d.data.index import Case, write_index
from neurosam3d.data.tree import Tree
from neurosam3d.training import NeuroSamModel
from neurosam3d.training.callbacks import PredictionWriter, ThroughputMonitor
from neurosam3d.training.resume import ResumeState
from neurosam3d.volume import Volume, read_grid, read_volume, write_volume

SHAPES = [(30, 36, 24), (36, 28, 26), (26, 30, 34)]
AFFINES = [  # left to right, oblique, axes in another order; never 1 mm alone
    np.array([[-1.2, 0, 0, 20], [0, 1.5, 0, -9], [0, 0, 2.0, 3], [0, 0, 0, 1]]),
    np.array([[1.2, 0.3, 0, 0], [-0.3, 1.2, 0, 4], [0, 0, 2.0, 1], [0, 0, 0, 1]]),
    np.array([[0, 0, 1.4, -5], [1.6, 0, 0, 8], [0, -1.5, 0, 30], [0, 0, 0, 1]]),
]


def write_case(tree: Tree, set_name: str, number: int) -> Case:
    shape, affine = SHAPES[number % 3], AFFINES[number % 3]
    generator = torch.Generator().manual_seed(number)
    axes = [((torch.arange(n) - n / 2) / (n / 4)) ** 2 for n in shape]
    label = (axes[0][:, None, None] + axes[1][:, None] + axes[2])[None] <= 1
    image = 100 + 80 * label + 20 * torch.randn((1, *shape), generator=generator)
    case = f"scan{number}"
    paths = tree.image("BALLS", set_name, case), tree.label("BALLS", set_name, "ball", case)
    for path, data in zip(paths, (image, label.to(torch.uint8)), strict=True):
        write_volume(Volume(data, affine), path)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    return Case(*paths, "ball", float(label.sum() * voxel_mm3), Volume(image, affine).spacing, case)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tree with five scans for training and three for validation."""
    tree = Tree(tmp_path_factory.mktemp("prepared"))
    for set_name, numbers in (("Tr", range(5)), ("Val", range(5, 8))):
        cases = [write_case(tree, set_name, number) for number in numbers]
        write_index(tree.index("BALLS", set_name), cases)
    return tree.root


@pytest.fixture
def data(prepared: Path) -> Callable[..., NeuroSamDataModule]:
    """Return a function that builds the DataModule; its arguments are the DataModule's."""

    def build(**options: Any) -> NeuroSamDataModule:
        defaults: dict[str, Any] = {
            "data_dir": str(prepared),
            "img_size": 32,
            "batch_size": 2,
            "num_workers": 0,
            "training_sets": ["BALLS_Tr"],
            "validation_sets": ["BALLS_Val"],
        }
        return NeuroSamDataModule(**{**defaults, **options})

    return build


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Losses(Callback):
    def __init__(self, *, save_after: int = 0, path: Path | None = None) -> None:
        self.found: list[float] = []
        self.save_after, self.path = save_after, path

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.found.append(outputs["loss"].item())
        if len(self.found) == self.save_after:
            trainer.save_checkpoint(self.path)


def test_resumed_training_of_the_network_is_bit_equal(
    data: Callable[..., NeuroSamDataModule], make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    def fit(seed: int, losses: Losses, resume: Path | None = None) -> list[float]:
        pl.seed_everything(seed, verbose=False)
        # At stride 1 the decoder has dropout, so the global random state counts as well.
        module = NeuroSamModel("vit_tiny", 32, mask_stride=1, num_clicks=3, work_dir=str(tmp_path))
        options = {"max_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 2}
        trainer = make_trainer(callbacks=[losses, ResumeState()], **options)
        trainer.fit(module, datamodule=data(num_workers=2), ckpt_path=resume)
        return losses.found

    path = tmp_path / "run.ckpt"
    whole = fit(1, Losses(save_after=5, path=path))  # the middle of the second epoch's three
    resumed = fit(99, Losses(), path)
    # Batch 4 begins the accumulation in which batch 5 is: it is the first to be computed again.
    assert len(set(whole)) == 6
    assert resumed == whole[5:]


def test_predicted_masks_lie_on_the_grids_of_their_scans(
    data: Callable[..., NeuroSamDataModule],
    make_trainer: Callable[..., pl.Trainer],
    tmp_path: Path,
    prepared: Path,
) -> None:
    module = NeuroSamModel("vit_tiny", 32, work_dir=str(tmp_path), task_name="run", eval_clicks=1)
    module.make_predictor = make_predictor
    trainer = make_trainer(callbacks=[PredictionWriter()])
    trainer.predict(module, datamodule=data(), return_predictions=False)
    written = sorted((tmp_path / "run/predict/BALLS_Val/ball").iterdir())
    assert [path.name for path in written] == [f"scan{n}.nii.gz" for n in (5, 6, 7)]
    for path in written:
        image = Tree(prepared).image("BALLS", "Val", path.name.removesuffix(".nii.gz"))
        mask = read_volume(path)
        assert mask.grid.same_as(read_grid(image))
        assert set(mask.data.unique().tolist()) <= {0, 1}


@pytest.mark.slow
def test_two_processes_train_and_test_without_looking_for_unused_parameters(
    data: Callable[..., NeuroSamDataModule], make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    def trainer(*callbacks: Callback, **options: Any) -> pl.Trainer:
        every = [ResumeState(), ThroughputMonitor(), *callbacks]
        return make_trainer(strategy="ddp_spawn", devices=2, callbacks=every, **options)

    def module() -> NeuroSamModel:
        pl.seed_everything(1, verbose=False)
        options = {"work_dir": str(tmp_path), "task_name": "run"}
        module = NeuroSamModel("vit_tiny", 32, num_clicks=3, eval_clicks=2, **options)
        module.make_predictor = make_predictor
        return module

    save = ModelCheckpoint(tmp_path, "run", save_weights_only=False)
    options = {"max_epochs": 2, "enable_checkpointing": True}
    trainer(save, **options).fit(module(), datamodule=data(batch_size=1))
    path = tmp_path / "run.ckpt"
    assert len(torch.load(path, weights_only=True)["neurosam3d_resume"]["rng"]) == 2
    trainer().test(module(), datamodule=data(batch_size=1), ckpt_path=path, verbose=False)
    report = json.loads((tmp_path / "run/test/results.json").read_text(encoding="utf-8"))
    assert [case["case"] for case in report["cases"]] == ["scan5", "scan6", "scan7"]
