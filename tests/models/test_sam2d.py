"""SAM, MedSAM and SAM-Med2D: axes, windows, prompts, what learns, and the published programs."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import saved_megabytes
from neurosam3d.models import Sam2D, build_model
from neurosam3d.models.relative_position import relative_table
from neurosam3d.models.sam2d_adapter import ConvAdapter
from neurosam3d.models.sam2d_decoder import MaskDecoder2D
from neurosam3d.models.sam2d_encoder import RelativeAttention2d
from neurosam3d.models.sam2d_masks import restore_centred, restore_padded, restore_probabilities
from neurosam3d.models.sam2d_prompts import PromptEncoder2D
from tests.models.sam2d_small import (
    SIDE,
    randomise,
    slices_of,
    small_sam2d,
)
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights, seeded_array

REFERENCE = Path(__file__).parent.parent / "reference"
small = pytest.mark.usefixtures("small_vit_b")


def seeded(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(seeded_array(name, shape))


def points_of(*points: tuple[float, float, int]) -> tuple[Tensor, Tensor]:
    """Return coordinates (1, P, 2) and labels (1, P) of points x, y, label."""
    coords = torch.tensor([[point[:2] for point in points]], dtype=torch.float32)
    return coords, torch.tensor([[point[2] for point in points]])


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h", "sam_med2d_vit_b"])
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    text = (REFERENCE / f"keys_{name}.json").read_text(encoding="utf-8")
    expected = {key: tuple(shape) for key, shape in json.loads(text)["state_dict"].items()}
    with torch.device("meta"):
        state = build_model(name).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected


def test_numbers_of_parameters_are_the_published_ones() -> None:
    published = {
        "sam_vit_b": 93_735_472,
        "sam_vit_l": 312_342_832,
        "sam_vit_h": 641_090_608,
        "medsam_vit_b": 93_735_472,
        "sam_med2d_vit_b": 271_241_776,
    }
    for name, number in published.items():
        with torch.device("meta"):
            model = build_model(name)
        assert sum(p.numel() for p in model.parameters()) == number
    learning = [p.numel() for n, p in model.named_parameters() if "Adapter" in n]
    assert sum(learning) == 180_504_576


@pytest.mark.parametrize("grad", [False, True])
def test_attention_is_that_of_the_paper(grad: bool) -> None:
    attention = randomise(RelativeAttention2d(8, 2, window=3))
    x = torch.randn(2, 3, 3, 8, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(grad):
        out = attention(x)
    qkv = attention.qkv(x).view(2, 9, 3, 2, 4).permute(2, 0, 3, 1, 4)
    q, k, v = qkv  # each (B, N, T^2, x)
    grid = q.unflatten(2, (3, 3))
    of_rows = torch.einsum("bnhwx,hkx->bnhwk", grid, relative_table(attention.rel_pos_h, 3, 3))
    of_columns = torch.einsum("bnhwx,wkx->bnhwk", grid, relative_table(attention.rel_pos_w, 3, 3))
    bias = (of_rows[..., :, None] + of_columns[..., None, :]).flatten(4).flatten(2, 3)
    expected = (q @ k.mT / 2 + bias).softmax(-1) @ v
    expected = attention.proj(expected.transpose(1, 2).reshape(2, 3, 3, 8))
    torch.testing.assert_close(out, expected)


@small
@torch.no_grad()
def test_the_adapter_works_beside_the_mlp() -> None:
    block = small_sam2d("sam_med2d_vit_b").image_encoder.blocks[1]  # a global one
    x = torch.randn(1, 4, 4, 24, generator=torch.Generator().manual_seed(1))
    y = x + block.attn(block.norm1(x))
    normed = block.norm2(y)
    torch.testing.assert_close(block(x), y + block.mlp(normed) + block.Adapter(normed))


@small
@torch.no_grad()
def test_padding_of_windows_takes_part_as_zeros_after_the_norm() -> None:
    block = small_sam2d().image_encoder.blocks[0]
    x = torch.randn(1, 4, 4, 24, generator=torch.Generator().manual_seed(1))
    padded = F.pad(block.norm1(x), (0, 0, 0, 2, 0, 2))
    out = torch.zeros_like(padded)
    for top in (0, 3):
        for left in (0, 3):
            window = (slice(None), slice(top, top + 3), slice(left, left + 3))
            out[window] = block.attn(padded[window])
    y = x + out[:, :4, :4]
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)))


@small
@torch.no_grad()
@pytest.mark.parametrize("name", ["sam_vit_b", "sam_med2d_vit_b"])
def test_a_batch_gives_what_its_slices_give_alone(name: str) -> None:
    model, image = small_sam2d(name), slices_of(batch=2)
    coords, labels = points_of((9, 30, 1), (50, 2, 0))
    points = (torch.cat([coords, coords.flip(1)]), torch.cat([labels, labels]))
    logits = model(image, points=points)
    assert logits.shape == (2, 1, SIDE, SIDE)
    alone = [model(image[[i]], points=(points[0][[i]], points[1][[i]])) for i in range(2)]
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert (alone[0] - alone[1]).abs().max() > 0.001


@small
@torch.no_grad()
def test_one_slice_serves_a_batch_of_prompts() -> None:
    model = small_sam2d()
    embedding = model.image_encoder(slices_of())
    boxes = torch.tensor([[3.0, 5, 40, 60], [20, 10, 30, 50]])
    masks = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    logits, iou = model.decode(embedding, boxes=boxes, masks=masks, multimask_output=True)
    assert (logits.shape, iou.shape) == ((2, 3, 16, 16), (2, 3))
    for i in range(2):
        alone = model.decode(embedding, boxes=boxes[[i]], masks=masks[[i]], multimask_output=True)
        torch.testing.assert_close((logits[[i]], iou[[i]]), alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_positions_are_x_then_y() -> None:
    encoder = PromptEncoder2D(16, image_size=SIDE, grid_size=4)
    grid = encoder.get_dense_pe()  # of pixels 7.5, 23.5 ... as each token has 16
    for row, column in ((0, 3), (2, 1)):
        centre = (7.5 + 16 * column, 7.5 + 16 * row)
        encoder.not_a_point_embed.weight.zero_()
        encoder.point_embeddings[1].weight.zero_()
        sparse, _ = encoder(points=points_of((*centre, 1)))
        torch.testing.assert_close(sparse[0, 0], grid[0, :, row, column])
        assert not torch.allclose(sparse[0, 0], grid[0, :, column, row], atol=0.1)


@torch.no_grad()
def test_prompts_become_tokens_of_their_kind() -> None:
    encoder = randomise(PromptEncoder2D(16, image_size=SIDE, grid_size=4))
    kinds = [embedding.weight[0] for embedding in encoder.point_embeddings]
    no_point = encoder.not_a_point_embed.weight[0]
    box = torch.tensor([[3.0, 5, 40, 60]])
    place = partial(encoder.pe_layer)
    points = points_of((9, 30, 1), (50, 2, 0), (7, 7, -1))
    at = [place((torch.tensor(xy) + 0.5) / SIDE) for xy in ((9.0, 30.0), (50.0, 2.0))]
    corners = [place((torch.tensor(xy) + 0.5) / SIDE) for xy in ((3.0, 5.0), (40.0, 60.0))]
    of_points = [at[0] + kinds[1], at[1] + kinds[0], no_point]
    of_box = [corners[0] + kinds[2], corners[1] + kinds[3]]
    expected = {
        "points": [*of_points, no_point],
        "boxes": of_box,
        "both": of_points + of_box,
    }
    sparse = {
        "points": encoder(points=points)[0],
        "boxes": encoder(boxes=box)[0],
        "both": encoder(points=points, boxes=box)[0],
    }
    for name, tokens in expected.items():
        torch.testing.assert_close(sparse[name][0], torch.stack(tokens))
    none, dense = encoder()
    assert none.shape == (1, 0, 16)
    torch.testing.assert_close(dense[0, :, 2, 1], encoder.no_mask_embed.weight[0])
    with pytest.raises(ValueError, match=r"masks must be .* M = 16, got \(1, 1, 8, 8\)"):
        encoder(masks=torch.zeros(1, 1, 8, 8))


@torch.no_grad()
def test_the_adapter_weighs_channels_and_halves_the_grid() -> None:
    adapter = randomise(ConvAdapter(8))
    x = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    down, _, up, _ = adapter.spatial
    squeeze, _, expand, _ = adapter.channel
    gate = expand(squeeze(x.mean((1, 2))).relu()).sigmoid()
    grid = (gate[:, None, None] * x).permute(0, 3, 1, 2)
    assert down(grid).shape == (2, 8, 2, 3)
    y = up(down(grid).relu()).relu().permute(0, 2, 3, 1)
    torch.testing.assert_close(adapter(x), adapter.norm(x + y))


def test_image_sizes_are_checked() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="positive multiple of 16, got 1000"):
            build_model("sam_vit_b", image_size=1000)
        with pytest.raises(ValueError, match="positive multiple of 32, got 240"):
            build_model("sam_med2d_vit_b", image_size=240)
        model = build_model("sam_vit_b", image_size=256)
    with pytest.raises(ValueError, match=r"image must be \(B, 3, 256, 256\), got \(1, 1, 256, 25"):
        model.image_encoder(torch.zeros(1, 1, 256, 256))


def without_gradient(model: nn.Module) -> list[str]:
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@small
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("prompt", ["points", "boxes", "masks"])
@pytest.mark.parametrize("iou", [False, True])
def test_what_is_frozen_is_what_training_never_reaches(
    multimask: bool, prompt: str, iou: bool
) -> None:
    prompts = {
        "points": {"points": points_of((9, 30, 1), (3, 3, 0))},
        "boxes": {"boxes": torch.tensor([[3.0, 5, 40, 60]])},
        "masks": {"masks": torch.zeros(1, 1, 16, 16)},
    }[prompt]
    has = {kind: prompt == kind for kind in ("points", "boxes", "masks")}
    frozen, bare = small_sam2d(), small_sam2d()
    names = frozen.freeze_unreachable(**has, multimask=multimask, iou=iou)
    for model in (frozen, bare):
        logits, quality = model.decode(
            model.image_encoder(slices_of()), **prompts, multimask_output=multimask
        )
        (logits.square().mean() + (quality.square().mean() if iou else 0)).backward()
    assert not without_gradient(frozen)
    assert without_gradient(bare) == names


@small
def test_sam_med2d_trains_its_adapters_alone_unless_asked() -> None:
    for freeze_sam, learns in ((True, False), (False, True)):
        model = small_sam2d("sam_med2d_vit_b", freeze_sam=freeze_sam)
        encoder = dict(model.image_encoder.named_parameters())
        for name, parameter in encoder.items():
            assert parameter.requires_grad == (learns or ".Adapter." in name), name
        assert all(p.requires_grad for p in model.mask_decoder.parameters())


@small
def test_checkpointed_blocks_keep_less_and_give_the_same() -> None:
    kept, logits = [], []
    for recompute in (False, True):
        model = small_sam2d(checkpoint_blocks=recompute)
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        kept.append(saved_megabytes(lambda m=model: m.image_encoder(slices_of()), weights))
        logits.append(model(slices_of()))
    assert kept[1] < 0.5 * kept[0]
    torch.testing.assert_close(logits[0], logits[1])


def test_masks_return_to_the_slice_in_the_way_it_came() -> None:
    logits = torch.full((1, 1, 16, 16), -5.0)
    logits[..., :4, :8] = 5.0
    padded = restore_padded(logits, image_size=64, input_size=(16, 64), original_size=(8, 32))
    assert padded.shape == (1, 1, 8, 32)
    assert (padded[..., :, :15] > 0).all()
    assert (padded[..., :, 17:] < 0).all()
    centred = restore_centred(logits, image_size=64, original_size=(40, 30))
    assert centred.shape == (1, 1, 40, 30)
    # Rows 12 ... 51 and columns 17 ... 46 of 64 are the slice's; 16 rows and 32 columns positive.
    assert [(line > 0).sum() for line in (centred[0, 0, :, 0], centred[0, 0, 0])] == [4, 15]
    scaled = restore_centred(logits, image_size=64, original_size=(40, 64))
    assert [(line > 0).sum() for line in (scaled[0, 0, :, 0], scaled[0, 0, 0])] == [10, 32]
    probabilities = restore_probabilities(logits, original_size=(32, 32))
    edge = probabilities[0, 0, 0, 15]
    assert edge == pytest.approx(0.75 * 0.99331 + 0.25 * 0.00669, abs=1e-4)


def seeded_sam2d(name: str, **options: int) -> Sam2D:
    with torch.device("meta"):
        model = build_model(name, **options)
    assert isinstance(model, Sam2D)
    seed_weights(model.to_empty(device="cpu"))
    return model


@torch.no_grad()
def test_outputs_of_sam_at_256() -> None:
    golden = Golden("golden_sam2d.npz", "sam256")
    model = seeded_sam2d("sam_vit_b", image_size=256)
    embedding = model.image_encoder(seeded("sam/image", 1, 3, 256, 256))
    golden.check("image_embedding", embedding)
    golden.check("dense_pe", model.prompt_encoder.get_dense_pe())
    box = torch.tensor([[30.0, 40, 200, 180]])
    prompts = {
        "point": {"points": points_of((100, 60, 1))},
        "box": {"boxes": box},
        "points_box_mask": {
            "points": points_of((100, 60, 1), (20, 200, 0)),
            "boxes": box,
            "masks": 4 * seeded("sam/mask_prompt", 1, 1, 64, 64),
        },
    }
    for name, prompt in prompts.items():
        sparse, dense = model.prompt_encoder(**prompt)
        golden.check(f"{name}/sparse", sparse)
        golden.check(f"{name}/dense", dense)
        for kind, multimask in (("single", False), ("multi", True)):
            logits, iou = model.decode(embedding, **prompt, multimask_output=multimask)
            golden.check(f"{name}/low_res_{kind}", logits)
            golden.check(f"{name}/iou_{kind}", iou)


@pytest.mark.slow
@torch.no_grad()
def test_outputs_of_sam_med2d() -> None:
    golden = Golden("golden_sam2d.npz", "med2d")
    model = seeded_sam2d("sam_med2d_vit_b")
    tokens = seeded("med2d/adapter_input", 1, 16, 16, 768)
    golden.check("block0_adapter_output", model.image_encoder.blocks[0].Adapter(tokens))
    embedding = model.image_encoder(seeded("med2d/image", 1, 3, 256, 256))
    golden.check("image_embedding", embedding)
    prompts = {
        "box": {"boxes": torch.tensor([[30.0, 40, 200, 180]])},
        "points3": {"points": points_of((100, 60, 1), (20, 200, 0), (5, 5, -1))},
        "point": {"points": points_of((100, 60, 1))},
    }
    for name, prompt in prompts.items():
        logits, iou = model.decode(embedding, **prompt, multimask_output=True)
        golden.check(f"{name}/low_res_all3", logits)
        golden.check(f"{name}/iou_all3", iou)
        best = iou.argmax(1)
        golden.check(f"{name}/low_res_best", logits[:, best])
        golden.check(f"{name}/iou_best", iou[:, best])
        golden.check(f"{name}/masks_best", model.upsample(logits[:, best]))
    chosen = logits[:, best]  # of the single point
    for name, size in (("small_200x180", (200, 180)), ("large_300x180", (300, 180))):
        restored = restore_centred(chosen, image_size=256, original_size=size)
        golden.check(f"postprocess_{name}", restored)
    points = points_of((100, 60, 1), (150, 99, 0))
    logits, iou = model.decode(
        embedding, points=points, masks=chosen.sigmoid(), multimask_output=True
    )
    best = iou.argmax(1)
    golden.check("point_second/iou_best", iou[:, best])
    golden.check("point_second/masks_best", model.upsample(logits[:, best]))


class PromptsAndDecoder(nn.Module):
    """SAM B at 1024 without its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder2D(256, image_size=1024, grid_size=64)
        self.mask_decoder = MaskDecoder2D(256)

    decode = Sam2D.decode


