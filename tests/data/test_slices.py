"""Slices: which plane an item is, what of it the network sees, and what augmentation does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosam3d.data.sampler import SampleKey
from neurosam3d.data.slice_feed import SliceFeed
from neurosam3d.data.slices import SliceDataset, SlicedScanDataset
from neurosam3d.data.store import VolumeStore
from neurosam3d.slices import AXES, Axis, in_slice_order, to_slices
from neurosam3d.volume import Volume, read_volume, to_canonical
from tests.data.conftest import ToyTree

CLASSES = ("organ", "pair", "scattered")
S = 48

Make = Callable[..., SliceDataset]


@pytest.fixture
def make(toy_tree: ToyTree) -> Make:
    def make(**options: Any) -> SliceDataset:
        defaults = {
            "classes": CLASSES,
            "spacing": None,
            "intensity": "clip 0 700",
            "feed": SliceFeed(img_size=S),
        }
        return SliceDataset({"TOY_Tr": toy_tree.training}, **{**defaults, **options})

    return make


def scan_of(toy_tree: ToyTree, patient: int) -> Volume:
    """The first scan of the training set, as RAS+."""
    case = toy_tree.training[3 * (patient - 1)]
    return to_canonical(read_volume(case.image, dtype=torch.float32))


def label_of(toy_tree: ToyTree, patient: int) -> torch.Tensor:
    """Its label map (1, R, A, S) with later classes above earlier ones."""
    cases = toy_tree.training[3 * (patient - 1) : 3 * patient]
    label = torch.zeros(1, *scan_of(toy_tree, patient).shape, dtype=torch.uint8)
    for value, name in enumerate(CLASSES, start=1):
        case = next(case for case in cases if case.class_name == name)
        label[to_canonical(read_volume(case.label)).data > 0] = value
    return label


@pytest.mark.parametrize("axis", AXES)
def test_an_item_is_one_plane_of_one_scan(make: Make, toy_tree: ToyTree, axis: Axis) -> None:
    data = make(axis=axis)
    number, height, width = in_slice_order(scan_of(toy_tree, 1).shape, axis)
    assert len(data) == 2 * number
    item = data[SampleKey(number + 7, seed=5)]
    assert {key: item[key] for key in ("dataset", "case", "slice", "index")} == {
        "dataset": "TOY_Tr",
        "case": "p2",
        "slice": 7,
        "index": number + 7,
    }
    assert (item["image"].dtype, item["image"].shape) == (torch.float32, (1, S, S))
    assert (item["label"].dtype, item["label"].shape) == (torch.uint8, (1, S, S))
    plane = to_slices(scan_of(toy_tree, 2).data, axis)[7] / 700  # (H, W)
    rows, columns = (np.linspace(0, n - 1, S) for n in (height, width))
    expected = np.add.outer(  # the scan's values follow a plane, so splines do, too
        rows * float(plane[1, 0] - plane[0, 0]), columns * float(plane[0, 1] - plane[0, 0])
    ) + float(plane[0, 0])
    np.testing.assert_allclose(item["image"][0], expected, atol=0.01)


def test_labels_are_those_of_the_plane(make: Make, toy_tree: ToyTree) -> None:
    label = to_slices(label_of(toy_tree, 1), "axial")  # (N, H, W)
    height, width = label.shape[1:]
    data = make(feed=SliceFeed(img_size=4 * height - 3))
    for number in (8, 9, 14):
        found = data[number]["label"][0, ::4]  # (H, S)
        columns = np.linspace(0, width - 1, found.shape[1])
        sure = np.abs(columns % 1 - 0.5) > 1e-6  # those half-way may go either way
        assert found.unique().numel() > 1
        assert torch.equal(found[:, sure], label[number][:, columns.round().astype(int)][:, sure])


def test_labelled_slices_hold_a_class_and_no_others_do(make: Make, toy_tree: ToyTree) -> None:
    data = make(which="labelled", classes=("pair", "scattered"), axis="sagittal")
    expected = []
    for patient in (1, 2):
        label = to_slices(label_of(toy_tree, patient), "sagittal")
        is_there = (label > 1).flatten(1).any(1)
        expected += [(f"p{patient}", number) for number in is_there.nonzero()[:, 0].tolist()]
        assert not is_there.all()  # there is something to leave out
    assert [(item["case"], item["slice"]) for item in map(data.__getitem__, range(len(data)))] == (
        expected
    )


def test_slices_follow_the_spacing(make: Make, toy_tree: ToyTree) -> None:
    data = make(spacing=(2.0, 1.0, 5.0))
    grid = scan_of(toy_tree, 1).grid.with_spacing((2.0, 1.0, 5.0))
    assert len(data) == 2 * grid.shape[2]
    assert data[len(data) - 1]["slice"] == grid.shape[2] - 1


def test_detail_is_lost_before_the_slice_is_scaled(make: Make) -> None:
    coarse = make(feed=SliceFeed(img_size=S, detail=5))[9]
    fine = make()[9]
    assert coarse["image"].shape == fine["image"].shape
    blocks = coarse["label"][0]
    steps = (blocks.diff(dim=0) != 0).any(1).nonzero()[:, 0]
    assert len(steps) > 1
    assert (steps.diff() >= 9).all()  # 48 pixels of 5
    assert (fine["label"][0].diff(dim=0) != 0).any(1).sum() > len(steps)


def test_augmentation_is_for_training_and_follows_the_seed(make: Make) -> None:
    still = make(transform="samed")
    assert torch.equal(still[SampleKey(9, 1)]["image"], still[SampleKey(9, 2)]["image"])
    data = make(transform="samed", training=True)
    images = [data[SampleKey(9, seed)]["image"] for seed in range(8)]
    assert torch.equal(images[3], data[SampleKey(9, 3)]["image"])
    assert len({image.numpy().tobytes() for image in images}) > 3


def test_a_store_gives_the_same_slices(make: Make, tmp_path: Path) -> None:
    plain, stored = make(), make(cache_dir=tmp_path)
    assert isinstance(stored.volumes, VolumeStore)
    for index in (0, 12, 31):
        for key in ("image", "label"):
            assert torch.equal(plain[index][key], stored[index][key])


def test_a_whole_scan_is_its_slices_in_order(make: Make, toy_tree: ToyTree) -> None:
    feed = SliceFeed(img_size=S, detail=21)
    scans = SlicedScanDataset(
        {"TOY_Tr": toy_tree.training},
        classes=CLASSES,
        spacing=None,
        intensity="clip 0 700",
        feed=feed,
        axis="coronal",
    )
    slices = make(feed=feed, axis="coronal")
    assert len(scans) == 2
    scan = scans[1]
    first = len(slices) // 2
    assert scan["image"].shape == (1, first, S, S) == scan["label"].shape
    for number in (0, 7, first - 1):
        for key in ("image", "label"):
            assert torch.equal(scan[key][:, number], slices[first + number][key])
    grid, last = scan_of(toy_tree, 2).grid, S - 1
    rows, columns = grid.shape[2] - 1, grid.shape[0] - 1
    for index, voxel in (
        ((0, 0, 0), (0, 0, 0)),
        ((3, last, 0), (0, 3, rows)),
        ((5, 0, last), (columns, 5, 0)),
    ):
        point = scan["affine"].numpy() @ [*index, 1]
        np.testing.assert_allclose(point, grid.affine @ [*voxel, 1], atol=1e-6)


def test_networks_with_prompts_are_fed_in_their_ways(make: Make, toy_tree: ToyTree) -> None:
    height, width = in_slice_order(scan_of(toy_tree, 1).shape, "axial")[1:]
    item = make(feed=SliceFeed("sam_med2d", img_size=S))[9]
    assert item["image"].shape == (3, S, S)
    inside = item["image"][0] != 0  # padded around
    top, left = (S - height) // 2, (S - width) // 2
    assert inside[top : top + height, left : left + width].all()
    assert inside.sum() == height * width
    label = to_slices(label_of(toy_tree, 1), "axial")[9]
    assert torch.equal(item["label"][0, top : top + height, left : left + width], label)
    assert item["label"].sum() == label.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intensity": "sam_med3d"}, "must not depend on what else is seen.*got 'sam_med3d'"),
        ({"axis": "oblique"}, "axis must be one of axial, coronal, sagittal"),
        ({"transform": "nnunet", "training": True}, "unknown slice transform 'nnunet'"),
    ],
)
def test_mistakes_are_told(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 0}, "img_size is a positive number of pixels, got 0"),
        ({"detail": -3}, "detail is a positive number of pixels, got -3"),
        ({"feeding": "sam", "detail": 224}, "detail is for feeding samed, got 'sam'"),
        ({"feeding": "sam2"}, "unknown feeding 'sam2'"),
    ],
)
def test_unfit_feeds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceFeed(**options)
