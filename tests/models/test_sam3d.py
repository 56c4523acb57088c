"""Whole networks: names and shapes of published weights, reference outputs, behaviour at small
size.
"""

import json

import pytest
import torch

from neurosam3d.models import build_model, list_models
from tests.reference.golden import REFERENCE, Golden
from tests.reference.seeded import seed_weights

FAMILIES = [
    ("vit_b_ori", 128, 4, "upstream_vit_b_ori"),
    ("vit_b_ori", 128, 1, "vit_b_ori"),
    ("vit_b", 128, 1, "vit_b"),
    ("vit_b", 112, 1, "vit_b_112"),
    ("vit_l", 128, 1, "vit_l"),
    ("vit_h", 128, 1, "vit_h"),
    ("vit_hiera", 128, 1, "vit_hiera"),
    ("dinov2", 112, 1, "dinov2_112"),
    ("dinov2", 128, 1, "dinov2_128"),
]


@pytest.mark.parametrize(("name", "image_size", "mask_stride", "keys"), FAMILIES)
def test_names_and_shapes_of_published_weights(name, image_size, mask_stride, keys):
    with torch.device("meta"):
        model = build_model(name, image_size=image_size, mask_stride=mask_stride)
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    expected = json.loads((REFERENCE / f"keys_{keys}.json").read_text())["state_dict"]
    assert list(shapes.items()) == list(expected.items())


def tiny(**overrides) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("vit_tiny", image_size=32, **overrides)


@pytest.mark.parametrize("mask_stride", [4, 1])
@pytest.mark.parametrize("published_quirks", [True, False])
def test_small_network_trains_and_survives_a_round_trip(mask_stride, published_quirks):
    model = tiny(mask_stride=mask_stride, published_quirks=published_quirks, box_prompts=True)
    image = torch.randn(2, 1, 32, 32, 32)
    points = (torch.randint(0, 32, (2, 3, 3)), torch.tensor([[1, 0, -1], [1, 1, 0]]))
    logits = model(image, points=points)
    assert logits.shape == (2, 1, 32, 32, 32)
    logits.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    twin = tiny(mask_stride=mask_stride, published_quirks=published_quirks, box_prompts=True)
    twin.load_state_dict(model.state_dict())
    model.eval(), twin.eval()
    with torch.no_grad():
        assert torch.equal(model(image, points=points), twin(image, points=points))


def test_each_image_of_a_batch_is_segmented_on_its_own():
    model = tiny(mask_stride=4).eval()
    image = torch.randn(2, 1, 32, 32, 32)
    coords, labels = torch.randint(0, 32, (2, 2, 3)), torch.tensor([[1, 0], [1, 1]])
    with torch.no_grad():
        both = model(image, points=(coords, labels))
        second = model(image[1:], points=(coords[1:], labels[1:]))
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)


def test_one_embedding_serves_many_prompts():
    model = tiny(mask_stride=4).eval()
    with torch.no_grad():
        embedding = model.image_encoder(torch.randn(1, 1, 32, 32, 32))
        points = (torch.randint(0, 32, (3, 1, 3)), torch.ones(3, 1))
        logits, iou = model.decode(embedding, points=points, multimask_output=True)
    assert logits.shape == (3, 3, 8, 8, 8)
    assert iou.shape == (3, 3)


def test_single_and_multiple_masks_come_from_different_tokens():
    model = tiny(mask_stride=4).eval()
    with torch.no_grad():
        embedding = model.image_encoder(torch.randn(1, 1, 32, 32, 32))
        points = (torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]]))
        single, _ = model.decode(embedding, points=points)
        several, _ = model.decode(embedding, points=points, multimask_output=True)
    assert all(not torch.allclose(single[:, 0], several[:, index]) for index in range(3))


def test_checkpointed_upscaling_changes_no_gradient():
    grads = []
    for checkpoint_upscaling in (False, True):
        model = tiny(mask_stride=1, checkpoint_upscaling=checkpoint_upscaling).eval()
        torch.manual_seed(3)
        points = (torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]]))
        model(torch.randn(1, 1, 32, 32, 32), points=points).square().mean().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_frozen_parameters_are_those_never_reached():
    model = tiny(mask_stride=1)
    frozen = model.freeze_unreachable(
        boxes=False, mask_always_given=True, multimask=False, iou=False
    )
    points = (torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]]))
    model(
        torch.randn(1, 1, 32, 32, 32), points=points, masks=torch.zeros(1, 1, 32, 32, 32)
    ).mean().backward()
    without_grad = [name for name, p in model.named_parameters() if p.grad is None]
    assert sorted(frozen) == sorted(without_grad)
    assert frozen


def test_unknown_model_lists_the_known():
    with pytest.raises(ValueError, match="unknown model 'vit_x'; known: vit_tiny, vit_b_ori"):
        build_model("vit_x")


def test_unknown_override_lists_the_known():
    with pytest.raises(
        ValueError, match=r"unknown override 'depth' .* known: image_size, mask_str"
    ):
        build_model("vit_tiny", depth=3)


@pytest.mark.parametrize("mask_stride", [2, 0])
def test_mask_stride_is_checked(mask_stride):
    with pytest.raises(ValueError, match=f"mask_stride must be 4 or 1, got {mask_stride}"):
        build_model("vit_tiny", image_size=32, mask_stride=mask_stride)


def test_list_models_names_what_can_be_built():
    with torch.device("meta"):
        for name in list_models():
            assert isinstance(build_model(name), torch.nn.Module)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name", "image_size", "mask_stride"),
    [
        ("neuro.vit_b.112", "vit_b", 112, 1),
        ("neuro.vit_b_ori.128", "vit_b_ori", 128, 1),
        ("upstream.vit_b_ori.128", "vit_b_ori", 128, 4),
    ],
)
@torch.no_grad()
def test_outputs_of_the_published_programs(case, name, image_size, mask_stride):
    golden = Golden("golden_sam_med3d.npz", case)
    model = seed_weights(build_model(name, image_size=image_size, mask_stride=mask_stride))
    embedding = model.image_encoder(golden.image())
    golden.check("image_embedding", embedding)
    assert golden.check_answers(model, embedding) >= 3
    if golden.holds("loop.final_full_res"):
        coords, labels = golden.input("points"), golden.input("labels")
        logits = torch.zeros_like(golden.mask())
        for click in (1, 2, 3):
            points = (coords[:, :click], labels[:, :click])
            logits, _ = model.decode(embedding, points=points, masks=logits)
            golden.check(f"loop.click{click}.low_res_masks", logits)
        golden.check("loop.final_full_res", model.upsample(logits))
