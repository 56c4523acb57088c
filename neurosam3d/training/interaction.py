"""A user, simulated: click, look at the new mask, click where it is wrong, again and again.

Shapes: B batch; S image side; M side of the low-resolution mask; C, n channels and side of the
image embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosam3d.models import Sam3D
from neurosam3d.prompts import CLICK_METHODS, Prompts, boxes_from_masks, sample_clicks

FIRST_MASK_ONLY = 2  # two clicks come first; the third to the ninth round may go without a click,
LAST_MASK_ONLY = 8  # as in the published training


@dataclass(frozen=True)
class Answer:
    """What the network answered in one round.

    Args:
        low_res_logits: Mask logits as they were decoded, in float32 or better (B, 1, M, M, M).
        logits: The same, upsampled (B, 1, S, S, S).
        iou: Estimated IoU (B, 1).
        prompts: Everything the network was asked with.
    """

    low_res_logits: Tensor
    logits: Tensor
    iou: Tensor
    prompts: Prompts


@dataclass(frozen=True)
class Interaction:
    """The rules of a simulated session of ``num_clicks`` rounds on one batch.

    Args:
        num_clicks: Rounds, each with a loss of its own.
        click_type: How a click follows from the error; a name in ``CLICK_METHODS``.
        largest_first: Put the first point into the largest component of the object.
        multi_click: Show the network all points so far instead of the newest only.
        bbox_first: Start with a round that has a box and no point; the box then stays.
        box_jitter: Largest shift of a box corner, as a fraction of the box's side.
        cut_gradient: Stop gradients where a mask becomes the next round's prompt.

    Raises:
        ValueError: If a number or a name is not allowed.
    """

    num_clicks: int
    click_type: str = "random"
    largest_first: bool = True
    multi_click: bool = True
    bbox_first: bool = False
    box_jitter: float = 0.0
    cut_gradient: bool = True

    def __post_init__(self) -> None:
        if self.click_type not in CLICK_METHODS:
            known = ", ".join(CLICK_METHODS)
            raise ValueError(f"unknown click_type {self.click_type!r}; known: {known}")
        fewest = 2 if self.bbox_first else 1
        if self.num_clicks < fewest:
            rule = " with bbox_first, which has no point in its first round" * self.bbox_first
            raise ValueError(f"num_clicks must be at least {fewest}{rule}, got {self.num_clicks}")

    @property
    def mask_only_choices(self) -> range:
        """The rounds, from 0, that may go without a new click; none in a session of two."""
        return range(FIRST_MASK_ONLY, min(LAST_MASK_ONLY + 1, self.num_clicks - 1))

    def run(
        self,
        network: Sam3D,
        image_embeddings: Tensor,
        truth: Tensor,
        *,
        largest: Tensor,
        generator: torch.Generator,
        mask_only_round: int | None = None,
    ) -> Iterator[Answer]:
        """Play the session and yield its rounds; nothing waits for the device but ``ritm`` clicks
        on a CPU.

        Args:
            network: Decodes prompts on an image encoded before.
            image_embeddings: (B, C, n, n, n).
            truth: Boolean reference (B, 1, S, S, S).
            largest: Its largest component, of the same shape.
            generator: Source of clicks and box jitter.
            mask_only_round: Round, from 0, in which the network gets its own mask and nothing else.
        """
        low_res = _empty_mask(network, image_embeddings)
        prediction = torch.zeros_like(truth)
        prompts = Prompts()
        if self.bbox_first:
            box = boxes_from_masks(truth, jitter=self.box_jitter, generator=generator)
            prompts = Prompts(box=box)
        for index in range(self.num_clicks):
            if index == mask_only_round:
                asked = Prompts(mask=low_res)
            else:
                if index > 0 or not self.bbox_first:
                    prompts = self._click(prompts, truth, prediction, largest, generator)
                asked = Prompts(prompts.points, prompts.labels, prompts.box, low_res)
            low_res, iou = _decode(network, image_embeddings, asked)
            answer = Answer(low_res, _upsample(network, low_res), iou, asked)
            prediction = answer.logits.detach() > 0
            yield answer
            if self.cut_gradient:
                low_res = low_res.detach()

    def _click(
        self,
        prompts: Prompts,
        truth: Tensor,
        prediction: Tensor,
        largest: Tensor,
        generator: torch.Generator,
    ) -> Prompts:
        """Add the next point, or put it in the place of the last one."""
        is_first = prompts.points is None
        coords, labels = sample_clicks(
            truth,
            prediction,
            method="largest" if is_first and self.largest_first else self.click_type,
            generator=generator,
            largest=largest,
        )
        if self.multi_click:
            return prompts.add_click(coords, labels)
        return Prompts(coords, labels, prompts.box)


def _empty_mask(network: Sam3D, image_embeddings: Tensor) -> Tensor:
    """Return the mask prompt (B, 1, M, M, M) of a session's first round."""
    side = network.mask_size
    return image_embeddings.new_zeros(len(image_embeddings), 1, side, side, side)


def _decode(network: Sam3D, image_embeddings: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Return low-resolution logits (B, 1, M, M, M), at least in float32, and the IoU estimate (B,
    1).
    """
    points = None
    if prompts.points is not None and prompts.labels is not None:
        points = (prompts.points, prompts.labels)
    low_res, iou = network.decode(
        image_embeddings, points=points, boxes=prompts.box, masks=prompts.mask
    )
    return low_res.to(torch.promote_types(low_res.dtype, torch.float32)), iou


def _upsample(network: Sam3D, low_res: Tensor) -> Tensor:
    """Return logits (B, 1, S, S, S) in the precision of those given, whatever autocast says."""
    with torch.autocast(low_res.device.type, enabled=False):
        return network.upsample(low_res)
