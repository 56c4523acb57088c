"""Rounds through the predictor against the same rounds written out on the network itself."""

import numpy as np
import pytest
import torch

from neurosam3d.inference import Predictor
from neurosam3d.models import build_model
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights

SIDE = 32
CLICKS = [([9, 20, 14], 1), ([25, 6, 3], 0), ([12, 17, 30], 1)]


@pytest.mark.parametrize("mask_stride", [4, 1])
@torch.no_grad()
def test_rounds_equal_those_written_out(mask_stride: int) -> None:
    model = seed_weights(build_model("vit_tiny", image_size=SIDE, mask_stride=mask_stride)).eval()
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(1, 1, SIDE, SIDE, SIDE, generator=generator)
    predictor = Predictor(model, spacing=None, intensity="none")
    predictor.set_image((image[0, 0].numpy(), np.diag([2.0, 1.0, 3.0, 1.0])))

    embedding = model.image_encoder(image)
    masks = torch.zeros(1, 1, *(SIDE // mask_stride,) * 3)
    for number in (1, 2, 3):
        coords = torch.tensor([[point for point, _ in CLICKS[:number]]])
        labels = torch.tensor([[label for _, label in CLICKS[:number]]])
        masks, _ = model.decode(embedding, points=(coords, labels), masks=masks)
        prediction = predictor.add_point(*CLICKS[number - 1])
        expected = model.upsample(masks)[0, 0]
        assert torch.equal(torch.from_numpy(prediction.logits), expected)
        assert torch.equal(torch.from_numpy(prediction.mask) > 0, expected > 0)


@pytest.mark.parametrize("signs", [(-1, 1, -1), (1, -1, 1)])
@torch.no_grad()
def test_axes_of_the_file_do_not_matter(signs: tuple[int, int, int]) -> None:
    model = seed_weights(build_model("vit_tiny", image_size=SIDE)).eval()
    scan = np.random.default_rng(5).normal(size=(SIDE, SIDE, SIDE)).astype(np.float32)
    predictor = Predictor(model, spacing=None, intensity="none")
    predictor.set_image((scan, np.eye(4)))
    expected = predictor.predict(points=[[9, 20, 14]], labels=[1]).logits

    order = (2, 0, 1)
    turned = np.flip(scan.transpose(order), [axis for axis in range(3) if signs[axis] < 0]).copy()
    affine = np.zeros((4, 4))
    affine[list(order), range(3)] = signs
    affine[3, 3] = 1
    point = [
        [9, 20, 14][axis] if sign > 0 else SIDE - 1 - [9, 20, 14][axis]
        for axis, sign in zip(order, signs, strict=True)
    ]
    predictor.set_image((turned, affine))
    logits = predictor.predict(points=[point], labels=[1]).logits
    back = np.flip(logits, [axis for axis in range(3) if signs[axis] < 0])
    np.testing.assert_array_equal(back.transpose(np.argsort(order)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "mask_stride"), [("neuro.vit_b_ori.128", 1), ("upstream.vit_b_ori.128", 4)]
)
def test_rounds_of_the_published_programs(case: str, mask_stride: int) -> None:
    golden = Golden("golden_sam_med3d.npz", case)
    model = seed_weights(build_model("vit_b_ori", image_size=128, mask_stride=mask_stride))
    predictor = Predictor(model, spacing=None, intensity="none")
    predictor.set_image((golden.image()[0, 0].numpy(), np.eye(4)))
    points, labels = golden.input("points")[0].tolist(), golden.input("labels")[0].tolist()
    for number, (point, label) in enumerate(zip(points, labels, strict=True), 1):
        prediction = predictor.add_point(point, label)
        logits = torch.from_numpy(prediction.logits)[None, None]
        if mask_stride == 1:
            golden.check(f"loop.click{number}.low_res_masks", logits)
    golden.check("loop.final_full_res", logits)
