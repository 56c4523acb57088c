"""Networks that answer noise: whatever they say, the result lies on the scan's grid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurosam3d.inference import Predictor
from neurosam3d.volume import Volume


class _PromptEncoder(nn.Module):
    """Hands the mask prompt on; four embeddings say that boxes are known."""

    def __init__(self) -> None:
        super().__init__()
        self.point_embeddings = nn.ModuleList(nn.Identity() for _ in range(4))

    def get_dense_pe(self) -> Tensor:
        return torch.zeros(1)

    def forward(
        self, *, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(masks), 0, 1), masks


class NoiseNetwork(nn.Module):
    """Answers smooth blobs that mostly keep to the mask prompt and sometimes do not."""

    image_size = 16
    mask_size = 8

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.image_encoder = nn.Identity()
        self.prompt_encoder = _PromptEncoder()
        self.generator = torch.Generator().manual_seed(seed)

    def mask_decoder(
        self,
        *,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        keep, bias = torch.rand(2, generator=self.generator).tolist()
        blobs = torch.randn(1, 1, 3, 3, 3, generator=self.generator) * 3 + (bias - 0.5) * 8
        logits = F.interpolate(blobs, size=8, mode="trilinear")
        if keep < 0.7:
            logits = logits + dense_prompt_embeddings / 2
        return logits, torch.zeros(1, 1)


def random_scan(rng: np.random.Generator) -> Volume:
    """Return a scan of any shape, spacing and orientation, axis-parallel or oblique."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if rng.random() < 0.5:
        turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.5, 6, 3)
    affine[:3, 3] = rng.normal(size=3) * 100
    return Volume(torch.rand(1, *rng.integers(1, 70, 3).tolist()), affine)


@pytest.mark.parametrize("seed", [1, 2, 195, 198, 203, 215, 259, 285])
def test_any_answer_ends_on_the_grid_of_the_scan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scan = random_scan(rng)
    spacing = None if rng.random() < 0.5 else tuple(rng.uniform(0.7, 4, 3).tolist())
    max_windows = int(rng.integers(1, 28))
    network = NoiseNetwork(seed)
    predictor = Predictor(network, spacing, None, "none", max_windows=max_windows)
    predictor.set_image(scan)
    clicks = rng.integers(0, scan.shape, (3, 3)).tolist()
    rounds = [
        predictor.add_point(click, label) for click, label in zip(clicks, (1, 0, 1), strict=True)
    ]
    low, high = np.sort(rng.integers(0, scan.shape, (2, 3)), axis=0).tolist()
    single = [
        predictor.predict(box=[low, high]),
        predictor.predict(mask=rng.random(scan.shape) > 0.5),
    ]
    for answer in [*rounds, predictor.undo(), *single]:
        assert answer.mask.shape == answer.logits.shape == scan.shape
        assert np.isfinite(answer.logits).all()
        np.testing.assert_array_equal(answer.mask, answer.logits > 0)
    assert all(answer.num_windows <= max_windows for answer in single)
