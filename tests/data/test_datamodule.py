"""NeuroSamDataModule: sets found or refused, loaders that repeat, and Lightning driving them."""

import inspect
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import distributed

from neurosam3d.data.datamodule import NeuroSamDataModule
from neurosam3d.data.sampler import ResumableSampler


def make_data(toy_tree, **options) -> NeuroSamDataModule:
    defaults = {
        "data_dir": str(toy_tree.root),
        "img_size": 12,
        "batch_size": 2,
        "num_workers": 0,
        "training_sets": ["TOY_Tr"],
        "validation_sets": ["TOY_Val"],
    }
    return NeuroSamDataModule(**{**defaults, **options})


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        torch.equal(one[key], other[key]) if torch.is_tensor(one[key]) else one[key] == other[key]
        for key in one
    )


def test_loaders_serve_the_named_sets(toy_tree):
    data = make_data(toy_tree)
    data.setup("fit")
    training, validation = list(data.train_dataloader()), list(data.val_dataloader())
    assert [len(batch["index"]) for batch in training] == [2, 2, 2]
    assert {name for batch in training for name in batch["dataset"]} == {"TOY_Tr"}
    assert sorted(torch.cat([batch["index"] for batch in training]).tolist()) == list(range(6))
    assert [batch["class"] for batch in validation] == [["organ", "pair"], ["scattered"]]
    assert training[0]["image"].shape == (2, 1, 12, 12, 12)
    assert training[0]["affine"].shape == (2, 4, 4)


def test_validation_sees_the_same_fixed_crops(toy_tree):
    data = make_data(toy_tree)
    data.setup("validate")
    first, again = (list(data.val_dataloader()) for _ in range(2))
    assert all(map(equal, first, again))


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_test_and_prediction_see_whole_scans(toy_tree, stage):
    data = make_data(toy_tree, validation_sets=["TOY_Val", "TOY_Tr"])
    data.setup(stage)
    scans = list(getattr(data, f"{stage}_dataloader")())
    assert [(scan["dataset"], scan["set"]) for scan in scans] == [("TOY", "Val")] + 2 * [
        ("TOY", "Tr")
    ]
    for scan in scans:
        assert scan["dataset"] == "TOY"
        assert list(scan["labels"]) == ["organ", "pair", "scattered"]
        assert Path(scan["image"]).is_file()
        assert Path(scan["image"]).name == f"{scan['case']}.nii.gz"
        assert all(Path(path).is_file() for path in scan["labels"].values())
    assert not hasattr(data, "evaluation_data")


def test_prediction_by_prompts_sees_names_and_needs_no_set(toy_tree):
    data = make_data(
        toy_tree, validation_sets=[], predict_images="scans", predict_prompts="clicks.csv"
    )
    data.predict_names = ["a.nii.gz", "b.nii.gz"]
    data.setup("predict")
    assert list(data.predict_dataloader()) == ["a.nii.gz", "b.nii.gz"]
    with pytest.raises(ValueError, match="predict_images and predict_prompts are given together"):
        make_data(toy_tree, predict_images="scans")


def collect(data: NeuroSamDataModule, epoch: int, start: int = 0) -> list[dict[str, Any]]:
    data.setup("fit")
    data.train_sampler.set_epoch(epoch)
    data.train_sampler.start = start
    return list(data.train_dataloader())


@pytest.fixture(scope="module")
def expected(toy_tree) -> list[dict[str, Any]]:
    return collect(make_data(toy_tree), epoch=2)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_are_bit_equal_with_any_number_of_workers(toy_tree, expected, num_workers):
    batches = collect(make_data(toy_tree, num_workers=num_workers), epoch=2)
    assert len(batches) == len(expected)
    assert all(map(equal, batches, expected))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_resumed_epoch_is_bit_equal_to_the_tail(toy_tree, tmp_path, expected, num_workers):
    data = make_data(toy_tree, num_workers=num_workers, cache_dir=str(tmp_path))
    batches = collect(data, epoch=2, start=2)
    assert len(batches) == 2
    assert all(map(equal, batches, expected[1:]))


