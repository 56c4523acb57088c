"""PatchDataModule: classes found or refused, loaders that repeat, whole scans one by one."""

import inspect
import logging
import re
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from neurosam3d.data.patch_datamodule import PatchDataModule
from tests.data.test_patches import same


def make_data(toy_tree, **options) -> PatchDataModule:
    defaults = {
        "data_dir": str(toy_tree.root),
        "crop_size": (8, 12, 10),
        "classes": ["scattered", "organ"],
        "num_workers": 0,
        "training_sets": ["TOY_Tr"],
        "validation_sets": ["TOY_Val"],
        "patches_per_epoch": 5,
    }
    return PatchDataModule(**{**defaults, **options})


def collect(data: PatchDataModule, *, start: int = 0) -> list[dict[str, Any]]:
    data.setup("fit")
    data.train_sampler.set_epoch(1)
    data.train_sampler.start = start
    return list(data.train_dataloader())


def test_training_sees_batches_of_patches(toy_tree):
    batches = collect(make_data(toy_tree))
    assert [batch["image"].shape for batch in batches] == [(2, 1, 8, 12, 10)] * 2 + [
        (1, 1, 8, 12, 10)
    ]
    assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == list(range(5))
    assert {name for batch in batches for name in batch["dataset"]} == {"TOY_Tr"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_epoch_is_bit_equal_with_any_number_of_workers(toy_tree, tmp_path, num_workers):
    expected = collect(make_data(toy_tree))
    data = make_data(toy_tree, num_workers=num_workers, cache_dir=str(tmp_path))
    assert all(map(same, collect(data, start=2), expected[1:]))


def test_the_cache_is_filled_before_the_run_and_does_not_depend_on_the_clip(toy_tree, tmp_path):
    def entries() -> set[str]:
        return {path.name for path in tmp_path.glob("[0-9a-f][0-9a-f]/*")}

    make_data(toy_tree, cache_dir=str(tmp_path), intensity="clip 250 400").prepare_data()
    first = entries()
    assert len(first) == 2 * 3  # image and labels of three scans
    make_data(toy_tree, cache_dir=str(tmp_path), intensity="adapter3d_lits").prepare_data()
    assert entries() == first


def test_seeds_differ(toy_tree):
    one, other = (collect(make_data(toy_tree, seed=seed)) for seed in (1, 2))
    assert not any(map(same, one, other))


def test_validation_sees_whole_scans_one_by_one(toy_tree):
    data = make_data(toy_tree, validation_sets=["TOY_Val", "TOY_Tr"], batch_size=3)
    data.setup("validate")
    scans = list(data.val_dataloader())
    assert [scan["case"] for scan in scans] == [["p3"], ["p1"], ["p2"]]
    for scan in scans:
        assert scan["image"].shape == scan["label"].shape
        assert scan["image"].shape[0] == 1
        assert min(scan["image"].shape[2:]) > 15
        assert scan["label"].unique().tolist() == [0, 1, 2]


def test_validation_may_see_fixed_patches(toy_tree):
    data = make_data(toy_tree, validation="crops", validation_sets=["TOY_Tr"])
    data.setup("validate")
    first, again = (list(data.val_dataloader()) for _ in range(2))
    assert [batch["case"] for batch in first] == [["p1", "p2"]]
    assert first[0]["label"][:, 0, 4, 6, 5].tolist() == [2, 2]
    assert all(map(same, first, again))


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_test_and_prediction_see_paths_of_scans_and_of_the_classes(toy_tree, stage):
    data = make_data(toy_tree)
    data.setup(stage)
    (scan,) = getattr(data, f"{stage}_dataloader")()
    assert scan["case"] == "p3"
    assert list(scan["labels"]) == ["organ", "scattered"]


def test_prediction_of_a_folder_sees_what_it_is_given(toy_tree):
    data = make_data(toy_tree, validation_sets=[], predict_images="scans")
    data.predict_names = ["scans/a.nii.gz", "scans/b.nii.gz"]
    data.setup("predict")
    assert list(data.predict_dataloader()) == ["scans/a.nii.gz", "scans/b.nii.gz"]


def test_scans_with_none_of_the_classes_are_counted(toy_tree, caplog):
    with caplog.at_level(logging.INFO):
        make_data(toy_tree).setup("fit")
    assert "TOY_Tr: 2 scans with one of the classes, 0 without left out" in caplog.text


def test_no_classes_are_refused_with_those_there_are(toy_tree):
    with pytest.raises(ValueError, match="got none; the training sets have: organ, pair, scatter"):
        make_data(toy_tree, classes=[])


def test_a_class_that_training_lacks_is_refused_with_those_it_has(toy_tree):
    data = make_data(toy_tree, classes=["organ", "liver", "lung"])
    with pytest.raises(ValueError, match="got liver, lung; they have: organ, pair, scattered"):
        data.setup("fit")


def test_a_validation_set_needs_one_of_the_classes(toy_tree):
    data = make_data(toy_tree, classes=["liver"])
    with pytest.raises(ValueError, match="TOY_Val must have one of the classes liver; it has: org"):
        data.setup("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"num_workers": -1}, "num_workers is at least 0, got -1"),
        ({"crop_size": (8, 0, 8)}, "crop_size is three positive numbers"),
        ({"patches_per_epoch": 0}, "at least 1 patch, got 0"),
        ({"foreground": -0.1}, "from 0 to 1, got -0.1"),
        ({"spacing": (1.5, 0.0, 1.5)}, "positive numbers in mm or null"),
        ({"transform": "z"}, "unknown patch transform 'z'"),
        ({"intensity": "clip 3 2"}, "LOW < HIGH.*'clip 3 2'"),
        ({"intensity": "neurosam3d", "transform": "adapter3d"}, "adds to raw intensities"),
    ],
)
def test_unfit_arguments_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ValueError, match=message):
        PatchDataModule(**{"data_dir": "nowhere", "classes": ["a"], **options})


def test_the_command_line_knows_every_argument():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PatchDataModule, "data")
    helps = dict(re.findall(r"\n  --data\.(\w+) [^\n]*\n +(.*)", parser.format_help()))
    assert list(helps) == list(inspect.signature(PatchDataModule).parameters)
    assert not [name for name, text in helps.items() if text.startswith("(type")]
    words = ["--data.classes=[organ]", "--data.intensity=clip -54 247", "--data.crop_size=[8,16,4]"]
    data = parser.instantiate(parser.parse_args(words)).data
    assert (data.classes, data.intensity, data.crop_size) == (
        ("organ",),
        "clip -54 247",
        (8, 16, 4),
    )
