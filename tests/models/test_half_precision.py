"""Networks under autocast to bfloat16 say what they say in float32, within its three digits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.networks import ball
from neurosam3d.models import Sam3D
from neurosam3d.training.interaction import Interaction
from tests.models.sam3d_small import FAMILIES, ask, image_of, seeded

REACHES = 0.03  # of the largest value; one rounding is 0.004, and there are blocks of them


def in_both(forward: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Run in bfloat16 and in float32."""
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            half = forward()
        return half.float(), forward()


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_and_decoder_in_bfloat16(family: str) -> None:
    model = seeded(FAMILIES[family])
    embeddings = model.image_encoder(image_of(model)).detach()
    for half, full in (
        in_both(lambda: model.image_encoder(image_of(model))),
        in_both(lambda: ask(model, embeddings, 2)),
    ):
        difference = (half - full).abs().max() / full.abs().max()
        assert 0 < difference < REACHES
        assert torch.corrcoef(torch.stack([half.flatten(), full.flatten()]))[0, 1] > 0.999


def test_a_session_upsamples_and_compares_in_single_precision() -> None:
    model: Sam3D = seeded(FAMILIES["vit"])
    truth = ball(32)
    options: dict[str, Any] = {"largest": truth, "generator": torch.Generator().manual_seed(0)}
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = model.image_encoder(image_of(model))
        (answer,) = Interaction(1).run(model, embeddings, truth, **options)
    assert embeddings.dtype == torch.bfloat16
    assert answer.low_res_logits.dtype == answer.logits.dtype == torch.float32
    torch.testing.assert_close(answer.logits, model.upsample(answer.low_res_logits))
