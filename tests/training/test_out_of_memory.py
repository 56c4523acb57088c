"""What a training step needs, and what to lower where a device has less."""

import pytest
import torch
from torch import nn

from neurosam3d.mistakes import describe_mistake
from neurosam3d.models.catalogue import BaselineEntry, catalogue
from neurosam3d.training.out_of_memory import explain, fixed_bytes, sample_bytes

MIB = 2**20


def counted(name: str) -> float:
    """Return the MiB that the catalogue has for a training step."""
    (entry,) = [one for one in catalogue() if one.name == name]
    if isinstance(entry, BaselineEntry):
        return entry.costs.step_mib
    return next(iter(entry.costs.decoders.values())).step_mib


def test_weights_that_learn_take_four_numbers() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2, bias=False))
    network[0].requires_grad_(False)
    assert fixed_bytes(network) == 4 * 20 + 16 * 10


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"model_type": "vit_b_ori", "img_size": 128, "mask_stride": 4}, 1.0),
        ({"model_type": "vit_b_ori", "img_size": 64, "mask_stride": 4}, 1 / 8),
        ({"model_type": "dinov2", "img_size": 224, "mask_stride": 4}, 8.0),
        ({"model_type": "adapter3d_vit_b", "crop_size": (128, 64, 32)}, 1 / 8),
        ({"model_type": "sam_vit_b", "img_size": 512}, 1 / 4),
        ({"model_type": "unetr", "crop_size": (32, 160, 80)}, 1 / 4),
    ],
)
def test_a_sample_is_estimated_by_its_voxels(options: dict[str, object], factor: float) -> None:
    expected = counted(str(options["model_type"])) * factor * MIB
    assert sample_bytes(options) == pytest.approx(expected, abs=1)


def test_the_decoder_that_is_asked_for_counts() -> None:
    options = {"model_type": "vit_b", "img_size": 128}
    fine, coarse = (sample_bytes({**options, "mask_stride": stride}) for stride in (1, 4))
    assert fine is not None
    assert coarse is not None
    assert fine > coarse


def test_the_sentence_has_the_needs_and_what_is_not_in_use() -> None:
    options = {
        "model_type": "unetr",
        "crop_size": (64, 160, 160),
        "checkpoint_blocks": True,
    }
    network = nn.Linear(2**14, 2**14, bias=False, device="meta")
    sentence = explain(network, options, batch_size=1, capacity=8 * 2**30)
    each = f"{counted('unetr') / 1024:.1f}"
    assert sentence == (
        "out of memory: in float32 a training step needs 4.0 GiB for weights, gradients and "
        f"optimizer and about {each} GiB for each sample of the batch, the device has 8.0 GiB; "
        "lower data.crop_size (64 x 160 x 160); or set trainer.precision bf16-mixed"
    )


def test_elsewhere_too_it_is_a_sentence() -> None:
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    assert describe_mistake(on_gpu) == (
        "CUDA out of memory; take a smaller network or image, or a device with more memory"
    )
    with pytest.raises(RuntimeError) as on_cpu:
        torch.empty(10**15)
    assert "take a smaller network" in str(describe_mistake(on_cpu.value))
    assert describe_mistake(RuntimeError("a bug")) is None