def test_epochs_and_seeds_differ(toy_tree, expected):
    for other in (collect(make_data(toy_tree), 3), collect(make_data(toy_tree, seed=1), 2)):
        assert not any(map(equal, other, expected))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_leave_the_global_random_state_alone(toy_tree, num_workers):
    data = make_data(toy_tree, num_workers=num_workers)
    data.setup("fit")
    before = torch.get_rng_state()
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def shares(toy_tree, stage: str, ranks: list[Any], *, sets: list[str]) -> list[list[int]]:
    parts = []
    for trainer in ranks:
        data = make_data(toy_tree, validation_sets=sets)
        data.trainer = trainer
        data.setup(stage)
        if stage == "fit":
            parts.append([key.index for key in data.train_dataloader().sampler])
        elif stage == "validate":
            parts.append([key.index for key in data.val_dataloader().sampler])
        else:
            parts.append(list(data.test_dataloader().sampler))
    return parts


def test_processes_share_the_samples(toy_tree):
    ranks = [SimpleNamespace(world_size=2, global_rank=rank) for rank in range(2)]
    training = shares(toy_tree, "fit", ranks, sets=[])
    assert sorted(index for part in training for index in part) == list(range(6))
    crops = shares(toy_tree, "validate", ranks, sets=["TOY_Val"])
    assert crops == [[0, 2], [1, 0]]  # three cases, filled up
    scans = shares(toy_tree, "test", ranks, sets=["TOY_Val", "TOY_Tr"])
    assert scans == [[0, 2], [1]]  # three scans; none comes twice


def test_a_second_distributed_sampler_is_refused(toy_tree):
    data = make_data(toy_tree)
    data.trainer = SimpleNamespace(
        world_size=2,
        global_rank=0,
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=True),
    )
    with pytest.raises(ValueError, match="use_distributed_sampler=False, got True"):
        data.setup("fit")


def test_without_a_trainer_the_process_group_counts(toy_tree, monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    assert shares(toy_tree, "validate", [None], sets=["TOY_Val"]) == [[1]]


def test_small_objects_are_left_out(toy_tree, caplog):
    data = make_data(toy_tree, volume_threshold=1000.0)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert {case.class_name for case in data.training_data.cases} == {"organ"}
    assert "TOY_Tr: 2 objects, 4 of at most 1000 mm^3 left out" in caplog.text


def test_a_set_without_large_objects_names_the_largest(toy_tree):
    largest = max(case.volume_mm3 for case in toy_tree.training)
    data = make_data(toy_tree, volume_threshold=1e5, validation_sets=[])
    with pytest.raises(
        ValueError,
        match=rf"TOY_Tr needs .* volume_threshold = 100000 mm\^3, .* of its 6 has {largest:g} mm",
    ):
        data.setup("fit")


def test_missing_sets_stop_the_run_with_those_found_and_the_command(toy_tree):
    data = make_data(toy_tree, training_sets=["TOY_Tr", "AMOS_Tr"])
    with pytest.raises(ValueError, match=r"AMOS_Tr .*TOY_Tr, TOY_Val.*python data\.py -dt Tr"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        ("fit", {"training_sets": []}, "training_sets names at least one"),
        ("test", {"validation_sets": []}, "validation_sets names at least one"),
        ("validate", {"validation_sets": []}, "validation_sets names at least one"),
        ("predict", {"validation_sets": []}, "validation_sets names at least one"),
    ],
)
def test_a_stage_needs_its_sets(toy_tree, stage, options, message):
    with pytest.raises(ValueError, match=message):
        make_data(toy_tree, **options).setup(stage)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 0}, "img_size is at least 1, got 0"),
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"num_workers": -1}, "num_workers is at least 0, got -1"),
        ({"spacing": (1.5, 0.0, 1.5)}, r"positive numbers in mm or null, got \(1.5, 0.0, 1.5\)"),
        ({"intensity": "z"}, "unknown intensity preset 'z'"),
        ({"transform": "z"}, "unknown transform preset 'z'"),
    ],
)
def test_unfit_arguments_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ValueError, match=message):
        NeuroSamDataModule(data_dir="nowhere", **options)


def test_a_patient_in_both_sets_is_reported(toy_tree, caplog):
    make_data(toy_tree, validation_sets=["TOY_Tr"]).setup("fit")
    assert "2 patients are in both training and validation sets" in caplog.text
    assert "patient1 of TOY" in caplog.text
    caplog.clear()
    make_data(toy_tree).setup("fit")
    assert "both" not in caplog.text


