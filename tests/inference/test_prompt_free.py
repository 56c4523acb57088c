"""A scan through windows and back without prompts: who sees the truth must return exactly it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.volume import Volume, resample, restore, to_canonical, write_volume
from tests.inference.adapter_oracle import ClassOracle
from tests.inference.oracle import dice, ellipsoid, oblique
from tests.models.adapter3d_small import CROP, crop_of, small_adapter3d

SHAPE = (30, 26, 34)
WINDOW = (16, 12, 20)
AFFINES = {
    "LPS, anisotropic": np.diag([-0.8, -1.2, 3.0, 1.0]),
    "permuted, oblique": oblique((2.0, 0.7, 1.1), axes=(2, 0, 1), signs=(1, -1, -1)),
}


def segmenter_of(network: torch.nn.Module, *classes: str, **options: object) -> PromptFreeSegmenter:
    settings = {"spacing": None, "intensity": "none", **options}
    return PromptFreeSegmenter(network, classes, **settings)  # type: ignore[arg-type]


def two_organs() -> np.ndarray:
    first = ellipsoid(SHAPE, centre=(9, 12, 12), radii=(8, 9, 7))
    return np.where(ellipsoid(SHAPE, centre=(22, 10, 30), radii=(6, 8, 7)), 2, first)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("mirror", [False, True])
def test_an_oracle_returns_the_truth_from_a_file(
    affine: np.ndarray, mirror: bool, tmp_path: Path
) -> None:
    truth = two_organs()
    write_volume(Volume(torch.from_numpy(truth)[None].short(), affine), tmp_path / "scan.nii.gz")
    network = ClassOracle(WINDOW, num_classes=3)
    answer = segmenter_of(network, "liver", "spleen", mirror=mirror).segment(
        tmp_path / "scan.nii.gz"
    )
    assert answer.labels.dtype == np.uint8
    np.testing.assert_array_equal(answer.labels, truth)
    np.testing.assert_array_equal(answer.mask("spleen"), truth == 2)
    assert set(answer.seconds) == {"prepare", "segment", "restore"}
    assert {shape[2:] for shape in network.shapes} == {WINDOW}
    assert answer.num_windows == len(network.shapes) / (8 if mirror else 1)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_resampling_alone_is_lost(affine: np.ndarray) -> None:
    spacing = (1.5, 1.0, 1.3)
    truth = ellipsoid(SHAPE, centre=(13, 11, 33), radii=(9, 8, 14))  # cut by the scan's border
    segmenter = segmenter_of(ClassOracle(WINDOW), "organ", spacing=spacing, weighting="constant")
    labels = segmenter.segment((truth.astype(np.float32), affine)).labels

    scan = Volume(torch.from_numpy(truth)[None].float(), affine)
    seen = resample(to_canonical(scan), spacing)
    bordered = Volume(
        F.pad(seen.data[None], (1,) * 6, mode="replicate")[0],
        seen.grid.window((-1, -1, -1), np.add(seen.shape, 2)).affine,
    )
    bound = restore(bordered, scan.grid).data[0].numpy() > 0.5
    assert (labels != bound).mean() < 2e-4  # values of one half fall to either side
    assert dice(labels, truth) > 0.85
    assert labels[:, :, -1].sum() > 0.8 * truth[:, :, -1].sum()  # nothing is cut at the border


def test_several_classes_are_compared_on_the_grid_of_the_scan() -> None:
    truth = two_organs()
    options = {"spacing": (1.1, 1.0, 1.3)}
    segmenter = segmenter_of(ClassOracle(WINDOW, num_classes=3), "liver", "spleen", **options)
    labels = segmenter.segment((truth.astype(np.float32), np.eye(4))).labels
    for value in (1, 2):
        assert dice((labels == value).astype(int), (truth == value).astype(int)) > 0.85


def test_a_scan_smaller_than_the_window_is_padded_as_its_preset_says() -> None:
    network = ClassOracle((16, 16, 24))
    image = np.full((9, 20, 10), 100.0, dtype=np.float32)
    seen = []
    network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    answer = segmenter_of(network, "organ", intensity="neurosam3d").segment((image, np.eye(4)))
    assert answer.labels.shape == image.shape
    assert {tuple(crop.shape) for crop in seen} == {(1, 1, 16, 16, 24)}
    assert (seen[0] == -1).all()  # the darkest value, as in its training, not a made-up zero


def test_an_adapter_without_prompts_is_one_of_them() -> None:
    model = small_adapter3d(prompt_free=True)
    image = crop_of()
    answer = segmenter_of(model, "tumour").segment((image[0, 0], np.eye(4)))
    with torch.no_grad():
        expected = model(image.transpose(2, 4))[0].argmax(0).transpose(0, 2)  # slices first
    assert 0 < expected.sum() < CROP**3
    np.testing.assert_array_equal(answer.labels, expected)
    assert answer.num_windows == 1


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ((), {}, "classes must be 1 to 255 different names, got "),
        (("a", "a"), {}, "classes must be 1 to 255 different names, got a, a"),
        (("a",), {"overlap": 1.0}, "overlap must be at least 0 and less than 1, got 1.0"),
        (("a",), {"intensity": "x"}, "unknown intensity preset 'x'"),
        (("a",), {"spacing": (1.0, 0.0, 1.0)}, "a spacing is three positive numbers in mm"),
    ],
)
def test_unfit_arguments_are_refused_at_once(
    classes: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segmenter_of(ClassOracle(WINDOW), *classes, **options)


def test_names_must_be_those_of_the_network() -> None:
    segmenter = segmenter_of(ClassOracle(WINDOW, num_classes=3), "liver")
    image = (np.zeros(SHAPE, dtype=np.float32), np.eye(4))
    with pytest.raises(ValueError, match="classes must name all 2 that the network tells apart"):
        segmenter.segment(image)
    answer = segmenter_of(ClassOracle(WINDOW), "liver").segment(image)
    with pytest.raises(ValueError, match="the network knows the classes liver, got spleen"):
        answer.mask("spleen")
    with pytest.raises(ValueError, match="a network without prompts has a crop_size, Conv3d not"):
        segmenter_of(torch.nn.Conv3d(1, 2, 1), "liver")
