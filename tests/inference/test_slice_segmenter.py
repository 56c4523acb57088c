"""A scan slice by slice and back: who sees the truth must return exactly it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from neurosam3d.inference.slice_segmenter import SliceSegmenter
from neurosam3d.slices import AXES, Axis
from neurosam3d.volume import Volume, to_canonical, write_volume
from tests.inference.adapter_oracle import SliceClassOracle
from tests.inference.oracle import dice, ellipsoid, oblique
from tests.models.sam2d_small import small_samed
from tests.models.test_samed import seeded_samed
from tests.reference.seeded import seeded_array

REFERENCE = Path(__file__).parent.parent / "reference"
SHAPE = (13, 17, 9)
SIDE = 49  # 48 pixels from corner to corner: old pixels stay pixels along all three axes
AFFINES = {
    "LPS, anisotropic": np.diag([-0.8, -1.2, 3.0, 1.0]),
    "permuted, oblique": oblique((2.0, 0.7, 1.1), axes=(2, 0, 1), signs=(1, -1, -1)),
}


def segmenter_of(network: torch.nn.Module, *classes: str, **options: object) -> SliceSegmenter:
    settings = {"spacing": None, "intensity": "none", **options}
    return SliceSegmenter(network, classes, **settings)  # type: ignore[arg-type]


def two_organs() -> np.ndarray:
    first = ellipsoid(SHAPE, centre=(4, 6, 3), radii=(4, 5, 3))
    return np.where(ellipsoid(SHAPE, centre=(9, 10, 6), radii=(3, 6, 3)), 2, first)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("smooth", [False, True])
def test_an_oracle_returns_the_truth_from_a_file(
    affine: np.ndarray, axis: Axis, smooth: bool, tmp_path: Path
) -> None:
    truth, network = two_organs(), SliceClassOracle(SIDE, num_classes=3)
    scan = Volume(torch.from_numpy(truth)[None].short(), affine)
    write_volume(scan, tmp_path / "scan.nii.gz")
    options = {"axis": axis, "smooth": smooth, "batch_size": 4}
    answer = segmenter_of(network, "liver", "spleen", **options).segment(tmp_path / "scan.nii.gz")
    assert answer.labels.dtype == np.uint8
    np.testing.assert_array_equal(answer.labels, truth)
    np.testing.assert_array_equal(answer.mask("spleen"), truth == 2)
    assert set(answer.seconds) == {"prepare", "segment", "restore"}
    sizes = [len(images) for images in network.images]
    along = {"axial": 2, "coronal": 1, "sagittal": 0}[axis]  # of R, A, S
    assert answer.num_windows == sum(sizes) == to_canonical(scan).shape[along]
    assert set(sizes[:-1]) <= {4}


@pytest.mark.parametrize("smooth", [False, True])
def test_another_spacing_loses_little_and_nothing_at_the_border(smooth: bool) -> None:
    truth = ellipsoid((30, 26, 34), centre=(13, 11, 33), radii=(9, 8, 14))
    options = {"spacing": (1.5, 1.0, 1.3), "smooth": smooth}
    segmenter = segmenter_of(SliceClassOracle(SIDE), "organ", **options)
    labels = segmenter.segment((truth.astype(np.float32), AFFINES["permuted, oblique"])).labels
    assert labels.shape == truth.shape
    assert dice(labels, truth) > 0.85
    assert labels[:, :, -1].sum() > 0.8 * truth[:, :, -1].sum()


def test_logits_brought_back_have_better_borders_than_labels() -> None:
    truth = ellipsoid((61, 49, 2), centre=(30, 24, 0), radii=(22, 17, 9))
    image = (truth.astype(np.float32), np.eye(4))
    scores = {}
    for smooth in (False, True):
        labels = segmenter_of(SliceClassOracle(12), "organ", smooth=smooth).segment(image).labels
        scores[smooth] = dice(labels, truth)
    assert 0.9 < scores[False] < scores[True] - 0.01


def test_slices_are_reduced_before_they_are_scaled() -> None:
    image = np.random.default_rng(2).random((11, 14, 3)).astype(np.float32)
    network = SliceClassOracle(20)
    segmenter_of(network, "organ", detail=8).segment((image, np.eye(4)))
    (seen,) = network.images
    assert seen.shape == (3, 3, 20, 20)
    for number in range(3):
        reduced = ndimage.zoom(image[:, :, number].T, (8 / 14, 8 / 11), order=3)  # rows are A
        expected = ndimage.zoom(reduced, 20 / 8, order=3)
        for channel in seen[number]:
            np.testing.assert_allclose(channel, expected, atol=1e-5)


@pytest.mark.usefixtures("small_vit_b")
@torch.no_grad()
def test_samed_is_one_of_them() -> None:
    model = small_samed(seed=8)  # finds all three classes
    side = model.image_size
    image = np.random.default_rng(5).random((side, side, 3)).astype(np.float32)
    labels = segmenter_of(model, "liver", "spleen").segment((image, np.eye(4))).labels
    slices = torch.from_numpy(image).permute(2, 1, 0)[:, None].expand(-1, 3, -1, -1)
    expected = model(slices)["masks"].argmax(1).permute(2, 1, 0)
    assert len(expected.unique()) == 3
    np.testing.assert_array_equal(labels, expected)


def test_the_volume_of_the_published_program() -> None:
    stored = np.load(REFERENCE / "golden_samed_volume.npz")["samed/volume_prediction/full"]
    field = torch.from_numpy(seeded_array("samed/volume", (2, 1, 12, 10)))
    slices = F.interpolate(field, (60, 50), mode="bilinear")[:, 0].sigmoid()  # (S, A, R)
    names = [f"organ {number}" for number in range(8)]
    segmenter = segmenter_of(seeded_samed("samed_vit_b", 224), *names, detail=112, smooth=False)
    labels = segmenter.segment((slices.permute(2, 1, 0).numpy(), np.eye(4))).labels
    assert (labels.transpose(2, 1, 0) == stored).mean() >= 0.999


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ((), {}, "classes must be 1 to 255 different names, got "),
        (("a",), {"intensity": "x"}, "unknown intensity preset 'x'"),
        (("a",), {"spacing": (1.0, 0.0, 1.0)}, "a spacing is three positive numbers in mm"),
        (("a",), {"axis": "oblique"}, "axis must be one of axial, coronal, sagittal, got 'obl"),
        (("a",), {"detail": 0}, "detail must be at least 1, got 0"),
        (("a",), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_unfit_arguments_are_refused_at_once(
    classes: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segmenter_of(SliceClassOracle(SIDE), *classes, **options)


def test_names_must_be_those_of_the_network() -> None:
    image = (np.zeros(SHAPE, dtype=np.float32), np.eye(4))
    with pytest.raises(ValueError, match="classes must name all 2 that the network tells apart"):
        segmenter_of(SliceClassOracle(SIDE, num_classes=3), "liver").segment(image)
    with pytest.raises(ValueError, match="a network of slices has an image_size, Conv3d not"):
        segmenter_of(torch.nn.Conv3d(1, 2, 1), "liver")
