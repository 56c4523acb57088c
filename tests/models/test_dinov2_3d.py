"""DINOv2 in 3-D against a plain reading, and against the published program at full size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.models import Sam3D, build_model
from neurosam3d.models.dinov2_3d import DinoV2Encoder3D, DinoV2Trunk
from neurosam3d.models.dinov2_block import Block, SwiGLU
from neurosam3d.models.dinov2_config import DinoV2Config
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights

CONFIG = DinoV2Config(
    dim=24, depth=4, num_heads=3, position_side=2, block_chunks=2, layer_scale=0.5, out_dim=16
)
VARIANTS = {
    "mlp": CONFIG,
    "swiglu": replace(CONFIG, ffn="swiglu"),
    "registers": replace(CONFIG, num_registers=3),
    "flat": replace(CONFIG, block_chunks=0),
    "bare": replace(CONFIG, layer_scale=0.0, qkv_bias=False, proj_bias=False, ffn_bias=False),
}
TINY = {"student": {"arch": "vit_tiny_3d"}, "crops": {"global_crops_size": 48}}


def make_trunk(config: DinoV2Config = CONFIG, **options: float) -> DinoV2Trunk:
    """Build a transformer whose every weight matters: none is zero or tiny."""
    trunk = DinoV2Trunk(config, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return trunk.eval()


def image_of(side: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(batch, 1, side, side, side, generator=generator)


def plain_block(block: nn.Module, x: Tensor, num_heads: int) -> Tensor:
    """Compute a block as the publication states it, one head at a time."""
    part = dict(block.named_parameters())

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        centred = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return centred * part[f"{name}.weight"] + part[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ part[f"{name}.weight"].T + part.get(f"{name}.bias", torch.zeros(()))

    width = x.shape[-1] // num_heads
    q, k, v = linear(norm(x, "norm1"), "attn.qkv").chunk(3, dim=-1)
    heads = []
    for head in range(num_heads):
        own = slice(head * width, (head + 1) * width)
        logits = (q[..., own] * width**-0.5) @ k[..., own].transpose(1, 2)
        heads.append(logits.softmax(-1) @ v[..., own])
    x = x + part.get("ls1.gamma", 1) * linear(torch.cat(heads, -1), "attn.proj")
    hidden = norm(x, "norm2")
    if "mlp.w12.weight" in part:
        gate, value = linear(hidden, "mlp.w12").chunk(2, dim=-1)
        hidden = linear(gate * gate.sigmoid() * value, "mlp.w3")
    else:
        hidden = linear(F.gelu(linear(hidden, "mlp.fc1")), "mlp.fc2")
    return x + part.get("ls2.gamma", 1) * hidden


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformer_equals_plain_reading(variant):
    config = VARIANTS[variant]
    trunk, image = make_trunk(config).double(), image_of(32, batch=2).double()
    patches = trunk.patch_embed.proj(image).flatten(2).transpose(1, 2)  # row-major in d, h, w
    first = trunk.cls_token.expand(2, -1, -1) + trunk.pos_embed[:, :1]
    x = torch.cat([first, patches + trunk.pos_embed[:, 1:]], dim=1)
    if config.num_registers:
        x = torch.cat([x[:, :1], trunk.register_tokens.expand(2, -1, -1), x[:, 1:]], dim=1)
    torch.testing.assert_close(trunk.embed(image), x)
    for block in trunk.iter_blocks():
        x = plain_block(block, x, config.num_heads)
    x = F.layer_norm(x[:, 1 + config.num_registers :], (24,), eps=1e-6)
    expected = x * trunk.norm.weight + trunk.norm.bias
    torch.testing.assert_close(trunk(image).flatten(1, 3), expected)


@pytest.mark.parametrize("side", [1, 2, 4, 5])
def test_positions_are_sampled_a_tenth_of_a_token_too_densely(side):
    trunk = make_trunk(replace(CONFIG, position_side=3))
    d, h, w = np.random.default_rng(0).normal(size=(3, 3))
    table = (d[:, None, None] + 3 * h[:, None] + 9 * w)[..., None] * np.linspace(1, 2, 24)
    with torch.no_grad():
        trunk.pos_embed[0, 1:] = torch.from_numpy(table).flatten(0, 2)
        positions = trunk.positions(side)
    at = (np.arange(side) + 0.5) * 3 / (side + 0.1) - 0.5
    d, h, w = (np.interp(at, np.arange(3), values) for values in (d, h, w))
    expected = (d[:, None, None] + 3 * h[:, None] + 9 * w)[..., None] * np.linspace(1, 2, 24)
    assert positions.shape == (1, 1 + side**3, 24)
    assert torch.equal(positions[:, 0], trunk.pos_embed[:, 0])
    np.testing.assert_allclose(positions[0, 1:], expected.reshape(-1, 24), atol=2e-6, rtol=1e-5)


def test_the_side_that_was_learned_is_not_interpolated():
    trunk = make_trunk()
    assert trunk.positions(2) is trunk.pos_embed


def test_names_of_blocks_are_grouped_under_their_own_number():
    chunked, flat = make_trunk(), make_trunk(VARIANTS["flat"])
    groups = [".".join(name.split(".")[:3]) for name in chunked.state_dict() if "norm1.w" in name]
    assert groups == ["blocks.0.0", "blocks.0.1", "blocks.1.2", "blocks.1.3"]
    assert "blocks.3.ls2.gamma" in flat.state_dict()
    assert len(flat.state_dict()) == len(chunked.state_dict())


@pytest.mark.parametrize(("dim", "hidden"), [(24, 64), (40, 112), (1024, 2736)])
def test_gated_unit_is_two_thirds_as_wide_in_steps_of_eight(dim, hidden):
    with torch.device("meta"):
        layer = SwiGLU(dim, bias=True)
    assert layer.w12.weight.shape == (2 * hidden, dim)
    assert layer.w3.weight.shape == (dim, hidden)


def test_registers_take_no_position():
    trunk = make_trunk(VARIANTS["registers"])
    assert torch.equal(trunk.embed(image_of(32))[:, 1:4], trunk.register_tokens)


def test_initial_weights_are_dinov2s():
    torch.manual_seed(0)
    config = replace(CONFIG, dim=48, num_registers=2, layer_scale=1e-5)
    trunk = DinoV2Trunk(config)
    state = trunk.state_dict()
    for name in ("pos_embed", "blocks.0.0.attn.qkv.weight", "blocks.1.3.mlp.fc2.weight"):
        assert state[name].std() == pytest.approx(0.02, rel=0.1), name
    for name in ("cls_token", "register_tokens"):
        assert 1e-7 < state[name].abs().max() < 1e-5, name
    for name in ("mask_token", "blocks.0.1.attn.proj.bias"):
        assert not state[name].any(), name
    assert state["blocks.0.0.ls1.gamma"].eq(1e-5).all()
    assert state["patch_embed.proj.weight"].abs().max() <= 16**-1.5  # torch's own


def test_drop_path_grows_with_depth_and_acts_in_training_only():
    trunk = make_trunk(drop_path=0.3)
    rates = [block.drop_path.rate for block in trunk.iter_blocks()]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    assert all(block.drop_path.rate == 0 for block in make_trunk().iter_blocks())
    block, x = Block(CONFIG, drop_path=1 - 1e-9), torch.randn(2, 5, 24)
    assert torch.equal(block.train()(x), x)
    assert not torch.allclose(block.eval()(x), x)


def test_checkpointing_runs_blocks_again_and_changes_no_gradient():
    gradients, runs = [], []
    for checkpoint_blocks in (False, True):
        trunk = make_trunk(checkpoint_blocks=checkpoint_blocks)
        calls: list[int] = []
        for block in trunk.iter_blocks():
            block.attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        trunk(image_of(48)).square().sum().backward()
        gradients.append({n: p.grad for n, p in trunk.named_parameters() if p.grad is not None})
        runs.append(len(calls))
    assert runs == [4, 8]
    torch.testing.assert_close(*gradients)


def test_only_the_mask_token_is_never_reached():
    torch.manual_seed(0)
    model = build_model("dinov2", image_size=32, mask_stride=1, model_cfg=TINY)
    frozen = model.freeze_unreachable(
        boxes=False, mask_always_given=True, multimask=False, iou=False
    )
    points, mask = (torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]])), torch.zeros(1, 1, 32, 32, 32)
    model(image_of(32), points=points, masks=mask).mean().backward()
    assert sorted(frozen) == sorted(n for n, p in model.named_parameters() if p.grad is None)
    encoder = [name for name in frozen if name.startswith("image_encoder")]
    assert encoder == ["image_encoder.model.mask_token"]


@pytest.mark.parametrize("image_size", [32, 48, 80])
def test_every_multiple_of_sixteen_can_be_segmented(image_size):
    model = build_model("dinov2", image_size=image_size, model_cfg=TINY)
    assert isinstance(model, Sam3D)
    points = (torch.tensor([[[4, 5, 6]]]), torch.tensor([[1]]))
    with torch.no_grad():
        logits = model(image_of(image_size), points=points)
    assert logits.shape == (1, 1, image_size, image_size, image_size)
    assert model.mask_size == image_size // 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "image_size must be a positive multiple of 16, got 100"),
        ({"image_size": 0}, "image_size must be a positive multiple of 16, got 0"),
        ({"drop_path": 1.0}, r"drop_path must lie in \[0, 1\), got 1.0"),
        ({"mask_stride": 2}, "mask_stride must be 4 or 1, got 2"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("dinov2", **{"image_size": 32, "model_cfg": TINY, **options})


def test_image_of_another_size_is_refused():
    encoder = DinoV2Encoder3D(CONFIG, image_size=32)
    with pytest.raises(ValueError, match=r"image must be \(B, 1, 32, 32, 32\), got \(1, 1, 48"):
        encoder(image_of(48))


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [112, 128])
@torch.no_grad()
def test_outputs_of_the_published_program(image_size):
    golden = Golden("golden_dinov2.npz", f"neuro.dinov2.{image_size}")
    model = seed_weights(build_model("dinov2", image_size=image_size, mask_stride=1))
    encoder, image = model.image_encoder, golden.image()
    golden.check("enc.patch_embed", encoder.model.patch_embed(image).flatten(1, 3))
    tokens = encoder.model.embed(image)
    golden.check("enc.tokens_in", tokens)
    golden.check("enc.block0", next(encoder.model.iter_blocks())(tokens))
    golden.check("enc.x_norm_patchtokens", encoder.model(image).flatten(1, 3))
    embedding = encoder(image)
    golden.check("image_embedding", embedding)
    assert golden.check_answers(model, embedding) == 3
