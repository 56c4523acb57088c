"""Prompt embeddings: positions, kinds, padding and the dense grid, by hand."""

import math

import pytest
import torch

from neurosam3d.models.prompt_encoder3d import PromptEncoder3D


def make_encoder(**overrides) -> PromptEncoder3D:
    torch.manual_seed(0)
    options = {
        "image_size": 32,
        "grid_size": 2,
        "mask_stride": 4,
        "box_prompts": True,
        "published_quirks": True,
    }
    return PromptEncoder3D(384, **(options | overrides))


def encode_by_hand(encoder: PromptEncoder3D, position: list[float]) -> torch.Tensor:
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix
    angle = 2 * math.pi * ((2 * torch.tensor(position) - 1) @ matrix)
    return torch.cat([angle.sin(), angle.cos(), angle.sin()])


def test_point_tokens():
    encoder = make_encoder()
    coords = torch.tensor([[[3, 10, 31], [0, 5, 7]]])
    sparse, _ = encoder(points=(coords, torch.tensor([[1, 0]])))
    assert sparse.shape == (1, 3, 384)  # one not-a-point is appended
    kinds = [embedding.weight[0] for embedding in encoder.point_embeddings]
    first = encode_by_hand(encoder, [3.5 / 32, 10.5 / 32, 31.5 / 32]) + kinds[1]
    second = encode_by_hand(encoder, [0.5 / 32, 5.5 / 32, 7.5 / 32]) + kinds[0]
    torch.testing.assert_close(sparse[0, 0], first, atol=1e-4, rtol=0)
    torch.testing.assert_close(sparse[0, 1], second, atol=1e-4, rtol=0)
    assert torch.equal(sparse[0, 2], encoder.not_a_point_embed.weight[0])


def test_not_a_point_ignores_its_coordinates():
    encoder = make_encoder()
    sparse, _ = encoder(points=(torch.tensor([[[3, 4, 5]]]), torch.tensor([[-1]])))
    assert torch.equal(sparse[0, 0], encoder.not_a_point_embed.weight[0])


def test_box_tokens_follow_points_without_padding():
    encoder = make_encoder()
    box = torch.tensor([[[1, 2, 3], [4, 8, 16]]])
    points = (torch.tensor([[[3, 4, 5]]]), torch.tensor([[1]]))
    sparse, _ = encoder(points=points, boxes=box)
    assert sparse.shape == (1, 3, 384)
    high = encode_by_hand(encoder, [4.5 / 32, 8.5 / 32, 16.5 / 32])
    high = high + encoder.point_embeddings[3].weight[0]
    torch.testing.assert_close(sparse[0, 2], high, atol=1e-4, rtol=0)


@pytest.mark.parametrize("published_quirks", [True, False])
def test_dense_encoding_and_its_published_axis_swap(published_quirks):
    encoder = make_encoder(published_quirks=published_quirks)
    dense = encoder.get_dense_pe()
    assert dense.shape == (1, 384, 2, 2, 2)
    position = [0.75, 0.25, 0.25] if published_quirks else [0.25, 0.75, 0.25]
    torch.testing.assert_close(
        dense[0, :, 0, 1, 0], encode_by_hand(encoder, position), atol=1e-4, rtol=0
    )


def test_no_prompt_at_all():
    encoder = make_encoder()
    sparse, dense = encoder()
    assert sparse.shape == (1, 0, 384)
    assert torch.equal(dense[0, :, 1, 0, 1], encoder.no_mask_embed.weight[0])


def test_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"M = 8, got \(1, 1, 32, 32, 32\)"):
        make_encoder()(masks=torch.zeros(1, 1, 32, 32, 32))


def test_box_without_box_embeddings_is_refused():
    encoder = make_encoder(box_prompts=False)
    with pytest.raises(ValueError, match="box_prompts=True"):
        encoder(boxes=torch.zeros(1, 2, 3))


def test_every_kind_of_point_gets_a_gradient_whatever_the_labels():
    encoder = make_encoder(box_prompts=False)
    sparse, _ = encoder(points=(torch.zeros(1, 1, 3), torch.tensor([[1]])))
    sparse.sum().backward()
    for embedding in [*encoder.point_embeddings, encoder.not_a_point_embed]:
        assert embedding.weight.grad is not None
