"""The network of a checkpoint, fed as in its training or as asked."""

from pathlib import Path

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


def test_a_network_without_prompts_is_refused(tmp_path: Path) -> None:
    path = save(baseline_content(build_model("segresnet")), tmp_path / "baseline.pth")
    with pytest.raises(ValueError, match=r"must take prompts as SAM-Med3D does, got segresnet in"):
        load_network(path)


def test_devices_that_are_not_there_are_told() -> None:
    assert find_device("cpu") == torch.device("cpu")
    for name in ("toaster", "cuda:99"):
        with pytest.raises(ValueError, match="--device must be there, for example cpu or cuda:0: "):
            find_device(name)