@torch.no_grad()
def test_outputs_of_the_decoder_at_1024() -> None:
    model = seed_weights(PromptsAndDecoder())
    embedding = seeded("sam/embedding64", 1, 256, 64, 64)
    coords = torch.tensor([[[400.0, 240]], [[10, 1000]]])
    points = (coords, torch.tensor([[1], [0]]))
    logits, iou = model.decode(embedding, points=points, multimask_output=True)
    golden = Golden("golden_sam2d.npz", "sam1024")
    golden.check("two_points/low_res", logits)
    golden.check("two_points/iou", iou)
    restored = restore_padded(
        logits, image_size=1024, input_size=(600, 1024), original_size=(150, 256)
    )
    golden.check("two_points/postprocess_600x1024_to_150x256", restored)
    logits, _ = model.decode(embedding, boxes=torch.tensor([[200.0, 300, 700, 650]]))
    mask = restore_probabilities(logits, original_size=(90, 120))[0, 0] > 0.5
    stored = golden.arrays["medsam/box_mask_90x120/full"].astype(bool)
    assert (mask.numpy() == stored).mean() >= 0.999
    assert 0.01 < stored.mean() < 0.99


@pytest.mark.slow
@torch.no_grad()
def test_outputs_of_medsam() -> None:
    model = seeded_sam2d("medsam_vit_b")
    field = F.interpolate(
        seeded("medsam/uint8", 1, 1, 128, 128), (1024, 1024), mode="bilinear", align_corners=False
    )
    grey = np.round(255 * field.sigmoid().numpy())
    grey = torch.from_numpy((grey - grey.min()) / (grey.max() - grey.min()))
    embedding = model.image_encoder(grey.expand(1, 3, -1, -1))
    Golden("golden_sam2d.npz", "medsam").check("image_embedding_1024", embedding)
