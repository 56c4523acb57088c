"""From the masks of slice networks back to the pixels of the slice, in the three published ways.

They differ in how a slice was brought to the network's side, and must be used as it was.

Shapes: B batch, K masks, S side of the network's image, M side of its low-resolution logits; H W =
sides of the slice.
"""

from torch import Tensor
from torch.nn import functional as F

Sides = tuple[int, int]


def restore_padded(
    low_res_logits: Tensor, *, image_size: int, input_size: Sides, original_size: Sides
) -> Tensor:
    """Undo SAM's way: the longer side scaled to S, the far ends of the other padded.

    Args:
        low_res_logits: (B, K, M, M).
        image_size: Side S.
        input_size: Sides of the scaled slice, without its padding.
        original_size: Sides (H, W).

    Returns:
        Logits (B, K, H, W).
    """
    logits = _resize(low_res_logits, (image_size, image_size))
    return _resize(logits[..., : input_size[0], : input_size[1]], original_size)


def restore_centred(low_res_logits: Tensor, *, image_size: int, original_size: Sides) -> Tensor:
    """Undo SAM-Med2D's way: small slices padded at all ends, others scaled to S along each axis.

    Args:
        low_res_logits: (B, K, M, M).
        image_size: Side S.
        original_size: Sides (H, W).

    Returns:
        Logits (B, K, H, W).
    """
    logits = _resize(low_res_logits, (image_size, image_size))
    height, width = original_size
    if max(original_size) >= image_size:
        return _resize(logits, original_size)
    top, left = (image_size - height) // 2, (image_size - width) // 2
    return logits[..., top : top + height, left : left + width]


def restore_probabilities(low_res_logits: Tensor, *, original_size: Sides) -> Tensor:
    """Undo MedSAM's way: every slice scaled to S along each axis; probabilities, not logits, are
    interpolated.

    Args:
        low_res_logits: (B, K, M, M).
        original_size: Sides (H, W).

    Returns:
        Probabilities (B, K, H, W).
    """
    return _resize(low_res_logits.sigmoid(), original_size)


def _resize(x: Tensor, sides: Sides) -> Tensor:
    return F.interpolate(x, sides, mode="bilinear", align_corners=False)
