"""What a user would point at on slices, drawn from the truth: objects, points on errors, boxes.

Nothing here waits for the device. Points and boxes are (x, y), as networks of slices take them.

Shapes: B slices or objects; S side of a slice in pixels; N points.
"""

import torch
from torch import Tensor

from neurosam3d.prompts import boxes_from_masks, draw_voxels, to_indices


def draw_objects(
    label: Tensor, number: int, *, num_classes: int, generator: torch.Generator
) -> Tensor:
    """Draw objects of every slice, each all that a class has there; one may be drawn again.

    Args:
        label: Classes (B, 1, S, S), 0 for background.
        number: Objects of each slice.
        num_classes: Classes beside the background.
        generator: Source of randomness, on the label's device.

    Returns:
        The objects (B * number, 1, S, S), those of a slice one after the other: pixels have the
        value of the class, all others 0. Of a slice without any class they are empty.
    """
    classes = label.flatten(1).long()  # (B, S*S)
    is_there = torch.zeros(len(label), 1 + num_classes, dtype=torch.bool, device=label.device)
    is_there.scatter_(1, classes, value=True)  # (B, 1 + num_classes)
    drawn, _ = draw_voxels(is_there[:, 1:], number, generator=generator)  # (B, number)
    values = (1 + drawn).flatten()[:, None, None, None]  # (B * number, 1, 1, 1)
    labels = label.repeat_interleave(number, dim=0)
    return labels * (labels == values)


def draw_points(
    truth: Tensor, prediction: Tensor, number: int, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw points where predictions are wrong, each pixel as likely as any other.

    Args:
        truth: Boolean masks (B, 1, S, S).
        prediction: Likewise; empty ones give points on the objects.
        number: Points N of each.
        generator: Source of randomness, on the masks' device.

    Returns:
        Pixel indices (B, N, 2), float32, and labels (B, N), int64: 1 what was missed, 0 what was
        added, -1 where nothing is wrong, which is not a point.
    """
    pixel, found = draw_voxels(truth ^ prediction, number, generator=generator)  # (B, N), (B, 1)
    labels = truth.flatten(1).gather(1, pixel).long()
    indices = to_indices(pixel, truth[:, :, None].shape)  # (B, N, 3)
    points = indices[..., 1:].flip(-1)  # (B, N, 2)
    return points * found[..., None], torch.where(found, labels, -1)


def find_boxes(truth: Tensor) -> Tensor:
    """Return the tight boxes (B, 4) of masks (B, 1, S, S), both corners included; of an empty mask
    the whole slice.
    """
    corners = boxes_from_masks(truth[:, :, None])  # (B, 2, 3)
    return corners[..., 1:].flip(-1).flatten(1)  # (B, 4)


def move_sides(
    boxes: Tensor,
    *,
    inwards: Tensor | float,
    outwards: Tensor | float,
    side: int,
    generator: torch.Generator,
) -> Tensor:
    """Move every side of boxes (B, 4) by its own amount, but not out of the slice.

    Args:
        boxes: Low and high corners.
        inwards: Pixels that a side moves towards the middle at most, a number or (B, 1).
        outwards: Pixels that it moves away from it at most, likewise.
        side: Side S of the slices.
        generator: Source of randomness, on the boxes' device.
    """
    share = torch.rand(boxes.shape, generator=generator, device=boxes.device)  # (B, 4)
    away = share * (inwards + outwards) - inwards
    return (boxes + away * boxes.new_tensor([-1, -1, 1, 1])).clamp(0, side - 1)
