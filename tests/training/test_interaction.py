"""Sessions with a network that writes down what it is asked."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from neurosam3d.prompts import Prompts, largest_component
from neurosam3d.training.interaction import Answer, Interaction

SIDE, STRIDE = 8, 4


@dataclass
class Recorder:
    """Stands in for the network; answers its one parameter times the mask prompt, less one."""

    mask_size: int = SIDE // STRIDE
    weight: Tensor = field(default_factory=lambda: torch.tensor(2.0, requires_grad=True))
    asked: list[Prompts] = field(default_factory=list)

    def decode(
        self,
        image_embeddings: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        coords, labels = points if points is not None else (None, None)
        self.asked.append(Prompts(coords, labels, boxes, masks))
        return self.weight * masks - 1, torch.zeros(len(masks), 1)

    def upsample(self, low_res_logits: Tensor) -> Tensor:
        return (
            low_res_logits.repeat_interleave(STRIDE, 2)
            .repeat_interleave(STRIDE, 3)
            .repeat_interleave(STRIDE, 4)
        )


def two_objects() -> Tensor:
    """Return references of a batch of two; the first item's object has a small second part."""
    truth = torch.zeros(2, 1, SIDE, SIDE, SIDE, dtype=torch.bool)
    truth[0, 0, 1:5, 2:6, 3:6] = True
    truth[0, 0, 7, 7, 7] = True
    truth[1, 0, 2:4, 0:3, 5:8] = True
    return truth


def play(
    rules: Interaction, network: Recorder, *, mask_only_round: int | None = None, seed: int = 0
) -> list[Answer]:
    truth = two_objects()
    return list(
        rules.run(
            network,
            torch.zeros(2, 4, 1, 1, 1),
            truth,
            largest=largest_component(truth),
            generator=torch.Generator().manual_seed(seed),
            mask_only_round=mask_only_round,
        )
    )


def test_points_accumulate() -> None:
    network = Recorder()
    play(Interaction(num_clicks=4), network)
    assert [prompts.points.shape for prompts in network.asked] == [(2, n, 3) for n in (1, 2, 3, 4)]
    last = network.asked[-1]
    for n, prompts in enumerate(network.asked, 1):
        assert prompts.points.equal(last.points[:, :n])
        assert prompts.labels.equal(last.labels[:, :n])


def test_newest_point_alone_if_asked() -> None:
    together, alone = Recorder(), Recorder()
    play(Interaction(num_clicks=3), together)
    play(Interaction(num_clicks=3, multi_click=False), alone)
    for n, prompts in enumerate(alone.asked):
        assert prompts.points.equal(together.asked[-1].points[:, n : n + 1])


def test_clicks_fall_on_errors_of_the_latest_mask() -> None:
    # Logits of -1, 0.25, -1.3: nothing, everything (foreground begins above 0), nothing.
    network = Recorder(weight=torch.tensor(-1.25))
    play(Interaction(num_clicks=4), network)
    labels = network.asked[-1].labels
    assert labels.tolist() == [[1, 1, 0, 1]] * 2
    truth = two_objects()
    for item in range(2):
        inside = [
            bool(truth[item, 0][tuple(p)]) for p in network.asked[-1].points[item].long().tolist()
        ]
        assert inside == [True, True, False, True]


def test_first_point_in_the_largest_component() -> None:
    firsts, others = [], []
    for seed in range(60):
        for rules, found in (
            (Interaction(1), firsts),
            (Interaction(1, largest_first=False), others),
        ):
            network = Recorder()
            play(rules, network, seed=seed)
            found.append(network.asked[0].points[0, 0].tolist())
    assert [7.0, 7.0, 7.0] not in firsts
    assert [7.0, 7.0, 7.0] in others  # 60 draws out of 49 voxels


@pytest.mark.parametrize(("multi_click", "num_points"), [(True, 2), (False, 1)])
def test_box_comes_first_and_stays(multi_click: bool, num_points: int) -> None:
    network = Recorder()
    play(Interaction(num_clicks=3, bbox_first=True, multi_click=multi_click), network)
    assert network.asked[0].points is None
    for prompts in network.asked:
        assert prompts.box.tolist() == [[[1, 2, 3], [7, 7, 7]], [[2, 0, 5], [3, 2, 7]]]
    assert network.asked[2].points.shape == (2, num_points, 3)


def test_box_is_jittered_by_the_generator() -> None:
    boxes = []
    for seed in (1, 1, 2):
        network = Recorder()
        play(Interaction(num_clicks=2, bbox_first=True, box_jitter=0.3), network, seed=seed)
        boxes.append(network.asked[0].box)
    assert boxes[0].equal(boxes[1])
    assert not boxes[0].equal(boxes[2])


def test_mask_only_round_has_neither_point_nor_box() -> None:
    network = Recorder()
    answers = play(Interaction(num_clicks=4, bbox_first=True), network, mask_only_round=2)
    assert network.asked[2] == Prompts(mask=network.asked[2].mask)
    assert network.asked[3].points.shape == (2, 2, 3)
    assert network.asked[3].box is not None
    assert answers[2].prompts.points is None


@pytest.mark.parametrize(
    ("num_clicks", "choices"), [(1, []), (2, []), (3, []), (4, [2]), (11, [2, 3, 4, 5, 6, 7, 8])]
)
def test_mask_only_round_is_never_the_last(num_clicks: int, choices: list[int]) -> None:
    assert list(Interaction(num_clicks=num_clicks).mask_only_choices) == choices


def test_first_mask_prompt_is_empty_and_the_next_are_the_answers() -> None:
    network = Recorder()
    play(Interaction(num_clicks=3), network)
    assert [prompts.mask.unique().tolist() for prompts in network.asked] == [[0.0], [-1.0], [-3.0]]


@pytest.mark.parametrize(("cut", "gradient"), [(True, -3.0), (False, -5.0)])
def test_gradient_between_rounds(cut: bool, gradient: float) -> None:
    network = Recorder()  # answers f1 = -1, f2 = w f1 - 1, f3 = w f2 - 1 with w = 2
    answers = play(Interaction(num_clicks=3, cut_gradient=cut), network)
    answers[-1].logits.mean().backward()
    # d f3 / d w = f2 (cut), plus w * d f2 / d w = w * f1 along the chain
    assert network.weight.grad.item() == gradient


def test_same_generator_same_session() -> None:
    sessions = []
    for seed in (3, 3, 4):
        network = Recorder()
        play(Interaction(num_clicks=5), network, seed=seed)
        sessions.append(network.asked[-1].points)
    assert sessions[0].equal(sessions[1])
    assert not sessions[0].equal(sessions[2])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"num_clicks": 0}, "num_clicks must be at least 1, got 0"),
        (
            {"num_clicks": 1, "bbox_first": True},
            "num_clicks must be at least 2 with bbox_first, .* got 1",
        ),
        (
            {"num_clicks": 3, "click_type": "far"},
            "unknown click_type 'far'; known: random, largest, ritm",
        ),
    ],
)
def test_wrong_rules_are_refused(rules: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interaction(**rules)
