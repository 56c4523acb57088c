"""Datasets and their cache: crops at known places, reproducible, and errors that name the file."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from neurosam3d.data import cache
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.data.index import Case
from neurosam3d.data.sampler import SampleKey
from neurosam3d.volume import Grid, read_volume, resample, to_canonical

SIZE = 16
SPACING = (1.5, 1.5, 1.5)


def make_dataset(cases: list[Case], **options) -> PromptableDataset:
    defaults = {
        "img_size": SIZE,
        "spacing": SPACING,
        "intensity": "none",
        "transform": "sam_med3d",
        "training": False,
        "min_foreground": 1,
    }
    return PromptableDataset({"TOY_Tr": cases}, **{**defaults, **options})


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
def test_crops_lie_where_their_affine_says(toy_tree, spacing):
    """The toy image is a linear function of world space, which resampling keeps."""
    sample = make_dataset([toy_tree.case("organ")], spacing=spacing, img_size=8)[0]
    x, y, z = world(sample["affine"], 8)
    assert np.allclose(sample["image"].flatten().numpy(), 300 + 2 * x - 3 * y + 5 * z, atol=1e-2)
    grid = Grid((8, 8, 8), sample["affine"].numpy())
    assert grid.orientation == "RAS"
    assert grid.spacing == pytest.approx(spacing or (1.5, 1.0, 2.0))  # stored as P L S


def test_labels_lie_where_the_file_has_them(toy_tree):
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


def test_evaluation_crops_are_centred_on_the_object_and_never_change(toy_tree):
    dataset = make_dataset(toy_tree.training)
    for index in range(len(dataset)):
        first = dataset[SampleKey(index, seed=1)]
        assert first["label"][0, SIZE // 2, SIZE // 2, SIZE // 2] == 1
        assert equal(first, dataset[SampleKey(index, seed=2)])
        assert equal(first, dataset[index])


def test_the_centre_is_the_foreground_nearest_to_the_centre_of_mass(toy_tree):
    sample = make_dataset([toy_tree.case("organ")])[0]
    voxels = sample["label"][0].nonzero().double()
    assert torch.allclose(voxels.mean(0), torch.full((3,), 8.0).double(), atol=0.5)


def test_largest_is_the_larger_part_of_the_crop(toy_tree):
    sample = make_dataset([toy_tree.case("pair")], img_size=40)[0]
    label, largest = sample["label"].bool(), sample["largest"]
    assert (largest <= label).all()
    assert label.sum() / 2 < largest.sum() < label.sum()


@pytest.mark.parametrize(("intensity", "padding"), [("none", 0.0), ("neurosam3d", -1.0)])
def test_the_outside_of_the_scan_has_the_padding_value(toy_tree, intensity, padding):
    sample = make_dataset([toy_tree.case("organ")], intensity=intensity, img_size=64)[0]
    image = sample["image"][0]
    assert (image[0] == padding).all()
    assert (image[:, :, -1] == padding).all()
    assert (image[24:40, 24:40, 28:36] != padding).all()
    assert sample["label"][0, 0].sum() == 0


def test_sam_med3d_pads_with_raw_zeros_before_its_z_score(toy_tree):
    raw = make_dataset([toy_tree.case("organ")], img_size=64)[0]["image"]
    sample = make_dataset([toy_tree.case("organ")], intensity="sam_med3d", img_size=64)[0]["image"]
    std, mean = torch.std_mean(raw[raw > 0])
    assert torch.allclose(sample, (raw - mean) / std, atol=1e-4)


@pytest.mark.parametrize("transform", ["sam_med3d", "neurosam3d"])
def test_a_training_sample_depends_on_its_seed_alone(toy_tree, transform):
    dataset = make_dataset(toy_tree.training, transform=transform, training=True)
    first = dataset[SampleKey(1, seed=5)]
    torch.manual_seed(99)
    torch.rand(3)
    dataset[SampleKey(2, seed=6)]
    assert equal(first, dataset[SampleKey(1, seed=5)])
    others = [dataset[SampleKey(1, seed=seed)] for seed in range(6, 16)]
    assert sum(torch.equal(first["image"], other["image"]) for other in others) < 5


def test_samples_leave_the_global_random_state_alone(toy_tree):
    dataset = make_dataset(toy_tree.training, transform="neurosam3d", training=True)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    for seed in range(20):
        dataset[SampleKey(0, seed)]
    assert torch.equal(torch.rand(4), expected)


def test_augmentation_moves_image_and_label_together(toy_tree, tmp_path):
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


def test_training_crops_are_centred_on_a_random_voxel_of_the_object(toy_tree):
    dataset = make_dataset([toy_tree.case("pair")], transform="neurosam3d", training=True)
    in_larger = 0
    for seed in range(60):
        sample = dataset[SampleKey(0, seed)]
        half = slice(SIZE // 2 - 1, SIZE // 2 + 1)  # flips move the middle voxel by one
        assert sample["label"][0, half, half, half].any()
        center = sample["affine"].numpy() @ [SIZE // 2, SIZE // 2, SIZE // 2, 1]
        in_larger += bool(center[1] > 1.0)
    assert 5 < in_larger < 55  # both parts of the pair are visited


@pytest.mark.parametrize("spacing", [SPACING, None])
def test_an_object_mask_lies_on_the_grid_of_its_image(toy_tree, spacing):
    store = cache.VolumeStore(spacing=spacing, intensity="none", cache_dir=None)
    case = toy_tree.case("pair")
    mask, image = store.object_mask(case), store.image(case)
    assert mask.box.grid.same_as(image.grid.window(mask.start, mask.box.shape))
    assert mask.counts == tuple(mask.box.data.sum(dim=(0, 2, 3)).tolist())
    for axis in (1, 2, 3):  # no empty slice at the border of the box
        assert mask.box.data.select(axis, 0).any()
        assert mask.box.data.select(axis, -1).any()


def thin(case: Case, where: tuple) -> np.ndarray:
    """Replace a label by a box of voxels; returns their positions, (N, 3)."""
    old = nibabel.load(case.label)
    label = np.zeros(old.shape, np.uint8)
    label[where] = 1
    nibabel.save(nibabel.Nifti1Image(label, old.affine), case.label)
    return nibabel.affines.apply_affine(old.affine, np.argwhere(label))


@pytest.mark.parametrize(
    ("where", "spacing"),
    [
        (np.s_[7, 7, 7], (9.0, 9.0, 9.0)),  # 3 mm^3
        (np.s_[5:7, 8:9, 4:6], (4.0, 5.0, 6.0)),  # 12 mm^3
        (np.s_[6:20, 5:21, 10], (1.5, 1.5, 5.0)),  # one slice
        (np.s_[29, 25, 19], (9.0, 9.0, 9.0)),  # in a corner, beyond the last new voxel
    ],
)
def test_an_object_between_the_voxels_is_kept_where_it_lies(own_case, where, spacing):
    points = thin(own_case, where)
    store = cache.VolumeStore(spacing=spacing, intensity="none", cache_dir=None)
    label = to_canonical(read_volume(own_case.label))
    assert not resample(label, spacing, mode="nearest").data.any()  # so it is between them
    mask = store.object_mask(own_case)
    kept = nibabel.affines.apply_affine(mask.box.affine, np.argwhere(mask.box.data[0].numpy()))
    grid = store.image(own_case).grid
    voxels = nibabel.affines.apply_affine(grid.affine, np.argwhere(np.ones(grid.shape)))
    nearest = np.linalg.norm(points[:, None] - voxels, axis=-1).min(axis=1)  # (N,)
    distances = np.linalg.norm(points[:, None] - kept, axis=-1)  # (N, kept)
    assert np.allclose(distances.min(axis=1), nearest)
    assert np.isclose(distances, nearest[:, None]).any(axis=0).all()  # nothing else is kept
    sample = make_dataset([own_case], spacing=spacing, training=True)[SampleKey(0, seed=4)]
    assert sample["label"].any()


def test_an_object_that_resampling_finds_is_left_as_it_is(toy_tree):
    case = toy_tree.case("scattered")
    store = cache.VolumeStore(spacing=(4.0, 4.0, 4.0), intensity="none", cache_dir=None)
    label = resample(to_canonical(read_volume(case.label)), (4.0, 4.0, 4.0), mode="nearest")
    assert sum(store.object_mask(case).counts) == label.data.sum()


def test_every_voxel_of_an_object_is_equally_likely(toy_tree):
    store = cache.VolumeStore(spacing=(4.0, 4.0, 4.0), intensity="none", cache_dir=None)
    mask = store.object_mask(toy_tree.case("scattered"))
    torch.manual_seed(0)
    total = sum(mask.counts)
    draws = torch.tensor([mask.draw_voxel() for _ in range(400 * total)])
    voxels, counts = draws.unique(dim=0, return_counts=True)
    assert torch.equal(voxels, mask.box.data[0].nonzero())
    assert (counts / 400 - 1).abs().max() < 0.25  # five standard deviations


def test_a_crop_with_too_little_foreground_is_drawn_again_around_the_object(toy_tree):
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


def test_an_object_smaller_than_the_minimum_is_not_tied_to_its_centre(toy_tree):
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


def test_the_last_resort_is_the_crop_around_the_centre(toy_tree):
    """A part of the object can be asked for that no crop of this size holds."""
    case = toy_tree.case("pair")
    options = {"spacing": None, "min_foreground": 10**6, "transform": "sam_med3d"}
    expected = make_dataset([case], **options)[0]
    sample = make_dataset([case], training=True, **options)[SampleKey(0, 3)]
    assert torch.equal(sample["affine"], expected["affine"])
    assert sample["index"] == 0


def test_sam_med3d_crops_lie_around_the_middle_of_the_bounding_box(toy_tree):
    dataset = make_dataset([toy_tree.case("organ")], training=True, spacing=None)
    affines = [dataset[SampleKey(0, seed)]["affine"] for seed in range(5)]
    assert all(torch.equal(affine, affines[0]) for affine in affines)
    raw = nibabel.load(toy_tree.case("organ").label)
    low, high = (edge(np.argwhere(raw.dataobj), axis=0) for edge in (np.min, np.max))
    middle = (raw.affine @ [*((low + high) / 2), 1])[:3]
    center = (affines[0].numpy() @ [SIZE // 2, SIZE // 2, SIZE // 2, 1])[:3]
    assert np.abs(center - middle).max() < 2.0  # one voxel


# The cache


@pytest.mark.parametrize("training", [False, True])
def test_the_cache_changes_nothing(toy_tree, tmp_path, training):
    plain = make_dataset(toy_tree.training, transform="neurosam3d", training=training)
    cached = make_dataset(
        toy_tree.training, transform="neurosam3d", training=training, cache_dir=tmp_path
    )
    for index in (0, 3, 1, 0):
        key = SampleKey(index, seed=index + 10)
        assert equal(plain[key], cached[key])
        assert equal(plain[key], cached[key])  # now from the cache


def test_a_cached_crop_reads_no_scan(toy_tree, tmp_path, monkeypatch):
    make_dataset(toy_tree.training, cache_dir=tmp_path)[0]
    again = make_dataset(toy_tree.training, cache_dir=tmp_path)
    monkeypatch.setattr(cache, "read_volume", None)
    assert again[0]["label"].any()


def test_classes_of_one_image_share_its_entry(toy_tree, tmp_path):
    dataset = make_dataset(toy_tree.training, cache_dir=tmp_path)
    for index in range(3):
        dataset[index]
    assert len(list(tmp_path.glob("p1-*.npy"))) == 1 + 3


def test_presets_that_leave_the_scan_alone_share_its_entry(toy_tree, tmp_path):
    def images() -> int:
        return len(list(tmp_path.glob("*.npy")))

    make_dataset(toy_tree.training, cache_dir=tmp_path, intensity="none")[0]
    assert images() == 2
    make_dataset(toy_tree.training, cache_dir=tmp_path, intensity="sam_med3d")[0]
    assert images() == 2
    make_dataset(toy_tree.training, cache_dir=tmp_path, intensity="neurosam3d")[0]
    assert images() == 3
    make_dataset(toy_tree.training, cache_dir=tmp_path, spacing=None)[0]
    assert images() == 5


@pytest.fixture
def own_case(toy_tree, tmp_path) -> Case:
    """A case whose files a test may change."""
    case = toy_tree.case("organ")
    image, label = tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"
    shutil.copy(case.image, image)
    shutil.copy(case.label, label)
    return replace(case, image=image, label=label)


def test_a_changed_file_is_read_anew(own_case, tmp_path):
    before = make_dataset([own_case], cache_dir=tmp_path / "cache")[0]["image"]
    scan = nibabel.load(own_case.image)
    changed = nibabel.Nifti1Image(np.asarray(scan.dataobj) + 7, scan.affine)
    nibabel.save(changed, own_case.image)
    os.utime(own_case.image, ns=(1, 1))
    after = make_dataset([own_case], cache_dir=tmp_path / "cache")[0]["image"]
    assert torch.allclose(after, before + 7, atol=1e-3)


def test_an_unfinished_entry_is_made_again(own_case, tmp_path):
    folder = tmp_path / "cache"
    expected = make_dataset([own_case], cache_dir=folder)[0]
    for about in folder.glob("*.json"):
        about.unlink()
        about.with_suffix(".npy").write_bytes(b"half")
    assert equal(make_dataset([own_case], cache_dir=folder)[0], expected)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("kept", [0, 40, -1])  # bytes: none, half a header, all but the last
@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_damaged_entry_is_made_again_and_said_once(own_case, tmp_path, caplog, suffix, kept):
    expected = make_dataset([own_case], cache_dir=tmp_path)[0]
    files = sorted(tmp_path.glob(f"*.{suffix}"))
    for path in files:
        path.write_bytes(path.read_bytes().rstrip()[:kept])
    assert equal(make_dataset([own_case], cache_dir=tmp_path)[0], expected)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(files) == 2  # image and label
    for path in files:
        line = f"cache entry {path.with_suffix('.npy')} is damaged and made anew: "
        assert sum(message.startswith(line) for message in messages) == 1
    make_dataset([own_case], cache_dir=tmp_path)[0]
    assert len(caplog.records) == 2


@pytest.mark.parametrize("content", ["{}", "[]", '{"affine": [1, 2]}'])
def test_an_entry_of_other_content_is_made_again(own_case, tmp_path, content):
    expected = make_dataset([own_case], cache_dir=tmp_path)[0]
    for about in tmp_path.glob("*.json"):
        about.write_text(content)
    assert equal(make_dataset([own_case], cache_dir=tmp_path)[0], expected)


def test_a_sample_may_be_changed_without_changing_the_next(own_case, tmp_path):
    for folder in (None, tmp_path / "cache"):
        dataset = make_dataset([own_case], cache_dir=folder, spacing=None, img_size=40)
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


def test_a_label_off_its_images_grid_is_refused(own_case):
    label = nibabel.load(own_case.label)
    moved = label.affine.copy()
    moved[0, 3] += 1
    write_label(own_case, np.asarray(label.dataobj), moved)
    with pytest.raises(ValueError, match=r"its image's grid, got .*label.nii.gz: prepare it anew"):
        make_dataset([own_case])[0]


def test_an_empty_label_is_named(own_case):
    write_label(own_case, np.zeros(nibabel.load(own_case.label).shape, np.uint8))
    with pytest.raises(ValueError, match=r"has foreground, .*label.nii.gz has none: prepare it"):
        make_dataset([own_case])[0]


def test_several_channels_are_refused(own_case):
    scan = nibabel.load(own_case.image)
    two = np.stack([np.asarray(scan.dataobj)] * 2, axis=-1)
    nibabel.save(nibabel.Nifti1Image(two, scan.affine), own_case.image)
    with pytest.raises(ValueError, match=r"one channel, got 2 in .*image.nii.gz"):
        make_dataset([own_case])[0]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("part", ["image", "label"])
def test_a_missing_file_is_named(own_case, tmp_path, part, cached):
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
def test_unfit_options_are_refused(toy_tree, options, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(toy_tree.training, **options)
