"""The network of a checkpoint, fed as in its training or as asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.commands.network import find_device, load_network
from neurosam3d.models import build_model
from tests.published import (
    baseline_content,
    lightning_content,
    sam_med3d_content,
    save,
    small_network,
)


def test_it_is_fed_as_in_its_training(tmp_path: Path) -> None:
    content = lightning_content(
        small_network(), spacing=[3.0, 2.0, 1.0], intensity="neurosam3d", iou_loss_weight=0.5
    )
    network = load_network(save(content, tmp_path / "last.ckpt"), device="cpu")
    predictor = network.predictor(max_windows=3)
    assert (predictor.spacing, predictor.intensity) == ((3.0, 2.0, 1.0), "neurosam3d")
    assert (predictor.max_windows, tuple(predictor.network.roi_size)) == (3, (32, 32, 32))
    assert (network.name, network.iou_trained) == ("vit_tiny", True)
    assert str(network).endswith("3 x 2 x 1 mm, intensities neurosam3d (as in its training)")
    native = lightning_content(small_network(), spacing=None, intensity="none")
    assert load_network(save(native, tmp_path / "native.ckpt")).spacing is None


@pytest.mark.parametrize(
    ("stride", "spacing", "intensity"),
    [(4, (1.5, 1.5, 1.5), "sam_med3d"), (1, None, "neurosam3d")],
)
def test_a_file_that_does_not_say_is_fed_as_its_family(
    tmp_path: Path, stride: int, spacing: object, intensity: str
) -> None:
    content = sam_med3d_content(small_network(mask_stride=stride))
    network = load_network(save(content, tmp_path / "published.pth"))
    assert (network.spacing, network.intensity) == (spacing, intensity)
    assert not network.iou_trained
    assert "the checkpoint does not say" in str(network)


def test_what_is_asked_comes_first(tmp_path: Path) -> None:
    path = save(lightning_content(small_network(), spacing=[3.0, 2.0, 1.0]), tmp_path / "last.ckpt")
    network = load_network(path, spacing=(1.0, 1.0, 2.0), intensity="none")
    assert (network.spacing, network.intensity) == ((1.0, 1.0, 2.0), "none")
    assert str(network).endswith("1 x 1 x 2 mm, intensities none (asked)")
    assert "the scan's own spacing" in str(load_network(path, spacing="native"))
    with pytest.raises(ValueError, match="unknown intensity preset 'x'"):
        load_network(path, intensity="x").predictor(max_windows=1)


def test_a_larger_window_resizes_the_tables(tmp_path: Path) -> None:
    path = save(lightning_content(small_network()), tmp_path / "last.ckpt")
    network = load_network(path, image_size=48)
    assert tuple(network.predictor(max_windows=1).network.roi_size) == (48, 48, 48)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """Write a network without prompts that says how it was trained."""
    model = build_model("segresnet", num_classes=3, crop_size=(16, 24, 16))
    told = {"model_type": "segresnet", "crop_size": [16, 24, 16], "num_classes": 3}
    fed = {"classes": ["kidney", "tumour"], "spacing": [2.0, 3.0, 2.0], "intensity": "zscore"}
    return save(lightning_content(model, **told, **fed), tmp_path / "baseline.ckpt")


def test_a_network_without_prompts_segments_its_classes(baseline: Path) -> None:
    network = load_network(baseline)
    assert not network.is_promptable
    assert (network.classes, network.crop_size) == (("kidney", "tumour"), [16, 24, 16])
    segmenter = network.segmenter(overlap=0.25, mirror=True)
    assert (segmenter.spacing, segmenter.intensity) == ((2.0, 3.0, 2.0), "zscore")
    assert (segmenter.overlap, segmenter.mirror) == (0.25, True)
    assert (segmenter.crop_size, segmenter.classes) == ((16, 24, 16), ("kidney", "tumour"))
    labels = segmenter.segment((np.ones((9, 8, 7), dtype=np.float32), np.eye(4))).labels
    assert labels.shape == (9, 8, 7)
    with pytest.raises(ValueError, match=r"prompts need a promptable network, got segresnet in .*"):
        network.predictor(max_windows=1)
    with pytest.raises(ValueError, match="which segments kidney, tumour by itself"):
        network.predictor(max_windows=1)


def test_a_promptable_network_does_not_segment_by_itself(tmp_path: Path) -> None:
    network = load_network(save(lightning_content(small_network()), tmp_path / "last.ckpt"))
    assert network.is_promptable
    assert (network.classes, network.crop_size) == ((), 32)
    with pytest.raises(ValueError, match="needs a network that was trained to, got vit_tiny in"):
        network.segmenter(overlap=0.5, mirror=False)


def test_a_published_baseline_must_be_told_how_it_was_fed(tmp_path: Path) -> None:
    path = save(baseline_content(build_model("segresnet", num_classes=4)), tmp_path / "b.pth")
    with pytest.raises(ValueError, match="does not say how segresnet was fed in its training"):
        load_network(path)
    with pytest.raises(ValueError, match=r"give --spacing$"):
        load_network(path, intensity="baseline_kits")
    network = load_network(path, spacing="native", intensity="baseline_kits", image_size=32)
    assert network.classes == ("label_1", "label_2", "label_3")
    assert (network.crop_size, network.spacing) == ([32, 32, 32], None)


@pytest.mark.parametrize("prompt_free", [False, True])
def test_an_adapter_is_what_its_weights_say(tmp_path: Path, prompt_free: bool) -> None:
    model = build_model("adapter3d_vit_tiny", crop_size=32, prompt_free=prompt_free)
    told = {"model_type": "adapter3d_vit_tiny", "crop_size": [32, 32, 32], "classes": ["tumour"]}
    fed = {"spacing": [1.0, 1.0, 1.0], "intensity": "adapter3d_kits"}
    path = save(lightning_content(model, **told, **fed), tmp_path / "a.ckpt")
    network = load_network(path)
    assert network.is_promptable != prompt_free
    assert network.crop_size == 32
    if prompt_free:
        assert network.segmenter(overlap=0.5, mirror=False).classes == ("tumour",)
    else:
        assert network.predictor(max_windows=1).network.roi_size == (32, 32, 32)
    larger = load_network(path, image_size=64)
    assert larger.crop_size == 64


def test_devices_that_are_not_there_are_told() -> None:
    assert find_device("cpu") == torch.device("cpu")
    for name in ("toaster", "cuda:99"):
        with pytest.raises(ValueError, match="--device must be there, for example cpu or cuda:0: "):
            find_device(name)
