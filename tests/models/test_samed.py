"""SAMed: what it adds to SAM, what learns, and the published programs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.checkpoint_sam2d import network_entries, published_content
from neurosam3d.models import Samed, build_model
from neurosam3d.models.lora import lora_state
from tests.models.sam2d_small import (
    SIDE,
    slices_of,
    small_samed,
)
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights, seeded_array

REFERENCE = Path(__file__).parent.parent / "reference"
NAMES = ["samed_vit_b", "samed_s_vit_b"]
small = pytest.mark.usefixtures("small_vit_b")


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_of_its_files_are_the_published_ones(name: str) -> None:
    text = (REFERENCE / f"keys_{name}.json").read_text(encoding="utf-8")
    expected = {key: tuple(shape) for key, shape in json.loads(text)["state_dict"].items()}
    with torch.device("meta"):
        content = published_content(build_model(name).state_dict())
    assert {key: tuple(value.shape) for key, value in content.items()} == expected


def test_numbers_of_parameters_are_the_published_ones() -> None:
    sizes = {}
    for name in (*NAMES, "samed_vit_h"):
        with torch.device("meta"):
            model = build_model(name)
        learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
        sizes[name] = (sum(a.numel() for a in lora_state(model).values()), learning)
    assert sizes["samed_vit_b"] == (147_456, 4_773_760)
    assert sizes["samed_s_vit_b"][0] == 147_456 + 23_552
    assert sizes["samed_vit_h"][0] == 655_360


@small
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_that_learns_gets_a_gradient(name: str) -> None:
    model = small_samed(name)
    model(slices_of())["low_res_logits"].square().mean().backward()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == learning
    of_encoder = {n for n in learning if n.startswith("image_encoder.")}
    assert of_encoder == {n for n in lora_state(model) if n.startswith("image_encoder.")}
    of_transformer = {n for n in learning if n.startswith("mask_decoder.transformer.")}
    assert all(".lora_" in n for n in of_transformer) == (name == "samed_s_vit_b")
    of_prompts = [n for n in learning if n.startswith("prompt_encoder.")]
    assert of_prompts == ["prompt_encoder.no_mask_embed.weight"]
    assert "mask_decoder.mask_tokens.weight" in learning


@small
def test_it_starts_as_sam() -> None:
    torch.manual_seed(0)
    model = build_model("samed_s_vit_b", image_size=SIDE, rank=2)
    for name, factor in lora_state(model).items():
        assert factor.any() == name.endswith("lora_a"), name
        assert 2 in factor.shape


@small
@torch.no_grad()
def test_a_batch_gives_all_classes_of_every_slice() -> None:
    model, image = small_samed(), slices_of(batch=2)
    answers = model(image)
    assert answers["masks"].shape == (2, 3, SIDE, SIDE)
    assert answers["low_res_logits"].shape == (2, 3, SIDE // 4, SIDE // 4)
    assert answers["iou_predictions"].shape == (2, 3)
    for i in range(2):
        for key, value in model(image[[i]]).items():
            torch.testing.assert_close(answers[key][[i]], value, atol=1e-4, rtol=1e-4)
    expected = F.interpolate(answers["low_res_logits"], scale_factor=4, mode="bilinear")
    torch.testing.assert_close(answers["masks"], expected)


@small
def test_half_precision_is_close() -> None:
    model, image = small_samed(), slices_of()
    full = model(image)["masks"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(image)["masks"]
    half.float().square().mean().backward()
    assert (half.float() - full).abs().mean() < 0.1 * full.std()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning)


@small
def test_values_are_checked() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build_model("samed_vit_b", num_classes=0)
    with pytest.raises(ValueError, match="rank of LoRA is at least 1, got 0"):
        build_model("samed_vit_b", rank=0)
    with pytest.raises(ValueError, match=r"unknown override 'decoder' .* known: image_size, num_c"):
        build_model("samed_vit_b", decoder="adapted")


def seeded_samed(name: str, image_size: int) -> Samed:
    """Build a network with the weights that the reference outputs are of."""
    with torch.device("meta"):
        model = build_model(name, image_size=image_size)
    assert isinstance(model, Samed)
    seed_weights(model.to_empty(device="cpu"))
    content: dict[str, Tensor] = {
        key: torch.from_numpy(seeded_array(key, tuple(value.shape)) / np.sqrt(value.shape[1]))
        for key, value in published_content(model.state_dict()).items()
        if "." not in key
    }
    factors = network_entries(content)
    assert factors.keys() == lora_state(model).keys()
    model.load_state_dict(factors, strict=False)
    return model


@pytest.mark.parametrize(
    ("case", "name", "image_size"),
    [
        ("samed", "samed_vit_b", 224),
        ("samed_s", "samed_s_vit_b", 224),
        pytest.param("samed512", "samed_vit_b", 512, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_outputs_of_the_published_program(case: str, name: str, image_size: int) -> None:
    golden = Golden("golden_sam2d.npz", case)
    model = seeded_samed(name, image_size)
    key, batch = ("samed/image512", 1) if image_size == 512 else ("samed/image", 2)
    image = torch.from_numpy(seeded_array(key, (batch, 3, image_size, image_size)))
    embedding = model.encode(image)
    golden.check("image_embedding", embedding)
    for key, value in model.decode(embedding).items():
        golden.check(key, value)
