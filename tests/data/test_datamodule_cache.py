"""NeuroSamDataModule fills its cache before a run, once per node, and refuses what cannot be."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from neurosam3d.data import prepared_datamodule
from neurosam3d.data.datamodule import NeuroSamDataModule
from neurosam3d.data.store import prepared


def make_data(toy_tree, cache_dir: Path | None, **options: Any) -> NeuroSamDataModule:
    defaults: dict[str, Any] = {
        "data_dir": str(toy_tree.root),
        "img_size": 12,
        "num_workers": 0,
        "training_sets": ["TOY_Tr"],
        "validation_sets": ["TOY_Val"],
    }
    folder = None if cache_dir is None else str(cache_dir)
    return NeuroSamDataModule(cache_dir=folder, **{**defaults, **options})


def count_entries(folder: Path) -> tuple[int, int]:
    image, labels = (len(list(folder.glob(f"??/*.{part}"))) for part in ("image", "labels"))
    return image, labels


class Module(pl.LightningModule):
    """Learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert batch["label"].any()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert batch["labels"]

    predict_step = test_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        **options,
    )


@pytest.mark.parametrize(
    ("stage", "expected"),
    [("fit", (3, 3)), ("validate", (1, 1)), ("test", (0, 0)), ("predict", (0, 0))],
)
def test_the_cache_is_filled_for_the_stage_before_it_begins(
    toy_tree, tmp_path, monkeypatch, stage, expected
):
    filled = []
    setup = NeuroSamDataModule.setup

    def look(self: NeuroSamDataModule, stage: str | None = None) -> None:
        filled.append(count_entries(tmp_path))
        setup(self, stage)

    monkeypatch.setattr(NeuroSamDataModule, "setup", look)
    trainer = make_trainer(tmp_path, max_epochs=1)
    getattr(trainer, stage)(Module(), datamodule=make_data(toy_tree, tmp_path))
    assert filled == [expected]
    assert count_entries(tmp_path) == expected


def test_a_filled_cache_is_all_that_training_reads(toy_tree, tmp_path, monkeypatch):
    make_data(toy_tree, tmp_path).prepare_data()  # also without a trainer
    assert count_entries(tmp_path) == (3, 3)
    monkeypatch.setattr(prepared, "read_volume", None)
    make_trainer(tmp_path, max_epochs=1).fit(Module(), datamodule=make_data(toy_tree, tmp_path))


def test_without_a_cache_nothing_is_written(toy_tree, tmp_path):
    before = sorted(toy_tree.root.rglob("*"))
    make_trainer(tmp_path, max_epochs=1).fit(Module(), datamodule=make_data(toy_tree, None))
    assert sorted(toy_tree.root.rglob("*")) == before
    assert not list(tmp_path.iterdir())


def test_a_trial_run_makes_only_what_it_needs(toy_tree, tmp_path):
    trainer = make_trainer(tmp_path, fast_dev_run=1)
    trainer.fit(Module(), datamodule=make_data(toy_tree, tmp_path, batch_size=1))
    assert count_entries(tmp_path) == (2, 2)  # an image to train on and one to validate with


def test_classes_that_are_too_small_are_not_made(toy_tree, tmp_path, monkeypatch):
    sizes = []
    for threshold in (100.0, 1000.0):
        folder = tmp_path / str(threshold)
        make_data(toy_tree, folder, volume_threshold=threshold).prepare_data()
        sizes.append(sum(path.stat().st_size for path in folder.glob("??/*.labels")))
    assert sizes[1] < sizes[0] / 2


def test_every_node_builds_from_its_own_place_with_the_workers_of_a_loader(
    toy_tree, tmp_path, monkeypatch
):
    calls = []
    monkeypatch.setattr(
        prepared_datamodule,
        "build_store",
        lambda store, **options: calls.append((len(store.cases), options)),
    )
    data = make_data(toy_tree, tmp_path, num_workers=3)
    data.trainer = SimpleNamespace(
        world_size=8,
        node_rank=1,
        num_nodes=4,
        fast_dev_run=False,
        state=SimpleNamespace(fn="fit"),
    )
    data.prepare_data()
    options = {"workers": 3, "node": 1, "num_nodes": 4}
    assert calls == [
        (6, {**options, "title": "cache training"}),
        (3, {**options, "title": "cache validation"}),
    ]
    calls.clear()
    make_data(toy_tree, tmp_path).prepare_data()
    assert [options["workers"] for _, options in calls] == [1, 1]


def test_mistakes_are_said_before_anything_is_made(toy_tree, tmp_path):
    with pytest.raises(ValueError, match="training_sets names at least one"):
        make_data(toy_tree, tmp_path, training_sets=[]).prepare_data()
    data = make_data(toy_tree, tmp_path)
    data.trainer = SimpleNamespace(
        world_size=2,
        fast_dev_run=False,
        node_rank=0,
        num_nodes=1,
        state=SimpleNamespace(fn="fit"),
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=True),
    )
    with pytest.raises(ValueError, match="use_distributed_sampler=False, got True"):
        data.prepare_data()
    assert not list(tmp_path.iterdir())


def test_a_path_may_name_environment_variables(toy_tree, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_OF_THE_JOB", str(tmp_path))
    data = make_data(toy_tree, Path("$SCRATCH_OF_THE_JOB/cache"))
    assert data.cache_dir == tmp_path / "cache"
    home = make_data(toy_tree, Path("~/cache")).cache_dir
    assert home == Path(os.path.expanduser("~")) / "cache"
    monkeypatch.delenv("SCRATCH_OF_THE_JOB")
    with pytest.raises(ValueError, match=r"variables that are set, got \$SCRATCH_OF_THE_JOB/cache"):
        make_data(toy_tree, Path("$SCRATCH_OF_THE_JOB/cache"))
