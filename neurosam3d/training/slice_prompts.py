"""How networks of slices learn to answer prompts: as SAM-Med2D did, and as MedSAM did.

Shapes: B slices; O objects, some of each slice; R rounds; S side of a slice, M side of the
low-resolution masks, C and n channels and side of the image embedding, N points.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from neurosam3d.models import SAM2D, Sam2D
from neurosam3d.models.freezing import freeze
from neurosam3d.training.prompt_losses import dice_bce_losses, focal_dice_iou_losses, mean_of
from neurosam3d.training.slice_clicks import draw_objects, draw_points, find_boxes, move_sides
from neurosam3d.training.slice_recipe import SliceAnswer


@dataclass(frozen=True)
class BoxPrompts:
    """MedSAM's way (arXiv:2304.12306): a loose box around an object, and one mask of it.

    Args:
        scored: Names of the classes, of which the k-th has the value k, from 1, in labels.
        box_margin: Pixels of the network's image by which each side of a tight box moves outwards
            at most.

    Raises:
        ValueError: If it is negative.
    """

    scored: tuple[str, ...]
    box_margin: float = 20.0
    takes_prompts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.box_margin < 0:
            raise ValueError(f"box_margin must be at least 0, got {self.box_margin}")

    def prepare(self, model: nn.Module) -> None:
        """Stop the gradients of the prompt encoder, and of what boxes and one mask do not reach."""
        network = require_sam2d(model)
        network.freeze_unreachable(
            points=False, boxes=True, masks=False, multimask=False, iou=False
        )
        freeze(network, ("prompt_encoder.",))

    def train(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Ask for one object of every slice."""
        network, label = require_sam2d(model), batch["label"]
        embeddings = _encode(network, batch["image"])  # (B, C, n, n)
        objects = draw_objects(label, 1, num_classes=len(self.scored), generator=generator)
        truth = objects > 0
        boxes = move_sides(
            find_boxes(truth),
            inwards=0.0,
            outwards=self.box_margin,
            side=network.image_size,
            generator=generator,
        )
        low_res, _ = network.decode(embeddings, boxes=boxes)  # (B, 1, M, M)
        logits = network.upsample(low_res)  # (B, 1, S, S)
        loss = mean_of(dice_bce_losses(logits, truth), truth.flatten(1).any(1))
        return SliceAnswer(loss, _paint(logits, objects), objects)

    def validate(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Do the same; it is the generator that makes the prompts those of every epoch."""
        return self.train(model, batch, generator=generator)


@dataclass(frozen=True)
class IterativePrompts:
    """SAM-Med2D's way (arXiv:2308.16184, section 3.3): a box or a point, then correcting points.

    The network gives three masks, of which the one that it estimates best counts. From the second
    round on it sees its last answer as logits, and all points so far beside the first prompt; in
    one round, and in the last, its last answer alone. All rounds of a batch make one update, where
    the published program makes one after each, of which only the first trains the encoders. It also
    forgets earlier points, and shows the last answer as probabilities, which is mended here.

    Args:
        scored: See `BoxPrompts`.
        objects_per_slice: Objects drawn from every slice.
        num_corrections: Rounds after the first.
        num_points: Points that a round may add; one of these numbers is drawn for it.
        box_jitter: Pixels of the network's image that each side of a tight box moves at most, and
            no more than half its shorter side.

    Raises:
        ValueError: If a number is not allowed.
    """

    scored: tuple[str, ...]
    objects_per_slice: int = 5
    num_corrections: int = 8
    num_points: Sequence[int] = (1, 3, 5, 9)
    box_jitter: float = 5.0
    takes_prompts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("objects_per_slice", "num_corrections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.num_points or min(self.num_points) < 1:
            raise ValueError(f"num_points lists numbers from 1, got {list(self.num_points)}")
        if self.box_jitter < 0:
            raise ValueError(f"box_jitter must be at least 0, got {self.box_jitter}")

    def prepare(self, model: nn.Module) -> None:
        """Stop the gradients of what three masks do not reach."""
        require_sam2d(model).freeze_unreachable(
            points=True, boxes=True, masks=None, multimask=True, iou=True
        )

    def train(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Play all rounds with objects of every slice, and answer with the masks of all rounds."""
        # Numbers that decide what is computed come from the host, which so never waits.
        numbers = np.random.default_rng(generator.initial_seed())
        silent = self._draw_silent(numbers)
        return self._play(model, batch, silent, numbers=numbers, generator=generator)

    def validate(
        self, model: nn.Module, batch: Mapping[str, Any], *, generator: torch.Generator
    ) -> SliceAnswer:
        """Do the same with points in every round, as the network is used."""
        numbers = np.random.default_rng(generator.initial_seed())
        return self._play(model, batch, set(), numbers=numbers, generator=generator)

    def _play(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        silent: Set[int],
        *,
        numbers: np.random.Generator,
        generator: torch.Generator,
    ) -> SliceAnswer:
        """Play all rounds; in the silent ones the network sees its last answer and nothing else."""
        network = require_sam2d(model)
        embeddings = _encode(network, batch["image"])  # (B, C, n, n)
        objects = draw_objects(
            batch["label"],
            self.objects_per_slice,
            num_classes=len(self.scored),
            generator=generator,
        )  # (O, 1, S, S)
        truth = objects > 0
        embeddings = embeddings.repeat_interleave(self.objects_per_slice, dim=0)  # (O, C, n, n)
        opening = _Opening.draw(truth, self.box_jitter, generator=generator)
        clicks, low_res = opening.no_clicks(), None
        losses: list[Tensor] = []
        answers: list[Tensor] = []
        for index in range(1 + self.num_corrections):
            if index and index not in silent:
                number = int(numbers.choice(self.num_points))
                new = draw_points(truth, answers[-1] > 0, number, generator=generator)
                clicks = _join(clicks, new)
            sparse = None if index in silent else opening.embed(network, clicks)
            low_res, iou = _answer_best(network, embeddings, sparse, low_res)
            logits = network.upsample(low_res)  # (O, 1, S, S)
            losses.append(focal_dice_iou_losses(logits, iou, truth))
            answers.append(_paint(logits, objects))
            low_res = low_res.detach()
        loss = mean_of(torch.stack(losses).mean(0), truth.flatten(1).any(1))
        prediction = torch.cat(answers)  # (R * O, 1, S, S)
        return SliceAnswer(loss, prediction, objects.repeat(len(answers), 1, 1, 1))

    def _draw_silent(self, numbers: np.random.Generator) -> set[int]:
        """Draw the rounds without any prompt but the last answer: one in the middle, the last."""
        last = self.num_corrections
        middle = range(2, last)
        return {last, int(numbers.choice(middle))} if middle else {last}


@dataclass(frozen=True)
class _Opening:
    """The first prompts of objects: a box of some, a point on the others.

    Both are embedded for every object and one is taken, so that every parameter is in the graph of
    every step, as distributed training wants it, and no coin needs to be shared. Both take as many
    tokens: a box has two corners, a point is followed by a not-a-point, see `PromptEncoder2D`.

    Args:
        is_box: Boolean (O, 1, 1).
        boxes: (O, 4).
        points: Pixel indices (O, 1, 2).
        labels: (O, 1).
    """

    is_box: Tensor
    boxes: Tensor
    points: Tensor
    labels: Tensor

    @classmethod
    def draw(cls, truth: Tensor, jitter: float, *, generator: torch.Generator) -> "_Opening":
        """Draw them for masks (O, 1, S, S)."""
        tight = find_boxes(truth)
        shorter = (tight[:, 2:] - tight[:, :2]).amin(1, keepdim=True)  # (O, 1)
        reach = (shorter / 2).clamp(max=jitter)
        side = truth.shape[-1]
        boxes = move_sides(tight, inwards=reach, outwards=reach, side=side, generator=generator)
        points, labels = draw_points(truth, torch.zeros_like(truth), 1, generator=generator)
        lots = torch.rand(len(truth), 1, 1, generator=generator, device=truth.device)
        return cls(lots < 0.5, boxes, points, labels)

    def no_clicks(self) -> tuple[Tensor, Tensor]:
        """Return clicks (O, 0, 2) and their labels (O, 0)."""
        return self.points[:, :0], self.labels[:, :0]

    def embed(self, network: Sam2D, clicks: tuple[Tensor, Tensor]) -> Tensor:
        """Return the tokens (O, 2 + N, C) of the first prompts and of N later clicks."""
        encoder = network.prompt_encoder
        later = clicks if clicks[1].shape[1] else None
        of_boxes, _ = encoder(points=later, boxes=self.boxes)
        of_points, _ = encoder(points=_join((self.points, self.labels), clicks))
        return torch.where(self.is_box, of_boxes, of_points)


def require_sam2d(model: nn.Module) -> Sam2D:
    """Return a network that answers prompts on slices as what it is.

    Raises:
        ValueError: If it is another.
    """
    if not isinstance(model, Sam2D):
        raise ValueError(
            f"prompts on slices need one of {', '.join(SAM2D)}, got a {type(model).__name__}"
        )
    return model


def _encode(network: Sam2D, image: Tensor) -> Tensor:
    """Return the embeddings (B, C, n, n) of slices (B, 1 or 3, S, S)."""
    if image.ndim != 4:
        raise ValueError(
            "networks with prompts are validated on slices, data.validation slices, "
            f"got a scan of {image.shape[2]}"
        )
    return network.image_encoder(image.expand(-1, 3, -1, -1))


def _answer_best(
    network: Sam2D, embeddings: Tensor, sparse: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return of three masks the one that the network estimates best, (O, 1, M, M), and how good it
    says that it is, (O, 1).
    """
    none, dense = network.prompt_encoder(masks=mask)
    low_res, iou = network.mask_decoder(
        image_embeddings=embeddings,
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=none if sparse is None else sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )  # (O, 3, M, M), (O, 3)
    best = iou.argmax(1, keepdim=True)  # (O, 1)
    return low_res.take_along_dim(best[..., None, None], dim=1), iou.gather(1, best)


def _join(clicks: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat([clicks[0], new[0]], dim=1), torch.cat([clicks[1], new[1]], dim=1)


def _paint(logits: Tensor, objects: Tensor) -> Tensor:
    """Return label maps (O, 1, S, S) of masks: their foreground has the value of their object."""
    return (logits.detach() > 0) * objects.flatten(1).amax(1)[:, None, None, None]
