"""Interactive evaluation: click, predict, score, and click again where it is wrong.

Shapes: B batch, D H W volume, M side of the low-resolution mask.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurosam3d.evaluation.metrics import batch_dice
from neurosam3d.prompts import Prompts, foreground, sample_clicks

Predict = Callable[[Prompts], tuple[Tensor, Tensor]]
"""Answers prompts for a batch of images it already knows.

It is given all clicks so far and, from the second round on, its own low-resolution logits as
`Prompts.mask`. It returns logits (B, 1, D, H, W) on the truth's grid and low-resolution logits
(B, 1, M, M, M).
"""


@dataclass(frozen=True)
class Round:
    """What stood after one more click on every item of the batch.

    Args:
        prompts: All clicks so far.
        prediction: Boolean mask (B, 1, D, H, W).
        dice: Dice (B,) of the prediction.
        seconds: Time the predictor took for the batch.
    """

    prompts: Prompts
    prediction: Tensor
    dice: Tensor
    seconds: float

    @property
    def clicks(self) -> int:
        """Number of clicks every item has had, not-a-points included."""
        return 0 if self.prompts.points is None else self.prompts.points.shape[1]


@torch.no_grad()
def run_clicks(
    predict: Predict,
    truth: Tensor,
    *,
    num_clicks: int,
    method: str = "ritm",
    generator: torch.Generator | None = None,
) -> list[Round]:
    """Simulate a user who corrects a batch of predictions click by click.

    The first click falls on an empty prediction; each later one is drawn from the error that the
    last round left, foreground being logit > 0. Clicks accumulate and the low-resolution logits
    are handed back. An item that is right already gets a not-a-point, so it stays in the batch.

    Args:
        predict: Called once per round.
        truth: Boolean reference (B, 1, D, H, W).
        num_clicks: Number of rounds.
        method: Click rule, a name in `neurosam3d.prompts.CLICK_METHODS`.
        generator: Source of the clicks' randomness.

    Returns:
        One record per round, on the truth's device.

    Raises:
        ValueError: If there is no round to play, the click rule is unknown, or the predictor
            answers on another grid than the truth's.
    """
    if num_clicks < 1:
        raise ValueError(f"num_clicks must be at least 1, got {num_clicks}")
    truth = foreground(truth)
    prompts, prediction = Prompts(), torch.zeros_like(truth)
    rounds = []
    for _ in range(num_clicks):
        click = sample_clicks(truth, prediction, method=method, generator=generator)
        prompts = prompts.add_click(*click)
        start = _now(truth.device)
        logits, low_res_logits = predict(prompts)
        seconds = _now(truth.device) - start
        prediction = foreground(logits)
        clicks = replace(prompts, mask=None)  # a session need not hold the logits of every round
        rounds.append(Round(clicks, prediction, batch_dice(prediction, truth), seconds))
        prompts = replace(prompts, mask=low_res_logits)
    return rounds


def _now(device: torch.device) -> float:
    """Read the clock once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
