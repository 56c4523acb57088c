"""Networks of slices and what they answer: the published programs' figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.inference.slice_network import SliceNetwork, SlicePrompts, mask_box
from neurosam3d.models import Sam2D
from neurosam3d.slice_feeding import FEEDINGS, normalize_8bit
from tests.models.sam2d_small import SIDE, small_sam2d
from tests.models.test_sam2d import seeded_sam2d
from tests.reference.seeded import seeded_array

GOLDEN = Path(__file__).parent.parent / "reference" / "golden_slicewise.npz"
NUM_CLICKS = 3


def prompts(*points: tuple[float, float, int], box: list[float] | None = None) -> SlicePrompts:
    coords = np.array([point[:2] for point in points], dtype=np.float64).reshape(-1, 2)
    labels = np.array([point[2] for point in points], dtype=np.int64)
    return SlicePrompts(coords, labels, None if box is None else np.array(box))


def grey(*sides: int) -> Tensor:
    return torch.rand(sides, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize("name", FEEDINGS)
def test_an_answer_is_on_the_slice_and_prompts_the_next(name: str) -> None:
    network = SliceNetwork(small_sam2d(), feeding=name)
    embedding = network.encode(grey(40, 72))
    assert embedding.sides == (40, 72)
    assert embedding.nbytes == embedding.features.nbytes
    first = network.decode(embedding, prompts((30, 20, 1)))
    assert first.logits.shape == (40, 72)
    assert first.low_res.shape == (1, 1, SIDE // 4, SIDE // 4)
    second = network.decode(embedding, prompts((30, 20, 1), (5, 3, 0)), first.low_res)
    without = network.decode(embedding, prompts((30, 20, 1), (5, 3, 0)))
    differs = not torch.equal(second.logits, without.logits)
    assert differs == (name != "medsam")
    assert network.mask_prompt(first.logits).shape == first.low_res.shape


@pytest.mark.usefixtures("small_vit_b")
def test_the_best_of_three_is_what_the_network_says() -> None:
    model = small_sam2d()
    network = SliceNetwork(model, feeding="slicewise")
    embedding = network.encode(grey(64, 64))
    answer = network.decode(embedding, prompts((30, 20, 1)))
    points = (torch.tensor([[[30.0, 20.0]]]), torch.tensor([[1]]))
    with torch.no_grad():
        logits, iou = model.decode(embedding.features, points=points, multimask_output=True)
    assert answer.iou == pytest.approx(float(iou.max()))
    torch.testing.assert_close(answer.low_res, logits[:, [int(iou.argmax())]])
    torch.testing.assert_close(answer.logits, model.upsample(answer.low_res)[0, 0])


@pytest.mark.usefixtures("small_vit_b")
def test_margins_are_of_the_networks_pixels_and_end_with_the_slice() -> None:
    network = SliceNetwork(small_sam2d(), feeding="medsam")  # 64 pixels along each axis
    box = network.enlarge(np.array([30.0, 5, 40, 20]), (32, 128), margin=6)
    assert box.tolist() == [18, 2, 52, 23]
    assert network.enlarge(box, (32, 128), margin=40).tolist() == [0, 0, 127, 31]


def test_the_box_of_a_mask() -> None:
    mask = torch.zeros(9, 12, dtype=torch.bool)
    assert mask_box(mask) is None
    mask[2:5, 7], mask[3, 4] = True, True
    found = mask_box(mask)
    assert found is not None
    assert found.tolist() == [4, 2, 7, 4]


@pytest.fixture(scope="module")
def sam() -> Sam2D:
    return seeded_sam2d("sam_vit_b", image_size=256)


@pytest.mark.slow
@torch.no_grad()
def test_a_slice_is_fed_and_answered_as_by_sams_own_predictor(sam: Sam2D) -> None:
    golden = dict(np.load(GOLDEN))
    image = torch.from_numpy(golden["sam256/predictor/image_uint8/full"]).movedim(-1, 0)[None]
    frame, sides = FEEDINGS["sam"].frame, (120, 200)
    covered = frame.fit(torch.ones(1, 1, *sides), 256, mode="nearest")
    embedding = sam.image_encoder(normalize_8bit(frame.fit(image, 256)) * covered)
    coords = frame.place(torch.tensor([[[50.0, 40], [150, 100]]]), sides, 256)
    boxes = frame.place(torch.tensor([[20.0, 10], [180, 90]]), sides, 256).view(1, 4)
    low_res, iou = sam.decode(
        embedding, points=(coords, torch.tensor([[1, 0]])), boxes=boxes, multimask_output=True
    )
    again, last = sam.decode(
        embedding, points=(coords[:, :1], torch.tensor([[1]])), masks=low_res[:, :1]
    )
    found = {
        "embedding": embedding,
        "low_res": low_res[0],
        "iou": iou[0],
        "logits": frame.restore(low_res, sides, 256)[0],
        "second_logits": frame.restore(again, sides, 256)[0],
        "second_iou": last[0],
    }
    for name, tensor in found.items():
        index, values = (golden[f"sam256/predictor/{name}/{f}"] for f in ("index", "values"))
        mine = tensor.flatten().numpy()[index]
        # It scaled by another library, which rounds one pixel of 200 to the next of 256 levels.
        np.testing.assert_allclose(mine, values, atol=0.01, err_msg=name)


@pytest.mark.slow
def test_slices_are_answered_as_sam_med3d_judged_them(sam: Sam2D) -> None:
    golden = dict(np.load(GOLDEN))
    field = torch.from_numpy(seeded_array("slicewise/volume", (1, 1, 5, 5, 3)))
    volume = F.interpolate(field, (40, 40, 6), mode="trilinear", align_corners=False)[0, 0]
    truth = golden["slicewise/label/full"][0, 0].astype(bool)
    numbers = np.flatnonzero(truth.any((0, 1))).tolist()
    kept = {n: SliceNetwork(sam, feeding="slicewise").encode(volume[..., n]) for n in numbers}
    for feeding, case in (("slicewise", "sam"), ("slicewise_ft2d", "ft2d")):
        network = SliceNetwork(sam, feeding=feeding)
        # As stored, of the network's 256 pixels; brought to those of the slice.
        points = golden[f"slicewise/{case}/points/full"].reshape(-1, NUM_CLICKS, 2) * 40 / 256
        labels = golden[f"slicewise/{case}/labels/full"].reshape(-1, NUM_CLICKS)
        found = np.zeros((NUM_CLICKS, *truth.shape), dtype=bool)
        for index, number in enumerate(numbers):
            mask = None
            for count in range(1, NUM_CLICKS + 1):
                said = SlicePrompts(points[index, :count], labels[index, :count])
                answer = network.decode(kept[number], said, mask)
                mask = answer.low_res
                found[count - 1, ..., number] = answer.logits > 0
        assert (found == golden[f"slicewise/{case}/predictions/full"]).mean() >= 0.999
        dice = [2 * (mine & truth).sum() / (mine.sum() + truth.sum()) for mine in found]
        np.testing.assert_allclose(dice, golden[f"slicewise/{case}/dice"], atol=1e-3)
