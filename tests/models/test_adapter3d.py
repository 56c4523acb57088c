"""3DSAM-adapter as a whole: axes, batches, what learns, and the published program at full size."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.measure import saved_megabytes
from neurosam3d.models import build_model
from neurosam3d.models.adapter3d import Adapter3D
from tests.models.adapter3d_small import CONFIG, CROP, clicks_of, crop_of, small_adapter3d
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights, seeded_array

REFERENCE = Path(__file__).parent.parent / "reference"


def on_meta(name: str, **options: bool) -> Adapter3D:
    with torch.device("meta"):
        model = build_model(name, **options)
    assert isinstance(model, Adapter3D)
    return model


def count(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("prompt_free", [False, True])
def test_names_and_shapes_are_the_published_ones_less_the_masks(prompt_free):
    text = (REFERENCE / "keys_adapter3d_vit_b.json").read_text(encoding="utf-8")
    expected = {
        name: tuple(shape)
        for name, shape in json.loads(text)["state_dict"].items()
        if not name.endswith("attn_mask") and not (prompt_free and name.startswith("prompt"))
    }
    state = on_meta("adapter3d_vit_b", prompt_free=prompt_free).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_numbers_of_parameters_are_the_published_ones():
    model = on_meta("adapter3d_vit_b")
    encoder = list(model.image_encoder.parameters())
    assert count(encoder) == 104_056_588
    assert count([p for p in encoder if p.requires_grad]) == 15_209_984
    prompts = list(model.prompt_encoder.parameters())
    assert count(prompts) == 3_164_160
    assert count([p for p in prompts if not p.requires_grad]) == 263_424
    assert count(list(model.mask_decoder.parameters())) == 7_088_256


@pytest.mark.parametrize(
    ("name", "dim", "depth", "num_heads", "necks_behind"),
    [
        ("adapter3d_vit_b", 768, 12, 12, [2, 5, 8, 11]),
        ("adapter3d_vit_l", 1024, 24, 16, [5, 11, 17, 23]),
        ("adapter3d_vit_h", 1280, 32, 16, [7, 15, 23, 31]),
    ],
)
def test_the_three_sizes_are_those_of_sam(name, dim, depth, num_heads, necks_behind):
    encoder = on_meta(name).image_encoder
    assert encoder.pos_embed.shape == (1, 64, 64, dim)
    assert [block.attn.num_heads for block in encoder.blocks] == [num_heads] * depth
    lengths = [len(block.attn.rel_pos_h) for block in encoder.blocks]
    assert lengths == [127 if index in necks_behind else 27 for index in range(depth)]
    assert list(encoder.side_outputs) == necks_behind
    assert encoder.blocks[0].adapter.linear1.out_features == dim // 2
    assert [neck[0].in_channels for neck in encoder.neck_3d] == [dim] * 4


def test_new_parts_start_as_published():
    model = Adapter3D(CONFIG, crop_size=CROP)
    encoder = model.image_encoder
    assert (encoder.depth_embed == 1).all()
    tables = [encoder.pos_embed, *(block.attn.rel_pos_d for block in encoder.blocks)]
    assert not any(table.any() for table in tables)
    for block in encoder.blocks:
        assert block.attn.lr.item() == 1
        assert not block.attn.lr.requires_grad
        assert block.adapter.linear2.weight.any()
    queries = torch.cat([layer.global_query for layer in model.prompt_encoder.transformer.layers])
    assert queries.std().item() == pytest.approx(0.1, rel=0.2)


@torch.no_grad()
def test_a_batch_gives_what_its_crops_give_alone():
    model, image, points = small_adapter3d(), crop_of(batch=2), clicks_of(batch=2)
    logits = model(image, points)
    assert logits.shape == (2, 2, CROP, CROP, CROP)
    alone = [model(image[i : i + 1], points[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert (alone[0] - alone[1]).abs().max() > 0.1


@torch.no_grad()
def test_axes_stay_those_of_the_image():
    """A change of one voxel is seen in the features, the clicks and the logits at its place."""
    model, image = small_adapter3d(), crop_of()
    changed = image.clone()
    d, h, w = 14, 1, 7
    changed[0, 0, d, h, w] += 20
    before, after = model.encode(image), model.encode(changed)
    difference = (after[0] - before[0]).abs().sum(1)[0]
    assert torch.unravel_index(difference.argmax(), (8, 8, 8)) == (h // 2, w // 2, d // 2)
    torch.manual_seed(0)
    spot = [torch.zeros(1, 16, 8, 8, 8) for _ in range(4)]
    spot[3][0, :, h // 2, w // 2, d // 2] = torch.randn(16)
    nothing = model.decode(spot, image, torch.tensor([[[d, 15, 15]]]))
    for wrong in ([h, d, w], [h, w, d], [w, h, d], [w, d, h], [d, w, h]):
        assert torch.equal(model.decode(spot, image, torch.tensor([[wrong]])), nothing)
    assert not torch.allclose(model.decode(spot, image, torch.tensor([[[d, h, w]]])), nothing)
    for parameter in model.mask_decoder.mlahead.parameters():
        parameter.zero_()  # the image alone
    free = [torch.zeros(1, 16, 8, 8, 8)] * 4
    point = torch.tensor([[[0, 0, 0]]])
    difference = (model.decode(free, changed, point) - model.decode(free, image, point)).abs()
    peak = torch.unravel_index(difference.amax(1)[0].argmax(), (CROP,) * 3)
    assert [int(i) for i in peak] == pytest.approx([d, h, w], abs=2)


def test_what_is_frozen_is_what_never_gets_a_gradient():
    model = small_adapter3d()
    frozen = model.freeze_sam()
    model(crop_of(), clicks_of()).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert [name for name in without if name.startswith("image_encoder.")] == frozen
    assert {name for name in without if "prompt_encoder" in name} == {
        name for name in without if "token_to_image" in name
    }
    assert not any(name.startswith("mask_decoder.") for name in without)
    kinds = {name.rpartition("blocks.")[2].partition(".")[2] for name in frozen if "blocks" in name}
    layers = {
        f"{name}.{kind}"
        for kind in ("weight", "bias")
        for name in ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
    }
    assert kinds == layers | {"attn.rel_pos_h", "attn.rel_pos_w", "attn.lr"}
    assert [name for name in frozen if "blocks" not in name] == [
        "image_encoder.pos_embed",
        "image_encoder.patch_embed.proj.weight",
        "image_encoder.patch_embed.proj.bias",
    ]


def test_sam_learns_too_on_request():
    assert not on_meta("adapter3d_vit_b").image_encoder.pos_embed.requires_grad
    assert on_meta("adapter3d_vit_b", freeze_sam=False).image_encoder.pos_embed.requires_grad
    model = small_adapter3d()
    model(crop_of(), clicks_of()).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == [n for n in without if n.endswith("attn.lr") or "token_to_image" in n]
    assert model.image_encoder.patch_embed.proj.weight.grad.any()


def test_frozen_layers_keep_no_activations():
    """Per block: inputs of qkv, proj, lin1 (one tensor of tokens each) and lin2 (four)."""
    kept = []
    for freeze in (False, True):
        model = small_adapter3d()
        if freeze:
            model.freeze_sam()
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        image, points = crop_of(), clicks_of()
        kept.append(saved_megabytes(lambda m=model, i=image, p=points: m(i, p), weights))
    tokens = 4 * CONFIG.grid_side**3 * CONFIG.dim / 2**20
    assert kept[0] - kept[1] == pytest.approx(7 * CONFIG.depth * tokens, rel=0.01)


def test_checkpointed_blocks_keep_little_more_than_their_inputs():
    image, points = crop_of(), clicks_of()
    kept = []
    for checkpoint_blocks in (False, True):
        model = small_adapter3d(checkpoint_blocks=checkpoint_blocks)
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        kept.append(saved_megabytes(lambda m=model: m(image, points), weights))
    tokens = 4 * CONFIG.grid_side**3 * CONFIG.dim / 2**20
    assert kept[0] - kept[1] > 15 * CONFIG.depth * tokens


@torch.no_grad()
def test_half_precision_is_close():
    model, image, points = small_adapter3d(), crop_of(), clicks_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(image, points)
    full = model(image, points)
    assert (half.float() - full).abs().mean() < 0.1 * full.std()


@torch.no_grad()
def test_without_prompts_the_features_are_decoded_as_they_are():
    model, image = small_adapter3d(prompt_free=True), crop_of()
    assert model.prompt_encoder is None
    logits = model(image)
    last = image.permute(0, 1, 3, 4, 2)
    expected = model.mask_decoder(model.image_encoder(last), last, size=(CROP,) * 3)
    torch.testing.assert_close(logits, expected.permute(0, 1, 4, 2, 3))


def test_points_must_be_there_if_and_only_if_they_are_read():
    features, image = [torch.zeros(1, 16, 8, 8, 8)] * 4, crop_of()
    with pytest.raises(ValueError, match="with prompts needs points, got none"):
        small_adapter3d().decode(features, image)
    with pytest.raises(ValueError, match="takes no points, got 3"):
        small_adapter3d(prompt_free=True).decode(features, image, clicks_of(3))


def test_crops_of_other_sizes():
    assert on_meta("adapter3d_vit_b", crop_size=192).crop_size == 192
    with pytest.raises(ValueError, match="crop_size must be a positive multiple of 64, got 96"):
        on_meta("adapter3d_vit_b", crop_size=96)


@pytest.mark.slow
@torch.no_grad()
def test_outputs_of_the_published_program():
    golden = Golden("golden_adapter3d.npz", "adapter3d.128")
    model = on_meta("adapter3d_vit_b").to_empty(device="cpu")
    for part in (model.image_encoder, model.prompt_encoder, model.mask_decoder):
        seed_weights(part)
        for name, parameter in part.named_parameters():
            if name.endswith("attn.lr"):
                parameter.fill_(1)
            elif name in ("pos_embed", "depth_embed") or name.endswith("global_query"):
                seeded = torch.from_numpy(seeded_array(name, tuple(parameter.shape)))
                parameter.copy_(0.5 * seeded)
    encoder = model.image_encoder
    image = torch.from_numpy(seeded_array("adapter3d/image", (1, 1, 128, 128, 128)))
    golden.check("tokens_in", encoder.embed(image.permute(0, 1, 3, 4, 2)))
    encoder.blocks[0].adapter.register_forward_hook(
        lambda *call: golden.check("block00_adapter", call[2])
    )
    windows: dict[int, list[Tensor]] = {0: [], 2: []}
    for index, parts in windows.items():
        encoder.blocks[index].attn.register_forward_hook(
            lambda *call, parts=parts: parts.append(call[2])
        )
    for index, block in enumerate(encoder.blocks):
        block.register_forward_hook(
            lambda *call, index=index: golden.check(f"block{index:02}", call[2])
        )
    features = model.encode(image)
    for index, parts in windows.items():
        golden.check(f"block{index:02}_attn_windows", torch.cat(parts))
    for index, feature in enumerate(features):
        golden.check(f"feature{index}", feature)
    for clicks in ("one", "edge", "many"):
        points = golden.input(f"clicks/{clicks}")[None]
        prompted = model.prompt_encoder(features[3], points[..., [1, 2, 0]], crop=(128,) * 3)
        golden.check(f"prompted_{clicks}", prompted)
    golden.check("logits_many", model.decode(features, image, points))
    model.prompt_encoder = None
    golden.check("logits_auto", model.decode(features, image))


def test_labels_reach_the_prompt_encoder():
    model = small_adapter3d(labelled_clicks=True).eval()
    image, clicks = crop_of(batch=2), clicks_of(3, batch=2)
    positive = torch.ones(2, 3, dtype=torch.long)
    logits = model(image, clicks)
    torch.testing.assert_close(model(image, clicks, positive), logits)
    mixed = positive.clone()
    mixed[1, 2] = 0
    changed = (model(image, clicks, mixed) - logits).abs().amax((1, 2, 3, 4))
    assert changed[0] < 1e-5
    assert changed[1] > 1e-4
    with pytest.raises(ValueError, match="without labelled_clicks, got"):
        small_adapter3d()(image, clicks, mixed)


def test_labels_need_prompts():
    with pytest.raises(ValueError, match="a network without prompts has no labelled clicks"):
        Adapter3D(CONFIG, crop_size=CROP, prompt_free=True, labelled_clicks=True)
