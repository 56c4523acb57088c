"""Loss and Dice of the classes, summed up over an epoch and over all processes.

Shapes: B batch; D H W volume.
"""

from collections.abc import Callable, Sequence

import lightning.pytorch as pl
import torch
from torch import Tensor

from neurosam3d.evaluation.metrics import batch_dice


class ScoreSums:
    """Sums from which an epoch's means follow; adding to them never waits for the device.

    Means of Dice are taken over all pairs of an item and a class that it has: a class that is not
    there says nothing.

    Args:
        classes: Names of the classes; the k-th has the value k, from 1, in label maps.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        # Of the loss, then of each class: sums in the first row, what they are sums of below.
        self._totals = torch.zeros(2, 1 + len(self.classes))

    def add(self, loss: Tensor, prediction: Tensor, label: Tensor) -> None:
        """Add a batch.

        Args:
            loss: Its mean loss, a scalar.
            prediction: Label maps (B, 1, D, H, W) that the network made.
            label: Those of the truth.
        """
        num_items = torch.ones_like(loss, dtype=torch.float32) * len(label)
        sums, counts = [loss * num_items], [num_items]
        for value in range(1, 1 + len(self.classes)):
            truth = label == value
            is_there = truth.flatten(1).any(1)  # (B,)
            sums.append((batch_dice(prediction == value, truth) * is_there).sum())
            counts.append(is_there.sum().float())
        totals = torch.stack([torch.stack(sums), torch.stack(counts)])
        self._totals = self._totals.to(totals) + totals

    def close(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means, and begin anew.

        Args:
            reduce: Adds up a tensor over all processes.

        Returns:
            `loss`, `dice` and, of each class that was there, `dice_<class>`; the first two are NaN
            where they are the mean of nothing.
        """
        totals = reduce(self._totals)
        self._totals = torch.zeros_like(self._totals)
        (loss, *sums), (num_items, *counts) = totals.tolist()
        means = {"loss": _mean(loss, num_items), "dice": _mean(sum(sums), sum(counts))}
        by_class = zip(self.classes, sums, counts, strict=True)
        return means | {f"dice_{name}": _mean(s, n) for name, s, n in by_class if n}


def log_means(module: pl.LightningModule, stage: str, sums: ScoreSums) -> None:
    """Log the means of an epoch as `<stage>/<name>`; the sums of all processes begin anew."""

    def reduce(totals: Tensor) -> Tensor:
        return module.trainer.strategy.reduce(totals.to(module.device), reduce_op="sum")

    for name, mean in sums.close(reduce).items():
        # They are those of all processes already.
        module.log(f"{stage}/{name}", mean, prog_bar=stage == "val", sync_dist=True)


def _mean(total: float, count: float) -> float:
    return total / count if count else float("nan")
