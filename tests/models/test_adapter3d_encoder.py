"""The encoder of 3DSAM-adapter against the published way to tokens, on interpolated slices."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.models.adapter3d_encoder import Adapter3DEncoder
from tests.models.adapter3d_small import CONFIG, CROP, crop_of, randomise


def small_encoder(crop_size: int = CROP, *, checkpoint_blocks: bool = False) -> Adapter3DEncoder:
    encoder = Adapter3DEncoder(CONFIG, crop_size=crop_size, checkpoint_blocks=checkpoint_blocks)
    return randomise(encoder)


def plain_tokens(encoder: Adapter3DEncoder, image: Tensor) -> Tensor:
    """Interpolate, embed slice by slice, merge 16 slices each: (B, 1, H, W, D) to tokens."""
    side = CONFIG.grid_side
    image = F.interpolate(image, (16 * side,) * 3, mode="trilinear", align_corners=False)
    slices = [encoder.patch_embed.proj(part.expand(-1, 3, -1, -1)) for part in image.unbind(4)]
    x = encoder.slice_embed(torch.stack(slices, dim=4)).movedim(1, 4)  # (B, h, w, d, C)
    for h in range(side):
        for w in range(side):
            table = encoder.pos_embed[0, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
            x[:, h, w] = x[:, h, w] + table.mean((0, 1))
    return x + encoder.depth_embed[0]


@pytest.mark.parametrize("crop_size", [16, 32, 48, 128])
def test_tokens_and_their_gradients_are_those_of_interpolated_slices(crop_size):
    encoder = small_encoder(crop_size).double()
    image = crop_of(crop_size, batch=2).double()
    tokens, gradients = [], []
    for embed in (encoder.embed, lambda x: plain_tokens(encoder, x)):
        encoder.zero_grad()
        tokens.append(embed(image))
        tokens[-1].square().sum().backward()
        grads = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
        gradients.append(grads)
    torch.testing.assert_close(*tokens)
    torch.testing.assert_close(*gradients)
    assert {name.partition(".")[0] for name in gradients[0]} == {
        "pos_embed",
        "depth_embed",
        "patch_embed",
        "slice_embed",
    }


@torch.no_grad()
def test_every_other_block_is_shifted_and_four_have_necks():
    encoder, image = small_encoder(), crop_of()
    shifted: list[bool] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda _, inputs, __: shifted.append(inputs[1] is not None))
    x = encoder.embed(image)
    features = encoder(image)
    assert shifted == [True, False, True, False, True]
    regions = torch.zeros(8, 4**3, dtype=torch.long)
    for index, half in enumerate((0, 1)):  # along the first axis, windows 4 to 7 are the last ones
        regions.view(2, 2, 2, 4, 4, 4)[1, :, :, 2 * half :] += 4 * index
        regions.view(2, 2, 2, 4, 4, 4)[:, 1, :, :, 2 * half :] += 2 * index
        regions.view(2, 2, 2, 4, 4, 4)[:, :, 1, :, :, 2 * half :] += index
    for index, block in enumerate(encoder.blocks):
        x = block(x, regions if index % 2 == 0 else None)
        if index > 0:
            torch.testing.assert_close(
                features[index - 1], encoder.neck_3d[index - 1](x.movedim(4, 1))
            )
    assert [feature.shape for feature in features] == [(1, 16, 8, 8, 8)] * 4


def test_checkpointing_runs_blocks_again_and_changes_no_gradient():
    gradients, runs = [], []
    for checkpoint_blocks in (False, True):
        encoder = small_encoder(checkpoint_blocks=checkpoint_blocks)
        calls: list[int] = []
        for block in encoder.blocks:
            block.attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        torch.stack(encoder(crop_of())).square().sum().backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
        runs.append(len(calls))
    assert runs == [5, 10]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("crop_size", [0, 8, 24])
def test_crop_sizes_that_do_not_fit_the_grid_are_refused(crop_size):
    with pytest.raises(ValueError, match=f"must be a positive multiple of 16, got {crop_size}"):
        Adapter3DEncoder(CONFIG, crop_size=crop_size)


@pytest.mark.parametrize("shape", [(1, 1, 16, 16, 32), (1, 3, 16, 16, 16)])
def test_other_crops_are_refused(shape):
    with pytest.raises(ValueError, match=r"a crop must be \(B, 1, 16, 16, 16\), got \(1, "):
        small_encoder()(torch.zeros(shape))
