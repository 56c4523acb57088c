"""Datasets: crops at known places, reproducible, and errors that name the file."""

from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from neurosam3d.data.case import Case
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.data.sampler import SampleKey
from neurosam3d.volume import Grid

SIZE = 16
SPACING = (1.5, 1.5, 1.5)


def world(affine: torch.Tensor, size: int = SIZE) -> np.ndarray:
    index = np.indices((size,) * 3).reshape(3, -1)
    return affine.numpy()[:3, :3] @ index + affine.numpy()[:3, 3:]


def equal(one: dict, other: dict) -> bool:
    return all(
        torch.equal(one[key], other[key]) if torch.is_tensor(one[key]) else one[key] == other[key]
        for key in one
    )


def test_a_sample_says_what_it_is(toy_tree):
    dataset = PromptableDataset(
        {"TOY_Tr": toy_tree.training, "TOY_Val": toy_tree.validation},
        img_size=SIZE,
        spacing=SPACING,
        intensity="sam_med3d",
        transform="neurosam3d",
        training=False,
    )
    assert len(dataset) == 9
    assert dataset.cases == toy_tree.training + toy_tree.validation
    sample = dataset[SampleKey(7, seed=0)]
    names = {key: sample[key] for key in ("dataset", "class", "case", "index")}
    assert names == {"dataset": "TOY_Val", "class": "pair", "case": "p3", "index": 7}
    sets = [dataset[index]["dataset"] for index in (0, 5, 6, 8, -9, -1)]
    assert sets == ["TOY_Tr", "TOY_Tr", "TOY_Val", "TOY_Val", "TOY_Tr", "TOY_Val"]
    with pytest.raises(IndexError):
        dataset[9]
    shapes = {key: (sample[key].dtype, sample[key].shape) for key in ("image", "label", "largest")}
    assert shapes == {
        "image": (torch.float32, (1, SIZE, SIZE, SIZE)),
        "label": (torch.uint8, (1, SIZE, SIZE, SIZE)),
        "largest": (torch.bool, (1, SIZE, SIZE, SIZE)),
    }
    assert sample["affine"].dtype == torch.float64
    assert sample["image"][sample["image"] > 0].numel() > 0
    assert sample["image"].mean().abs() < 1  # standardised


@pytest.mark.parametrize("spacing", [SPACING, None, (2.0, 1.0, 1.25)])
def test_crops_lie_where_their_affine_says(toy_tree, make_dataset, spacing):
    """The toy image is a linear function of world space, which resampling keeps."""
    sample = make_dataset([toy_tree.case("organ")], spacing=spacing, img_size=8)[0]
    x, y, z = world(sample["affine"], 8)
    assert np.allclose(sample["image"].flatten().numpy(), 300 + 2 * x - 3 * y + 5 * z, atol=1e-2)
    grid = Grid((8, 8, 8), sample["affine"].numpy())
    assert grid.orientation == "RAS"
    assert grid.spacing == pytest.approx(spacing or (1.5, 1.0, 2.0))  # stored as P L S


def test_labels_lie_where_the_file_has_them(toy_tree, make_dataset):
    case = toy_tree.case("organ")
    sample = make_dataset([case], img_size=24)[0]
    label = nibabel.load(case.label)
    points = np.vstack([world(sample["affine"], 24), np.ones(24**3)])
    index = np.rint(np.linalg.inv(label.affine) @ points)[:3].astype(int)
    inside = ((index >= 0) & (index < np.array(label.shape)[:, None])).all(axis=0)
    expected = np.zeros(24**3, np.uint8)
    expected[inside] = np.asarray(label.dataobj)[tuple(index[:, inside])]
    agreement = (expected == sample["label"].flatten().numpy()).mean()
    assert agreement > 0.999
    assert sample["label"].sum() > 300


