"""Clicks that are drawn from the truth all at once, before the network has answered.

- `published`: what the 3DSAM-adapter was trained with (arXiv:2306.13465): voxels of the object, and
  others that lie anywhere in the crop, so that some of the latter are on the object, too.
- `corrected`: voxels of the object, and others that are truly background, no voxel twice where
  there are enough.

Shapes: B batch, N clicks, D H W volume.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from neurosam3d.prompts import draw_voxels, to_indices

ClickRecipe = Literal["published", "corrected"]

NOT_A_POINT = -1


def draw_clicks(
    truth: Tensor,
    *,
    recipe: ClickRecipe,
    num_positive: int,
    num_negative: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw clicks on every item of a batch, without waiting for the device.

    Args:
        truth: Boolean reference (B, 1, D, H, W).
        recipe: See this module; each draws uniformly.
        num_positive: Clicks on the object; where there is none, they are no points. With
            `published` and no others, they lie anywhere then.
        num_negative: Further clicks: anywhere (`published`), or on the background (`corrected`).
        generator: Source of randomness, on the truth's device.

    Returns:
        Voxel indices (B, N, 3), float32, in the order (d, h, w), and labels (B, N), int64: 1 on the
        object, 0 beside it, -1 not a point (its indices are 0).

    Raises:
        ValueError: If the recipe is unknown or there is no click.
    """
    require_clicks(recipe, num_positive, num_negative)
    masks = [truth, ~truth]
    if recipe == "published":
        everywhere = torch.ones_like(truth)
        has_object = truth.flatten(1).any(1)[:, None, None, None, None]  # (B, 1, 1, 1, 1)
        masks = [truth if num_negative else torch.where(has_object, truth, everywhere), everywhere]
    voxels, founds = [], []
    for mask, number in zip(masks, (num_positive, num_negative), strict=True):
        draw = draw_voxels if recipe == "published" else draw_distinct_voxels
        voxel, found = draw(mask, number, generator=generator)
        voxels.append(voxel)
        founds.append(found.expand_as(voxel))
    voxel, found = torch.cat(voxels, dim=1), torch.cat(founds, dim=1)  # (B, N)
    labels = truth.flatten(1).gather(1, voxel).long()
    points = to_indices(voxel, truth.shape) * found[..., None]  # (B, N, 3)
    return points, torch.where(found, labels, NOT_A_POINT)


def require_clicks(recipe: str, num_positive: int, num_negative: int) -> None:
    """Check what `draw_clicks` shall draw.

    Raises:
        ValueError: If the recipe is unknown or there is no click.
    """
    if recipe not in get_args(ClickRecipe):
        known = ", ".join(get_args(ClickRecipe))
        raise ValueError(f"unknown click_recipe {recipe!r}; known: {known}")
    if num_positive < 1 or num_negative < 0:
        raise ValueError(
            "num_positive must be at least 1 and num_negative at least 0, "
            f"got {num_positive} and {num_negative}"
        )


def draw_distinct_voxels(
    mask: Tensor, number: int, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw voxels of every mask, none twice; those of a smaller mask come again in turn.

    Args:
        mask: Boolean masks (B, 1, D, H, W), of at least ``number`` voxels each.
        number: Voxels N of each.
        generator: Source of randomness, on the masks' device.

    Returns:
        Flat indices (B, N), and whether there was any voxel to draw (B, 1).
    """
    candidates = mask.flatten(1)  # (B, D*H*W)
    lots = torch.rand(candidates.shape, generator=generator, device=mask.device)
    drawn = torch.where(candidates, lots, -1.0).topk(number).indices  # (B, N)
    count = candidates.sum(1, keepdim=True)  # (B, 1)
    turn = torch.arange(number, device=mask.device) % count.clamp(1, max(number, 1))
    return drawn.gather(1, turn), count > 0
