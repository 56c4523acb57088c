"""What training minimises.

Shapes: B batch; K classes, the background first; D H W volume, H W slice.
"""

from collections.abc import Sequence

import torch
from monai.losses import DiceCELoss
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

SMOOTHING = 1e-5  # of numerator and denominator of Dice, MONAI's default


class MaskLoss(nn.Module):
    """Dice loss (squared denominator) plus binary cross-entropy, averaged over the batch.

    An empty reference is allowed: the Dice part then asks for an empty prediction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice_ce = DiceCELoss(sigmoid=True, squared_pred=True, reduction="mean")

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compare logits (B, 1, D, H, W) with a binary reference of the same shape, as a scalar.

        The sums run over millions of voxels, which half precision cannot hold, so both are taken
        to float32 first.
        """
        return self.dice_ce(logits.float(), truth.float())


class SegmentationLoss(nn.Module):
    """Dice loss of the classes but the background, plus cross-entropy of all, of a softmax.

    Dice is taken per item and class, with 1e-5 in numerator and denominator. Both weights 0.5 give
    the loss of the 3DSAM-adapter (arXiv:2306.13465), both 1 that of its baselines and of nnU-Net
    (arXiv:1904.08128).

    Args:
        dice_weight: Weight of the Dice loss.
        ce_weight: Weight of the cross-entropy.

    Raises:
        ValueError: If a weight is negative or both are 0.
    """

    def __init__(self, *, dice_weight: float = 1.0, ce_weight: float = 1.0) -> None:
        super().__init__()
        _require_weights(dice_weight, ce_weight)
        self.dice_ce = DiceCELoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            lambda_dice=dice_weight,
            lambda_ce=ce_weight,
        )

    def forward(self, logits: Tensor | Sequence[Tensor], label: Tensor) -> Tensor:
        """Compare logits with a label map, as a scalar.

        Logits of several levels (deep supervision) are each compared with the label map at their
        resolution, as sampled at the centres of their voxels; see `level_weights`.

        Args:
            logits: (B, K, D, H, W), or a list of such from the finest to the coarsest, of which
                only the first has the label's resolution.
            label: Classes (B, 1, D, H, W), 0 for background.
        """
        if isinstance(logits, Tensor):
            return self.dice_ce(logits.float(), label)
        losses = [
            self.dice_ce(level.float(), F.interpolate(label, level.shape[2:], mode="nearest-exact"))
            for level in logits
        ]
        return torch.stack(losses) @ level_weights(len(losses)).to(losses[0])


class SliceLoss(nn.Module):
    """Dice loss of all classes, the background included, plus cross-entropy, of a softmax.

    Dice is taken over all slices of a batch at once, with squares in its denominator and 1e-5 in
    numerator and denominator. The default weights give the loss of SAMed (arXiv:2304.13785).

    Args:
        dice_weight: Weight of the Dice loss.
        ce_weight: Weight of the cross-entropy.

    Raises:
        ValueError: If a weight is negative or both are 0.
    """

    def __init__(self, *, dice_weight: float = 0.8, ce_weight: float = 0.2) -> None:
        super().__init__()
        _require_weights(dice_weight, ce_weight)
        self.dice_weight, self.ce_weight = dice_weight, ce_weight

    def forward(self, logits: Tensor, label: Tensor, *, across_processes: bool = False) -> Tensor:
        """Compare logits (B, K, H, W) with a label map (B, 1, H, W), 0 for background, as a scalar.

        The label may be finer: it is taken at the centres of the logits' pixels then.

        Args:
            logits: See above.
            label: Likewise.
            across_processes: Take Dice over the slices of all processes, all of which are here with
                as many slices: the mean of their gradients is that of one with all slices.
        """
        coarse = F.interpolate(label, logits.shape[2:], mode="nearest-exact")[:, 0].long()
        logits = logits.float()
        truth = F.one_hot(coarse, logits.shape[1]).movedim(-1, 1)  # (B, K, H, W)
        shares = logits.softmax(1)
        overlap = (shares * truth).sum((0, 2, 3))  # (K,)
        total = (shares.square() + truth).sum((0, 2, 3))
        if across_processes and distributed.is_available() and distributed.is_initialized():
            overlap, total = all_reduce(torch.stack([overlap, total]))
        dice = 1 - ((2 * overlap + SMOOTHING) / (total + SMOOTHING)).mean()
        return self.dice_weight * dice + self.ce_weight * F.cross_entropy(logits, coarse)


def _require_weights(dice_weight: float, ce_weight: float) -> None:
    if min(dice_weight, ce_weight) < 0 or max(dice_weight, ce_weight) == 0:
        raise ValueError(
            "dice_weight and ce_weight must be at least 0 and one of them above, "
            f"got {dice_weight} and {ce_weight}"
        )


def level_weights(num_levels: int) -> Tensor:
    """Weigh levels of logits from the finest to the coarsest: 1, 1/2, 1/4 and so on, the coarsest
    of several 0, scaled to a sum of 1, as nnU-Net does (arXiv:1904.08128, supplement).
    """
    weights = 0.5 ** torch.arange(num_levels, dtype=torch.float32)
    if num_levels > 1:
        weights[-1] = 0
    return weights / weights.sum()


def iou_loss(iou_prediction: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """Measure how far the estimated IoU is from the true one: their mean squared difference.

    Args:
        iou_prediction: The network's estimates (B, 1).
        logits: The masks that they judge (B, 1, D, H, W); foreground is logit > 0.
        truth: Binary references (B, 1, D, H, W).
    """
    return F.mse_loss(iou_prediction.float(), true_iou(logits, truth))


def true_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU (B, 1) of the predicted foreground and the reference; 1 if both are empty."""
    prediction, truth = logits.detach() > 0, truth > 0
    intersection = (prediction & truth).sum((2, 3, 4))
    union = (prediction | truth).sum((2, 3, 4))
    return (intersection + (union == 0)) / union.clamp_min(1)
