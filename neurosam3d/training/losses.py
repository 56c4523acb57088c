"""What training minimises.

Shapes: B batch; D H W volume.
"""

from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F


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
