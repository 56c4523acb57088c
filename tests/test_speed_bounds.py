"""What makes the networks fast, as counts that no load of a machine can change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.flops import flop_counter
from benchmarks.measure import saved_megabytes, saved_tensors
from benchmarks.networks import ball, seeded_model, training_step
from benchmarks.plain_attention import plain_encoder
from neurosam3d.inference import Predictor
from neurosam3d.models.hiera3d import Hiera3D, Hiera3DConfig
from neurosam3d.models.vit3d import ViT3D, ViT3DConfig
from neurosam3d.training.early_gradient import take_gradient
from neurosam3d.training.losses import MaskLoss
from neurosam3d.volume import Volume

aten = torch.ops.aten
LAYERS, ATTENTION = aten.addmm, aten._scaled_dot_product_flash_attention_for_cpu
NUM_CLICKS = 3


def operations(forward: Callable[[], Any]) -> dict[Any, int]:
    """Count the multiplications of a pass by operator, without gradients."""
    with torch.no_grad(), flop_counter() as counter:
        forward()
    return {operator: n // 2 for operator, n in counter.get_flop_counts()["Global"].items()}


def image_of(side: int) -> Tensor:
    return torch.zeros(1, 1, side, side, side)


def make_vit(window: int) -> ViT3D:
    config = ViT3DConfig(dim=48, depth=3, num_heads=2, global_blocks=(1,), window=window)
    return ViT3D(config, image_size=64, published_quirks=True)


def test_vit_computes_its_real_tokens_and_one_key_for_all_padding() -> None:
    encoder = make_vit(window=9)  # of which 4 x 4 x 4 tokens are real
    counted = operations(lambda: encoder(image_of(64)))
    tokens, dim, keys = 64, 48, (65, 64, 65)
    assert counted[LAYERS] == tokens * (16**3 * dim + 3 * 12 * dim**2)
    assert counted[ATTENTION] == sum(2 * tokens * each * dim for each in keys)
    convolutions = tokens * (dim * 384 + 27 * 384**2)
    assert counted[aten.convolution] == convolutions
    bias = sum(counted.values()) - counted[LAYERS] - counted[ATTENTION] - convolutions
    assert bias < 0.2 * counted[LAYERS]


def test_hiera_computes_its_real_tokens_and_one_key_for_all_padding() -> None:
    config = Hiera3DConfig(
        dim=8, num_heads=1, depths=(1, 2, 1), windows=(8, 4, 6), global_blocks=()
    )
    trunk = Hiera3D(config, image_size=64, published_quirks=True).trunk
    counted = operations(lambda: trunk(image_of(64)))
    blocks = [  # tokens and channels in, then out; keys of a window
        (4096, 8, 4096, 8, 512),
        (4096, 8, 512, 16, 512),
        (512, 16, 512, 16, 64),
        (512, 16, 64, 32, 64),  # its windows are the last stage's
    ]
    layers = attention = 0
    for tokens, dim, out_tokens, out_dim, keys in blocks:
        layers += 3 * tokens * dim * out_dim + 9 * out_tokens * out_dim**2
        layers += tokens * dim * out_dim * (dim != out_dim)
        attention += 2 * out_tokens * keys * out_dim
    assert counted[LAYERS] == layers
    assert counted[ATTENTION] == attention


def test_vit_keeps_a_fraction_of_what_padded_windows_would() -> None:
    encoder, image = make_vit(window=9), image_of(64)
    parameters = {p.untyped_storage()._cdata for p in encoder.parameters()}
    kept = saved_megabytes(lambda: encoder(image), parameters)
    assert kept < 0.2 * saved_megabytes(lambda: plain_encoder(encoder, image), parameters)


def test_a_round_keeps_nothing_at_the_resolution_of_the_image() -> None:
    model, truth = seeded_model("vit_tiny", image_size=96), ball(96)
    embeddings = torch.zeros(1, 384, 6, 6, 6)
    points = (torch.zeros(1, 1, 3), torch.ones(1, 1, dtype=torch.long))

    def round_of(*, early: bool) -> Tensor:
        low_res, _ = model.decode(embeddings, points=points, masks=torch.zeros(1, 1, 24, 24, 24))
        loss = MaskLoss()(model.upsample(low_res), truth)
        return take_gradient(loss, low_res) if early else loss

    parameters = {p.untyped_storage()._cdata for p in model.parameters()}

    def largest(*, early: bool) -> int:
        kept = saved_tensors(lambda: round_of(early=early))
        return max(t.numel() for t in kept if t.untyped_storage()._cdata not in parameters)

    assert largest(early=False) == 96**3
    assert largest(early=True) == 24**3 * 48  # the upscaled embedding


def count_calls(*modules: nn.Module) -> list[int]:
    """Return counts that go up with every call of the modules."""
    counts = [0] * len(modules)

    def count(index: int) -> None:
        counts[index] += 1

    for index, module in enumerate(modules):
        module.register_forward_pre_hook(lambda *_, index=index: count(index))
    return counts


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_step_encodes_once_and_decodes_once_per_click(recompute: bool) -> None:
    model = seeded_model("vit_tiny", image_size=32, recompute=recompute)
    blocks = model.image_encoder.get_submodule("blocks.0")
    counts = count_calls(model.image_encoder, model.mask_decoder, blocks)
    training_step(model, image_of(32), ball(32), num_clicks=NUM_CLICKS)()
    assert counts == [1, NUM_CLICKS, 2 if recompute else 1]


def test_a_session_encodes_once_and_decodes_once_per_click() -> None:
    model = seeded_model("vit_tiny", image_size=32)
    counts = count_calls(model.image_encoder, model.mask_decoder)
    predictor = Predictor(model, spacing=None)
    voxels = torch.zeros(1, 40, 36, 30)
    voxels[:, 10:20, 10:20, 8:20] = 1
    predictor.set_image(Volume(voxels, np.diag([1.5, 2.0, 1.0, 1.0])))
    session = predictor.open_session(grow=False)
    for number in range(NUM_CLICKS):
        session.add_point([15, 15, 10 + number], 1)
    assert counts == [1, NUM_CLICKS]