def test_the_command_line_knows_every_argument():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(NeuroSamDataModule, "data")
    helps = dict(re.findall(r"\n  --data\.(\w+) [^\n]*\n +(.*)", parser.format_help()))
    assert list(helps) == list(inspect.signature(NeuroSamDataModule).parameters)
    assert not [name for name, text in helps.items() if text.startswith("(type")]
    text = "--data.training_sets=[AMOS_Tr,TOY_Tr] --data.spacing=[1,2,3] --data.cache_dir=c"
    settings = parser.instantiate(parser.parse_args(text.split())).data
    assert settings.training_sets == ("AMOS_Tr", "TOY_Tr")
    assert settings.spacing == (1.0, 2.0, 3.0)
    off = parser.instantiate(parser.parse_args(["--data.spacing=null"])).data
    assert off.spacing is None


# Lightning at the wheel


class Recorder(pl.LightningModule):
    """Learns nothing and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int], float]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        checksum = float(batch["image"].double().sum())
        self.seen.append((self.current_epoch, batch["index"].tolist(), checksum))
        return self.weight * 1.0

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert batch["label"].any()

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> str:
        return batch["set"] + batch["case"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(tmp_path, **options) -> pl.Trainer:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "use_distributed_sampler": False,
        "default_root_dir": tmp_path,
    }
    return pl.Trainer(**{**quiet, **options})


def fit(toy_tree, tmp_path, *, num_workers: int, ckpt_path=None, **options) -> Recorder:
    module = Recorder()
    trainer = make_trainer(tmp_path, **options)
    data = make_data(toy_tree, num_workers=num_workers, cache_dir=str(tmp_path / "cache"))
    trainer.fit(module, data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    return module


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_epoch_of_a_fit_is_its_own_also_after_a_restart(toy_tree, tmp_path, num_workers):
    whole = fit(toy_tree, tmp_path, num_workers=0, max_epochs=3).seen
    assert [epoch for epoch, _, _ in whole] == [0] * 3 + [1] * 3 + [2] * 3
    assert len({checksum for _, _, checksum in whole}) == 9
    orders = [[indices for epoch, indices, _ in whole if epoch == number] for number in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]

    first = fit(toy_tree, tmp_path, num_workers=num_workers, max_epochs=1).seen
    rest = fit(
        toy_tree,
        tmp_path,
        num_workers=num_workers,
        max_epochs=3,
        ckpt_path=tmp_path / "end.ckpt",
    ).seen
    assert first + rest == whole


def test_fit_without_validation_sets(toy_tree, tmp_path):
    module = Recorder()
    data = make_data(toy_tree, validation_sets=[])
    make_trainer(tmp_path, max_epochs=1).fit(module, data)
    assert len(module.seen) == 3


def test_overfitting_on_a_batch_gives_the_same_crops_every_epoch(toy_tree, tmp_path):
    seen = fit(toy_tree, tmp_path, num_workers=0, max_epochs=3, overfit_batches=1).seen
    assert {tuple(indices) for _, indices, _ in seen} == {(0, 1)}
    assert len({checksum for _, _, checksum in seen}) == 1


def test_prediction_keeps_the_order_of_the_data(toy_tree, tmp_path):
    data = make_data(toy_tree, validation_sets=["TOY_Val", "TOY_Tr"])
    outputs = make_trainer(tmp_path).predict(Recorder(), data)
    data.setup("test")
    assert outputs == [scan["set"] + scan["case"] for scan in data.scans]
    assert len(outputs) == 3


def test_the_training_sampler_is_that_of_the_loader(toy_tree):
    data = make_data(toy_tree)
    data.setup("fit")
    assert isinstance(data.train_sampler, ResumableSampler)
    assert data.train_dataloader().sampler is data.train_sampler
    assert len(data.train_dataloader()) == 3


# Classes


def test_only_the_objects_of_the_classes_are_seen(toy_tree, caplog):
    data = make_data(toy_tree, classes=["organ", "pair"])
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    for dataset in (data.training_data, data.evaluation_data):
        assert {case.class_name for case in dataset.cases} == {"organ", "pair"}
    assert "TOY_Tr: 2 scans with one of the classes, 0 without left out" in caplog.text
    data.setup("test")
    assert [list(scan["labels"]) for scan in data.test_dataloader()] == [["organ", "pair"]]


def test_a_class_that_training_lacks_is_refused(toy_tree):
    with pytest.raises(ValueError, match="got liver; they have: organ, pair, scattered"):
        make_data(toy_tree, classes=["organ", "liver"]).setup("fit")
    with pytest.raises(ValueError, match="TOY_Val must have one of the classes liver"):
        make_data(toy_tree, classes=["liver"]).setup("test")