def test_evaluation_crops_are_centred_on_the_object_and_never_change(toy_tree, make_dataset):
    dataset = make_dataset(toy_tree.training)
    for index in range(len(dataset)):
        first = dataset[SampleKey(index, seed=1)]
        assert first["label"][0, SIZE // 2, SIZE // 2, SIZE // 2] == 1
        assert equal(first, dataset[SampleKey(index, seed=2)])
        assert equal(first, dataset[index])


def test_the_centre_is_the_foreground_nearest_to_the_centre_of_mass(toy_tree, make_dataset):
    sample = make_dataset([toy_tree.case("organ")])[0]
    voxels = sample["label"][0].nonzero().double()
    assert torch.allclose(voxels.mean(0), torch.full((3,), 8.0).double(), atol=0.5)


def test_largest_is_the_larger_part_of_the_crop(toy_tree, make_dataset):
    sample = make_dataset([toy_tree.case("pair")], img_size=40)[0]
    label, largest = sample["label"].bool(), sample["largest"]
    assert (largest <= label).all()
    assert label.sum() / 2 < largest.sum() < label.sum()


@pytest.mark.parametrize(("intensity", "padding"), [("none", 0.0), ("neurosam3d", -1.0)])
def test_the_outside_of_the_scan_has_the_padding_value(toy_tree, make_dataset, intensity, padding):
    sample = make_dataset([toy_tree.case("organ")], intensity=intensity, img_size=64)[0]
    image = sample["image"][0]
    assert (image[0] == padding).all()
    assert (image[:, :, -1] == padding).all()
    assert (image[24:40, 24:40, 28:36] != padding).all()
    assert sample["label"][0, 0].sum() == 0


def test_sam_med3d_pads_with_raw_zeros_before_its_z_score(toy_tree, make_dataset):
    raw = make_dataset([toy_tree.case("organ")], img_size=64)[0]["image"]
    sample = make_dataset([toy_tree.case("organ")], intensity="sam_med3d", img_size=64)[0]["image"]
    std, mean = torch.std_mean(raw[raw > 0])
    assert torch.allclose(sample, (raw - mean) / std, atol=1e-4)


@pytest.mark.parametrize("transform", ["sam_med3d", "neurosam3d"])
def test_a_training_sample_depends_on_its_seed_alone(toy_tree, make_dataset, transform):
    dataset = make_dataset(toy_tree.training, transform=transform, training=True)
    first = dataset[SampleKey(1, seed=5)]
    torch.manual_seed(99)
    torch.rand(3)
    dataset[SampleKey(2, seed=6)]
    assert equal(first, dataset[SampleKey(1, seed=5)])
    others = [dataset[SampleKey(1, seed=seed)] for seed in range(6, 16)]
    assert sum(torch.equal(first["image"], other["image"]) for other in others) < 5


def test_samples_leave_the_global_random_state_alone(toy_tree, make_dataset):
    dataset = make_dataset(toy_tree.training, transform="neurosam3d", training=True)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    for seed in range(20):
        dataset[SampleKey(0, seed)]
    assert torch.equal(torch.rand(4), expected)


def test_augmentation_moves_image_and_label_together(toy_tree, make_dataset, tmp_path):
    case = toy_tree.case("organ")
    copy = replace(case, image=tmp_path / "image.nii.gz")  # an image that shows its label
    label = nibabel.load(case.label)
    mask = np.asarray(label.dataobj).astype(np.float32) * 100
    nibabel.save(nibabel.Nifti1Image(mask, label.affine), copy.image)
    dataset = make_dataset([copy], transform="neurosam3d", training=True, spacing=None)
    places = set()
    for seed in range(30):
        sample = dataset[SampleKey(0, seed)]
        image, mask = sample["image"], sample["label"].bool()
        assert image[mask].mean() > image[~mask].mean() + 50
        places.add(tuple(mask[0].nonzero().double().mean(0).round().tolist()))
    assert len(places) > 10


def test_training_crops_are_centred_on_a_random_voxel_of_the_object(toy_tree, make_dataset):
    dataset = make_dataset([toy_tree.case("pair")], transform="neurosam3d", training=True)
    in_larger = 0
    for seed in range(60):
        sample = dataset[SampleKey(0, seed)]
        half = slice(SIZE // 2 - 1, SIZE // 2 + 1)  # flips move the middle voxel by one
        assert sample["label"][0, half, half, half].any()
        center = sample["affine"].numpy() @ [SIZE // 2, SIZE // 2, SIZE // 2, 1]
        in_larger += bool(center[1] > 1.0)
    assert 5 < in_larger < 55  # both parts of the pair are visited


def test_a_crop_with_too_little_foreground_is_drawn_again_around_the_object(toy_tree, make_dataset):
    def sizes(min_foreground: int) -> list[int]:
        dataset = make_dataset(
            [toy_tree.case("scattered")],
            transform="neurosam3d",
            training=True,
            spacing=None,
            img_size=8,
            min_foreground=min_foreground,
        )
        return [int(dataset[SampleKey(0, seed)]["label"].sum()) for seed in range(150)]

    assert min(sizes(1)) == 4  # crops around the speck of four voxels exist
    assert min(sizes(60)) >= 60


def test_an_object_smaller_than_the_minimum_is_not_tied_to_its_centre(toy_tree, make_dataset):
    dataset = make_dataset(
        [toy_tree.case("organ")],
        transform="neurosam3d",
        training=True,
        img_size=40,
        min_foreground=10**6,
    )
    samples = [dataset[SampleKey(0, seed)] for seed in range(8)]
    assert len({tuple(sample["affine"].flatten().tolist()) for sample in samples}) == 8
    assert len({int(sample["label"].sum()) for sample in samples}) == 1


def test_the_last_resort_is_the_crop_around_the_centre(toy_tree, make_dataset):
    """A part of the object can be asked for that no crop of this size holds."""
    case = toy_tree.case("pair")
    options = {"spacing": None, "min_foreground": 10**6, "transform": "sam_med3d"}
    expected = make_dataset([case], **options)[0]
    sample = make_dataset([case], training=True, **options)[SampleKey(0, 3)]
    assert torch.equal(sample["affine"], expected["affine"])
    assert sample["index"] == 0


def test_sam_med3d_crops_lie_around_the_middle_of_the_bounding_box(toy_tree, make_dataset):
    dataset = make_dataset([toy_tree.case("organ")], training=True, spacing=None)
    affines = [dataset[SampleKey(0, seed)]["affine"] for seed in range(5)]
    assert all(torch.equal(affine, affines[0]) for affine in affines)
    raw = nibabel.load(toy_tree.case("organ").label)
    low, high = (edge(np.argwhere(raw.dataobj), axis=0) for edge in (np.min, np.max))
    middle = (raw.affine @ [*((low + high) / 2), 1])[:3]
    center = (affines[0].numpy() @ [SIZE // 2, SIZE // 2, SIZE // 2, 1])[:3]
    assert np.abs(center - middle).max() < 2.0  # one voxel


@pytest.mark.parametrize("cached", [False, True])
def test_what_a_worker_process_is_sent_does_not_grow_with_the_cases(
    toy_tree, make_dataset, tmp_path, cached
):
    def size(repeats: int) -> int:
        cases = toy_tree.training * repeats
        dataset = make_dataset(cases, cache_dir=tmp_path if cached else None)
        return len(ForkingPickler.dumps(dataset))

    assert abs(size(1000) - size(1)) < 100


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("img_size", [6, 40])  # within the scan and the object, and beyond them
def test_a_sample_may_be_changed_without_changing_the_next(
    own_case, make_dataset, tmp_path, cached, img_size
):
    folder = tmp_path / "cache" if cached else None
    dataset = make_dataset([own_case], cache_dir=folder, spacing=None, img_size=img_size)
    first = dataset[0]
    expected = first["image"].clone()
    first["image"].zero_()
    first["label"].zero_()
    assert torch.equal(dataset[0]["image"], expected)
    assert dataset[0]["label"].any()


# Mistakes


def write_label(case: Case, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    old = nibabel.load(case.label).affine
    nibabel.save(nibabel.Nifti1Image(array, old if affine is None else affine), case.label)


def test_a_label_off_its_images_grid_is_refused(own_case, make_dataset):
    label = nibabel.load(own_case.label)
    moved = label.affine.copy()
    moved[0, 3] += 1
    write_label(own_case, np.asarray(label.dataobj), moved)
    with pytest.raises(ValueError, match=r"its image's grid, got .*label.nii.gz: prepare it anew"):
        make_dataset([own_case])[0]


def test_an_empty_label_is_named(own_case, make_dataset):
    write_label(own_case, np.zeros(nibabel.load(own_case.label).shape, np.uint8))
    with pytest.raises(ValueError, match=r"has foreground, .*label.nii.gz has none: prepare it"):
        make_dataset([own_case])[0]


def test_several_channels_are_refused(own_case, make_dataset):
    scan = nibabel.load(own_case.image)
    two = np.stack([np.asarray(scan.dataobj)] * 2, axis=-1)
    nibabel.save(nibabel.Nifti1Image(two, scan.affine), own_case.image)
    with pytest.raises(ValueError, match=r"one channel, got 2 in .*image.nii.gz"):
        make_dataset([own_case])[0]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("part", ["image", "label"])
def test_a_missing_file_is_named(own_case, make_dataset, tmp_path, part, cached):
    path: Path = getattr(own_case, part)
    path.unlink()
    with pytest.raises(ValueError, match=f"cannot read {path}"):
        make_dataset([own_case], cache_dir=tmp_path / "cache" if cached else None)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 0}, "img_size is a positive number of voxels, got 0"),
        ({"intensity": "z"}, "unknown intensity preset 'z'"),
        ({"transform": "z"}, "unknown transform preset 'z'"),
    ],
)
def test_unfit_options_are_refused(toy_tree, make_dataset, options, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(toy_tree.training, **options)
