"""What training on prompted slices minimises, item by item: no slice's loss depends on what other
slices happen to share its batch or its process.

Shapes: B batch, S side of a slice in pixels.
"""

from monai.losses import DiceLoss, FocalLoss
from torch import Tensor
from torch.nn import functional as F

FOCAL_WEIGHT = 20.0
_EPSILON = 1e-7


def focal_dice_iou_losses(logits: Tensor, iou: Tensor, truth: Tensor) -> Tensor:
    """Judge masks and the network's own opinion of them as SAM-Med2D does (arXiv:2308.16184).

    The published program takes Dice and IoU of a whole batch at once, and holds that one IoU
    against the estimate of each mask. The estimate learns from the mask, not the mask from it.

    Args:
        logits: (B, 1, S, S).
        iou: The network's estimates (B, 1).
        truth: Boolean masks (B, 1, S, S).

    Returns:
        (B,): 20 times the focal loss, the soft Dice loss and the squared error of the estimate.
    """
    logits = logits.float()
    error = (iou.float() - soft_ious(logits.detach(), truth)) ** 2  # (B, 1)
    return FOCAL_WEIGHT * focal_losses(logits, truth) + dice_losses(logits, truth) + error[:, 0]


def dice_bce_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Judge masks as MedSAM does (arXiv:2304.12306): Dice with squares and binary cross-entropy.

    Args:
        logits: (B, 1, S, S).
        truth: Boolean masks (B, 1, S, S).

    Returns:
        (B,): their sum, with equal weights.
    """
    logits, truth = logits.float(), truth.float()
    dice = DiceLoss(sigmoid=True, squared_pred=True, reduction="none")(logits, truth)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return dice.flatten(1).mean(1) + cross_entropy.flatten(1).mean(1)


def focal_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the focal loss (arXiv:1708.02002) of each mask, (B,): its pixels' mean, with gamma 2,
    and a foreground that weighs a third of the background.
    """
    focal = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")
    return focal(logits, truth.float()).flatten(1).mean(1)


def dice_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the soft Dice loss of each mask, (B,), without squares, smoothed by one pixel."""
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")
    return dice(logits, truth.float()).flatten(1).mean(1)


def soft_ious(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU (B, 1) of probabilities and the truth; 1 if both are empty."""
    probability, reference = logits.sigmoid().flatten(2), truth.float().flatten(2)
    shared = (probability * reference).sum(2)
    either = probability.sum(2) + reference.sum(2) - shared
    return (shared + _EPSILON) / (either + _EPSILON)


def mean_of(losses: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of those losses (B,) that count, boolean (B,); of none, 0."""
    return (losses * counts).sum() / counts.sum().clamp(min=1)
