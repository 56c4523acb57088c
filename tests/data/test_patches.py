"""Patches: image and label lie where the affine says, whatever turn, zoom or flip was drawn."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from neurosam3d.data import patch_transforms
from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.patch_transforms import (
    PATCH_TRANSFORMS,
    PatchTransform,
    QuarterTurn,
    Rotation,
)
from neurosam3d.data.patches import PatchDataset, WholeScanDataset
from neurosam3d.data.sampler import SampleKey
from neurosam3d.data.store import VolumeStore, build_store
from neurosam3d.volume import Grid, read_grid
from tests.data.conftest import ToyTree, brightness

SIZE = (10, 14, 12)
SPACING = (1.5, 2.0, 1.25)
CLASSES = ("organ", "pair", "scattered")

Make = Callable[..., PatchDataset]


@pytest.fixture
def make(toy_tree: ToyTree) -> Make:
    def make(**options: Any) -> PatchDataset:
        defaults = {
            "classes": CLASSES,
            "crop_size": SIZE,
            "spacing": SPACING,
            "intensity": "none",
            "transform": "none",
            "training": True,
        }
        return PatchDataset({"TOY_Tr": toy_tree.training}, **{**defaults, **options})

    return make


def points_of(item: dict[str, Any]) -> np.ndarray:
    """World position of every voxel, (3, D, H, W)."""
    affine, shape = item["affine"].numpy(), item["image"].shape[1:]
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def voxels_of(item: dict[str, Any], path: Path) -> np.ndarray:
    """Index in a file of every voxel, (3, D, H, W), not rounded."""
    points = points_of(item)
    inverse = np.linalg.inv(nibabel.load(path).affine)
    return np.einsum("ij,j...->i...", inverse[:3, :3], points) + inverse[:3, 3].reshape(3, 1, 1, 1)


def depth_inside(item: dict[str, Any], path: Path) -> np.ndarray:
    """Voxels of the file from each voxel to the nearest border, negative outside, (D, H, W)."""
    index = voxels_of(item, path)
    last = np.array(nibabel.load(path).shape).reshape(3, 1, 1, 1) - 1
    return np.minimum(index, last - index).min(axis=0)


def test_an_item_says_what_it_is(make, toy_tree):
    item = make()[SampleKey(1, seed=5)]
    assert {key: item[key] for key in ("dataset", "case", "index")} == {
        "dataset": "TOY_Tr",
        "case": "p2",
        "index": 1,
    }
    assert (item["image"].dtype, item["image"].shape) == (torch.float32, (1, *SIZE))
    assert (item["label"].dtype, item["label"].shape) == (torch.uint8, (1, *SIZE))
    grid = Grid(SIZE, item["affine"].numpy())
    assert grid.spacing == pytest.approx(SPACING[::-1])  # slices first
    assert grid.orientation == "SAR"
    with pytest.raises(IndexError):
        make()[2]


@pytest.mark.parametrize("spacing", [SPACING, None])
@pytest.mark.parametrize("name", PATCH_TRANSFORMS)
def test_patches_lie_where_their_affine_says(make, toy_tree, name, spacing, monkeypatch):
    """The toy image is a linear function of world space, which linear sampling keeps."""
    geometry = replace(PATCH_TRANSFORMS[name], changes=())
    monkeypatch.setitem(patch_transforms.PATCH_TRANSFORMS, name, geometry)
    dataset = make(transform=name, spacing=spacing)
    image = toy_tree.training[0].image
    labels = {c.class_name: c.label for c in toy_tree.training if c.image == image}
    hits = []
    for seed in range(12):
        item = dataset[SampleKey(0, seed)]
        depth = depth_inside(item, image)
        error = (item["image"][0].numpy() - brightness(points_of(item)))[depth > 1]
        offset = np.median(error) if error.size else 0.0
        assert abs(offset) <= geometry.offset + 1e-2
        assert np.abs(error - offset).max(initial=0) < 2e-2
        assert (item["image"][0].numpy()[depth < -2] == 0).all()  # the padding, without the offset
        index = np.rint(voxels_of(item, image)).astype(int)
        index[:, depth < -0.5] = 0
        expected = np.zeros(SIZE, np.uint8)
        for value, class_name in enumerate(CLASSES, start=1):
            mask = np.asarray(nibabel.load(labels[class_name]).dataobj)[tuple(index)]
            expected[(mask > 0) & (depth >= -0.5)] = value
        hits.append((item["label"][0].numpy() == expected).mean())
    assert min(hits) > (0.999 if name == "none" and spacing is None else 0.9)
    assert np.mean(hits) > 0.96


def test_turns_keep_voxel_size_and_right_angles_in_millimetres(make, monkeypatch):
    turns = PatchTransform((Rotation(30, p=1), QuarterTurn("SA", p=0.5)))
    monkeypatch.setitem(patch_transforms.PATCH_TRANSFORMS, "none", turns)
    dataset = make()
    for seed in range(5):
        axes = dataset[SampleKey(0, seed)]["affine"].numpy()[:3, 2::-1] / SPACING
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
        assert np.abs(axes - dataset.scans[0].image.affine[:3, :3] / SPACING).max() > 0.05


@pytest.mark.parametrize("name", PATCH_TRANSFORMS)
def test_a_foreground_patch_holds_a_voxel_of_a_class(make, name):
    dataset = make(transform=name, foreground=1.0, crop_size=(7, 6, 9), classes=("scattered",))
    assert all(dataset[SampleKey(0, seed)]["label"].any() for seed in range(40))


def test_small_classes_are_drawn_as_often_as_large_ones(make, toy_tree, tmp_path):
    volumes = {c.class_name: c.volume_mm3 for c in toy_tree.training}
    assert volumes["organ"] > 2 * volumes["scattered"]
    classes = ("organ", "scattered")
    dataset = make(foreground=1.0, classes=classes, crop_size=(5, 5, 5), cache_dir=tmp_path)
    drawn = Counter(int(dataset[SampleKey(0, seed)]["label"][0, 2, 2, 2]) for seed in range(200))
    assert drawn[1] + drawn[2] == 200
    assert 70 < drawn[1] < 130


def first_voxel(dataset: PatchDataset, seed: int) -> np.ndarray:
    item, grid = dataset[SampleKey(0, seed)], dataset.scans[0].image.grid
    return np.rint((np.linalg.inv(grid.affine) @ item["affine"].numpy())[:3, 3]).astype(int)


def test_other_patches_lie_anywhere_in_the_scan(make, tmp_path):
    dataset = make(
        foreground=0.0, spacing=(2.0, 2.0, 2.0), crop_size=(30, 9, 15), cache_dir=tmp_path
    )
    shape = np.array(dataset.scans[0].image.voxels.shape)
    found = np.array([first_voxel(dataset, seed) for seed in range(200)])
    slack = shape - (15, 9, 30)
    assert slack[0] > 0
    assert slack[2] < 0  # the scan is smaller: it lies anywhere in the patch
    assert found.min(axis=0).tolist() == np.minimum(slack, 0).tolist()
    assert found.max(axis=0).tolist() == np.maximum(slack, 0).tolist()


def test_foreground_is_the_share_of_such_patches(make, tmp_path):
    classes = ("scattered",)
    dataset = make(foreground=0.6, crop_size=(3, 3, 3), classes=classes, cache_dir=tmp_path)
    hits = sum(bool(dataset[SampleKey(0, seed)]["label"].any()) for seed in range(200))
    assert 100 < hits < 150


def test_where_classes_overlap_the_later_one_stands(make):
    def whole(*classes: str) -> torch.Tensor:
        return make(training=False, crop_size=(48, 48, 48), classes=classes)[0]["label"]

    organ, pair = whole("organ"), whole("pair")
    # Patches are centred on the largest object, which is the organ in both.
    forth, back = whole("organ", "pair"), whole("pair", "organ")
    assert (forth == 2).sum() == pair.sum()
    assert (back == 2).sum() == organ.sum()
    both = (forth == 2) & (back == 2)
    assert 0 < both.sum() < pair.sum()
    assert (forth > 0).equal(back > 0)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        torch.equal(one[key], other[key]) if torch.is_tensor(one[key]) else one[key] == other[key]
        for key in one
    )


@pytest.mark.parametrize("name", PATCH_TRANSFORMS)
def test_the_seed_decides_and_the_global_state_stays(make, name):
    dataset = make(transform=name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = dataset[SampleKey(0, seed=3)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, dataset[SampleKey(0, seed=3)])
    assert not same(first, dataset[SampleKey(0, seed=4)])


def test_an_epoch_may_have_any_length(make):
    assert len(make()) == 2
    dataset = make(length=30)
    items = [dataset[SampleKey(index, seed=index)] for index in range(len(dataset))]
    assert [item["index"] for item in items] == list(range(30))
    cases = Counter(item["case"] for item in items)
    assert min(cases["p1"], cases["p2"]) > 5


def test_fixed_patches_are_centred_on_the_largest_object(make):
    dataset = make(training=False, transform="nnunet")
    for index in range(2):
        item = dataset[SampleKey(index, seed=1)]
        assert item["label"][0, 5, 7, 6] == 1
        assert same(item, dataset[SampleKey(index, seed=2)])


def test_patches_from_the_store_are_those_from_memory(make, tmp_path):
    options = {"transform": "adapter3d", "intensity": "clip 250 400 mean 300 std 40"}
    stored, fresh = make(**options, cache_dir=tmp_path), make(**options)
    assert isinstance(stored.volumes, VolumeStore)
    build_store(stored.volumes, workers=1, title="cache")
    assert all(same(stored[SampleKey(i, i)], fresh[SampleKey(i, i)]) for i in range(2))


def test_the_outside_is_padding_after_clip_and_offset(make):
    dataset = make(
        transform="adapter3d",
        intensity="clip 250 400 mean 300 std 40",
        crop_size=(70, 70, 70),
        foreground=1.0,
    )
    for seed in range(6):
        assert dataset[SampleKey(0, seed)]["image"][0, 0, 0, 0] == pytest.approx(0, abs=1e-5)


def test_scans_without_a_class_are_no_items(toy_tree, make, tmp_path):
    dataset = make(classes=("organ",))
    assert {case.class_name for case in dataset.scans.cases} == {"organ"}
    only_second = [c for c in toy_tree.training if c.case_id == "p2" or c.class_name != "organ"]
    write_index(tmp_path / "A_Tr.json", only_second)
    left = PatchDataset(
        {"A_Tr": read_index(tmp_path / "A_Tr.json"), "B_Tr": toy_tree.training},
        classes=("organ",),
        crop_size=SIZE,
        spacing=None,
        intensity="none",
        transform="none",
        training=True,
    )
    assert [(item["dataset"], item["case"]) for item in map(left.__getitem__, range(3))] == [
        ("A_Tr", "p2"),
        ("B_Tr", "p1"),
        ("B_Tr", "p2"),
    ]


def test_a_whole_scan_is_all_of_it(toy_tree):
    dataset = WholeScanDataset(
        {"TOY_Val": toy_tree.validation}, classes=CLASSES, spacing=SPACING, intensity="none"
    )
    item = dataset[SampleKey(0, seed=7)]
    image = toy_tree.validation[0].image
    grid = read_grid(image).canonical().with_spacing(SPACING)
    slices_first = Grid(grid.shape[::-1], grid.affine[:, [2, 1, 0, 3]])
    assert slices_first.same_as(Grid(item["image"].shape[1:], item["affine"].numpy()))
    inside = depth_inside(item, image) > 0
    error = item["image"][0].numpy() - brightness(points_of(item))
    assert np.abs(error[inside]).max() < 2e-2
    for value in (2, 3):  # of the organ, the pair covers a part
        volume = int((item["label"] == value).sum()) * grid.voxel_mm3
        assert volume == pytest.approx(toy_tree.validation[value - 1].volume_mm3, rel=0.15)
    assert {key: item[key] for key in ("dataset", "case", "index")} == {
        "dataset": "TOY_Val",
        "case": "p3",
        "index": 0,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ()}, r"1 to 255 different classes, got \[\]"),
        ({"classes": ("organ", "organ")}, "different classes"),
        ({"crop_size": (4, 0, 4)}, r"crop_size .* got \(4, 0, 4\)"),
        ({"foreground": 1.5}, "foreground is a share from 0 to 1, got 1.5"),
        ({"length": 0}, "at least 1 patch, got 0"),
        ({"transform": "monai"}, "unknown patch transform 'monai'; known: none, adapter3d"),
        ({"intensity": "bright"}, "unknown intensity preset 'bright'"),
        ({"intensity": "zscore", "transform": "adapter3d"}, "adds to raw .* got 'zscore'"),
    ],
)
def test_unfit_arguments_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
