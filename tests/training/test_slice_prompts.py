"""How networks of slices learn from prompts: what they are asked, what learns, what is judged."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurosam3d.models import Sam2D, build_model
from neurosam3d.training.prompt_losses import dice_bce_losses, focal_dice_iou_losses
from neurosam3d.training.slice_prompts import BoxPrompts, IterativePrompts
from neurosam3d.training.slices import SliceModel
from tests.models.sam2d_small import SIDE, small_sam2d, small_samed

CLASSES = ("ball", "rod")
pytestmark = pytest.mark.usefixtures("small_vit_b")


def dice_box(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(num_slices: int = 2) -> dict[str, Tensor]:
    """Slices with a ball and a rod each; the last one, with neither."""
    label = torch.zeros(num_slices, 1, SIDE, SIDE, dtype=torch.uint8)
    for slice_, shift in zip(label[:-1], range(num_slices), strict=False):
        slice_[0, 10 + shift : 30, 20:50] = 1
        slice_[0, 40:60, 5 + shift : 12] = 2
    image = torch.randn(num_slices, 1, SIDE, SIDE, generator=dice_box(1)) + label
    return {"image": image, "label": label}


class Asked:
    """Notes every prompt and answer of a network."""

    def __init__(self, network: Sam2D) -> None:
        self.prompts: list[dict[str, Any]] = []
        self.embeddings: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.answers: list[tuple[Tensor, Tensor]] = []
        network.prompt_encoder.register_forward_hook(self._note_prompt, with_kwargs=True)
        network.mask_decoder.register_forward_hook(self._note_answer, with_kwargs=True)

    def _note_prompt(self, _: nn.Module, args: Any, prompt: dict[str, Any], __: Any) -> None:
        assert not args
        self.prompts.append(prompt)

    def _note_answer(self, _: nn.Module, __: Any, asked: dict[str, Any], answer: Any) -> None:
        self.embeddings.append(asked["image_embeddings"])
        self.tokens.append(asked["sparse_prompt_embeddings"])
        self.answers.append(answer)

    def points(self) -> list[tuple[Tensor, Tensor]]:
        """Return the points beside a box, of every round that had any."""
        return [p["points"] for p in self.prompts if p.get("boxes") is not None and p["points"]]

    def masks(self) -> list[Tensor | None]:
        return [p.get("masks") for p in self.prompts if set(p) == {"masks"}]


def test_medsam_asks_with_loose_boxes_for_one_mask() -> None:
    network = small_sam2d("medsam_vit_b")
    asked = Asked(network)
    given = batch(3)
    recipe = BoxPrompts(CLASSES, box_margin=4)
    answer = recipe.train(network, given, generator=dice_box())
    (prompt,) = asked.prompts
    ((logits, _),) = asked.answers
    assert (prompt["points"], prompt["masks"], logits.shape) == (None, None, (3, 1, 16, 16))
    values = answer.truth.flatten(1).amax(1).tolist()
    assert values[2] == 0
    tight = {1: [20, 10, 49, 29], 2: [5, 40, 11, 59]}
    for item, value in enumerate(values[:2]):
        low = torch.tensor(tight[value]) + torch.tensor(
            [item * (value == 2), item * (value == 1), 0, 0]
        )
        outwards = (prompt["boxes"][item] - low) * torch.tensor([-1, -1, 1, 1])
        assert 0 <= outwards.min() < outwards.max() <= 4
        assert (answer.truth[item] == given["label"][item] * (given["label"][item] == value)).all()
    full = network.upsample(logits)
    losses = dice_bce_losses(full, answer.truth > 0)
    torch.testing.assert_close(answer.loss, losses[:2].mean())  # the empty slice has no object
    painted = (full > 0) * torch.tensor(values)[:, None, None, None]
    assert torch.equal(answer.prediction, painted.to(torch.uint8))


def test_sam_med2d_plays_rounds_with_all_points_so_far() -> None:
    network = small_sam2d("sam_med2d_vit_b", seed=6)  # its answers change
    asked = Asked(network)
    recipe = IterativePrompts(CLASSES, objects_per_slice=3, num_corrections=4, num_points=(2,))
    answer = recipe.validate(network, batch(), generator=dice_box())
    assert len(asked.answers) == 5
    assert [logits.shape for logits, _ in asked.answers] == [(6, 3, 16, 16)] * 5
    rounds = asked.points()
    assert [labels.shape for _, labels in rounds] == [(6, 2), (6, 4), (6, 6), (6, 8)]
    for (before, _), (after, _) in pairwise(rounds):
        assert torch.equal(after[:, : before.shape[1]], before)
    objects = answer.truth[:6] > 0
    predictions = (answer.prediction.view(5, 6, SIDE, SIDE) > 0).long()
    assert all(not torch.equal(predictions[0], later) for later in predictions[1:])
    for index, (points, labels) in enumerate(rounds):
        new, said = points[:3, -2:].long(), labels[:3, -2:]
        for item in range(3):
            wrong = objects[item, 0].long() - predictions[index, item]  # 1 missed, -1 added
            found = wrong[new[item, :, 1], new[item, :, 0]]
            assert torch.equal(found, torch.where(said[item] == 1, 1, -1))
    of_slices = network.image_encoder(batch()["image"].expand(-1, 3, -1, -1))
    torch.testing.assert_close(asked.embeddings[4], of_slices[[0, 0, 0, 1, 1, 1]])
    # Boxes and points take as many tokens: those of the first prompt, then the clicks.
    assert [tokens.shape[1] for tokens in asked.tokens] == [2, 4, 6, 8, 10]


def test_sam_med2d_shows_the_best_of_the_last_masks_as_logits() -> None:
    network = small_sam2d("sam_med2d_vit_b")
    asked = Asked(network)
    recipe = IterativePrompts(CLASSES, objects_per_slice=2, num_corrections=2)
    answer = recipe.validate(network, batch(), generator=dice_box())
    shown = asked.masks()
    assert len(shown) == 3
    assert shown[0] is None
    losses = []
    for index, (logits, iou) in enumerate(asked.answers):
        best = torch.stack([logits[i, iou[i].argmax()] for i in range(4)])[:, None]
        full = network.upsample(best)
        losses.append(focal_dice_iou_losses(full, iou.amax(1, keepdim=True), answer.truth[:4] > 0))
        if index < 2:
            following = shown[index + 1]
            assert following is not None
            assert torch.equal(following, best)
            assert not following.requires_grad
    expected = torch.stack(losses)[:, :2].mean()  # the second slice is empty
    torch.testing.assert_close(answer.loss, expected)


def test_in_training_one_round_and_the_last_see_the_last_answer_alone() -> None:
    network = small_sam2d("sam_med2d_vit_b")
    recipe = IterativePrompts(CLASSES, objects_per_slice=1, num_corrections=5, num_points=(1,))
    silent = set()
    for seed in range(12):
        asked = Asked(network)
        recipe.train(network, batch(), generator=dice_box(seed))
        without = [index for index, tokens in enumerate(asked.tokens) if not tokens.shape[1]]
        assert len(without) == 2
        assert without[1] == 5
        silent.add(without[0])
    assert silent == {2, 3, 4}


def test_half_of_the_objects_begin_with_a_box() -> None:
    network = small_sam2d("sam_med2d_vit_b")
    asked = Asked(network)
    recipe = IterativePrompts(CLASSES, objects_per_slice=40, num_corrections=1)
    recipe.validate(network, batch(), generator=dice_box())
    of_boxes = network.prompt_encoder(boxes=asked.prompts[0]["boxes"])[0]
    same = (asked.tokens[0] == of_boxes).flatten(1).all(1)
    assert 25 < same.sum() < 55
    moved = asked.prompts[0]["boxes"][:40] - torch.tensor([20.0, 10, 49, 29])
    of_balls = asked.prompts[1]["points"][0][:40, 0, 0] > 15  # columns: rods lie before
    assert 4 < moved[of_balls].abs().max() <= 5
    of_points = network.prompt_encoder(points=asked.prompts[1]["points"])[0]
    assert (asked.tokens[0] == of_points).flatten(1).all(1).equal(~same)


@pytest.mark.parametrize("name", ["medsam_vit_b", "sam_med2d_vit_b"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_step_reaches_every_parameter_that_learns(name: str, seed: int) -> None:
    network = small_sam2d(name)
    recipe = BoxPrompts(CLASSES) if name == "medsam_vit_b" else IterativePrompts(CLASSES, 1, 2)
    recipe.prepare(network)
    recipe.train(network, batch(), generator=dice_box(seed)).loss.backward()
    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    assert learning == {n for n, p in network.named_parameters() if p.grad is not None}
    parts = {name.partition(".")[0] for name in learning}
    if name == "medsam_vit_b":
        assert parts == {"image_encoder", "mask_decoder"}
    else:
        assert parts == {"image_encoder", "prompt_encoder", "mask_decoder"}
        assert all("Adapter" in n for n in learning if n.startswith("image_encoder"))
        still = {n for n, _ in network.named_parameters() if n.startswith("prompt")} - learning
        assert not still  # points, boxes and masks are all learned


def test_a_seed_gives_the_same_step_again() -> None:
    network = small_sam2d("sam_med2d_vit_b")
    recipe = IterativePrompts(CLASSES, 2, 2)
    first, again, other = (
        recipe.train(network, batch(), generator=dice_box(seed)).loss.item() for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("name", ["medsam_vit_b", "sam_med2d_vit_b"])
def test_some_steps_make_answers_better(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_model(name, image_size=SIDE)
    recipe = BoxPrompts(CLASSES, 3) if name == "medsam_vit_b" else IterativePrompts(CLASSES, 2, 1)
    recipe.prepare(network)
    optimizer = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), 5e-3)

    def validate() -> float:
        with torch.no_grad():
            return recipe.validate(network, batch(), generator=dice_box(99)).loss.item()

    before = validate()
    for seed in range(25):
        optimizer.zero_grad()
        recipe.train(network, batch(), generator=dice_box(seed)).loss.backward()
        optimizer.step()
    assert validate() < 0.75 * before


@pytest.mark.parametrize(
    ("model_type", "recipe", "feeding", "message"),
    [
        ("sam_vit_b", None, "samed", "recipe medsam needs data.feeding sam, .*, got 'samed'"),
        ("samed_vit_b", None, "medsam", "recipe samed needs data.feeding samed, got 'medsam'"),
        ("sam_vit_b", "samed", "samed", "classes of slices need one of .*, got a Sam2D"),
        ("samed_vit_b", "medsam", "sam", "prompts on slices need one of .*, got a Samed"),
    ],
)
def test_network_recipe_and_feeding_must_fit(
    model_type: str, recipe: Any, feeding: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SliceModel(model_type, SIDE, CLASSES, recipe=recipe, feeding=feeding)


def test_a_network_learns_as_it_was_published_unless_told_otherwise() -> None:
    def recipe_of(model_type: str, recipe: Any = None) -> Any:
        options = {"box_margin": 7.0, "num_corrections": 3, "feeding": "sam"}
        return SliceModel(model_type, SIDE, CLASSES, recipe=recipe, **options).recipe

    assert recipe_of("sam_vit_b") == recipe_of("medsam_vit_b") == BoxPrompts(CLASSES, 7.0)
    iterative = IterativePrompts(CLASSES, num_corrections=3)
    assert recipe_of("sam_med2d_vit_b") == recipe_of("sam_vit_b", "sam_med2d") == iterative


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="box_margin must be at least 0, got -1"):
        BoxPrompts(CLASSES, box_margin=-1)
    with pytest.raises(ValueError, match="num_corrections must be at least 1, got 0"):
        IterativePrompts(CLASSES, num_corrections=0)
    with pytest.raises(ValueError, match=r"num_points lists numbers from 1, got \[0\]"):
        IterativePrompts(CLASSES, num_points=[0])
    with pytest.raises(ValueError, match=r"prompts on slices need one of .*, got a Samed"):
        BoxPrompts(CLASSES).prepare(small_samed())
    scan = {name: value.transpose(0, 1)[None] for name, value in batch(3).items()}
    with pytest.raises(ValueError, match=r"data\.validation slices, got a scan of 3"):
        BoxPrompts(CLASSES).validate(small_sam2d(), scan, generator=dice_box())
