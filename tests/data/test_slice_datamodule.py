"""SliceDataModule: loaders that repeat, whole scans or labelled slices for validation."""

import re
from typing import Any

import pytest
import torch

from neurosam3d.data.slice_datamodule import SliceDataModule
from tests.data.conftest import SHAPE, ToyTree
from tests.data.test_patches import same


def make_data(toy_tree: ToyTree, **options: Any) -> SliceDataModule:
    defaults = {
        "data_dir": str(toy_tree.root),
        "img_size": 16,
        "classes": ["scattered", "organ"],
        "batch_size": 16,
        "num_workers": 0,
        "training_sets": ["TOY_Tr"],
        "validation_sets": ["TOY_Val"],
        "intensity": "clip 0 700",
        "cache_dir": str(toy_tree.root.parent / "slices"),  # scans are prepared once for all
    }
    return SliceDataModule(**{**defaults, **options})


def collect(data: SliceDataModule, *, start: int = 0) -> list[dict[str, Any]]:
    data.setup("fit")
    data.train_sampler.set_epoch(1)
    data.train_sampler.start = start
    return list(data.train_dataloader())


def test_training_sees_every_slice_once(toy_tree: ToyTree) -> None:
    batches = collect(make_data(toy_tree))
    assert [len(batch["image"]) for batch in batches] == [16, 16, 8]
    assert batches[0]["image"].shape == batches[0]["label"].shape == (16, 1, 16, 16)
    seen = [
        (case, int(number))
        for batch in batches
        for case, number in zip(batch["case"], batch["slice"], strict=True)
    ]
    assert sorted(seen) == [(case, n) for case in ("p1", "p2") for n in range(SHAPE[2])]
    assert seen != sorted(seen)


def test_training_may_see_the_labelled_slices_alone(toy_tree: ToyTree) -> None:
    batches = collect(make_data(toy_tree, slices="labelled"))
    assert sum(len(batch["image"]) for batch in batches) < 2 * SHAPE[2]
    assert all(label.any() for batch in batches for label in batch["label"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_epoch_is_bit_equal_with_any_number_of_workers(toy_tree, num_workers):
    expected = collect(make_data(toy_tree, img_size=12))
    data = make_data(toy_tree, img_size=12, num_workers=num_workers, cache_dir=None)
    assert all(map(same, collect(data, start=16), expected[1:]))


def test_validation_sees_whole_scans_one_by_one(toy_tree: ToyTree) -> None:
    data = make_data(toy_tree, validation_sets=["TOY_Val", "TOY_Tr"], axis="sagittal")
    data.setup("validate")
    scans = list(data.val_dataloader())
    assert [scan["case"] for scan in scans] == [["p3"], ["p1"], ["p2"]]
    for scan in scans:
        assert scan["image"].shape == scan["label"].shape == (1, 1, SHAPE[1], 16, 16)
        assert scan["label"].unique().tolist() == [0, 1, 2]


def test_validation_may_see_the_labelled_slices(toy_tree: ToyTree) -> None:
    options = {"validation": "slices", "feeding": "medsam", "img_size": 32, "batch_size": 100}
    data = make_data(toy_tree, **options)
    data.setup("validate")
    (batch,) = data.val_dataloader()
    assert batch["image"].shape[1:] == (3, 32, 32)
    assert all(label.any() for label in batch["label"])
    again = make_data(toy_tree, **options, seed=9)
    again.setup("validate")
    assert torch.equal(next(iter(again.val_dataloader()))["image"], batch["image"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": []}, "got none; the training sets have: organ, pair, scattered"),
        ({"axis": "z"}, "axis must be one of axial, coronal, sagittal, got 'z'"),
        ({"transform": "baseline"}, "unknown slice transform 'baseline'"),
        ({"intensity": "sam_med3d"}, "must not depend on what else is seen"),
        ({"feeding": "sam2"}, "unknown feeding 'sam2'"),
        ({"detail": 0}, "detail is a positive number of pixels, got 0"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing is three positive numbers"),
        ({"batch_size": 0}, "batch_size is at least 1"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(
    toy_tree: ToyTree, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_data(toy_tree, **options)
