"""Networks of SAM's seam behind the one interface of the predictor."""

import numpy as np
import pytest
import torch

from neurosam3d.inference import Predictor
from neurosam3d.inference.network import PromptableNetwork, WindowAnswer, WindowNetwork
from neurosam3d.models import build_model
from neurosam3d.prompts import Prompts
from tests.inference.oracle import Oracle

SIDE = 32


@pytest.fixture(scope="module")
def network() -> WindowNetwork:
    torch.manual_seed(0)
    return WindowNetwork(build_model("vit_tiny", image_size=SIDE, box_prompts=True).train())


def random_image() -> torch.Tensor:
    return torch.randn(1, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("options", "mask_side", "takes_boxes"),
    [
        ({}, 8, False),
        ({"mask_stride": 1}, 32, True),
        ({"box_prompts": True}, 8, True),
    ],
)
def test_sizes_are_the_networks(
    options: dict[str, object], mask_side: int, takes_boxes: bool
) -> None:
    network = WindowNetwork(build_model("vit_tiny", image_size=SIDE, **options))
    assert network.roi_size == (SIDE,) * 3
    assert network.mask_size == (mask_side,) * 3
    assert network.takes_boxes == takes_boxes


def test_sizes_of_a_network_without_any() -> None:
    network = WindowNetwork(Oracle(box_prompts=False), roi_size=(8, 12, 10))
    assert network.roi_size == network.mask_size == (8, 12, 10)
    assert not network.takes_boxes
    assert WindowNetwork(Oracle(), roi_size=8).roi_size == (8, 8, 8)


def test_first_round_is_asked_with_a_mask_of_zeros(network: WindowNetwork) -> None:
    embedding = network.encode(random_image())
    points = Prompts(torch.tensor([[[4.0, 5, 6]]]), torch.tensor([[1]]))
    zeros = Prompts(points.points, points.labels, mask=torch.zeros(1, 1, 8, 8, 8))
    assert torch.equal(
        network.decode(embedding, points).logits, network.decode(embedding, zeros).logits
    )
    assert network.decode(embedding, Prompts()).logits.shape == (1, 1, SIDE, SIDE, SIDE)


def test_many_prompts_on_one_image_equal_one_by_one(network: WindowNetwork) -> None:
    embedding = network.encode(random_image())
    coords = torch.tensor([[[4.0, 5, 6]], [[20, 9, 30]], [[0, 31, 7]]])
    labels = torch.tensor([[1], [0], [1]])
    box = torch.tensor([[[1.0, 2, 3], [9, 8, 7]]]).expand(3, -1, -1)
    together = network.decode(embedding, Prompts(coords, labels, box))
    assert together.low_res.shape == (3, 1, 8, 8, 8)
    assert together.iou.shape == (3, 1)
    for item in range(3):
        alone = Prompts(coords[item, None], labels[item, None], box[:1])
        answer = network.decode(embedding, alone)
        torch.testing.assert_close(answer.logits[0], together.logits[item], atol=1e-5, rtol=1e-4)


def test_surroundings_do_not_change_the_answer(network: WindowNetwork) -> None:
    points = Prompts(torch.tensor([[[4.0, 5, 6]]]), torch.tensor([[1]]))
    plain = network.decode(network.encode(random_image()), points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = network.encode(random_image())
        surrounded = network.decode(embedding, points)
    assert embedding.dtype == torch.float32
    assert not surrounded.logits.requires_grad
    assert torch.equal(plain.logits, surrounded.logits)


def test_network_of_another_kind_needs_only_the_interface() -> None:
    class Threshold:
        roi_size = mask_size = (8, 10, 12)
        takes_boxes = False
        device = torch.device("cpu")

        def encode(self, image: torch.Tensor) -> torch.Tensor:
            return image

        def decode(self, embedding: torch.Tensor, prompts: Prompts) -> WindowAnswer:
            logits = embedding - 0.5
            return WindowAnswer(logits, logits, torch.zeros(1, 1))

    network: PromptableNetwork = Threshold()
    predictor = Predictor(network, spacing=None, intensity="none")
    scan = np.zeros((9, 9, 9), dtype=np.uint8)
    scan[2:5, 3:7, 4:6] = 1
    predictor.set_image((scan, np.eye(4)))
    np.testing.assert_array_equal(predictor.predict(points=[[3, 4, 5]]).mask, scan)
