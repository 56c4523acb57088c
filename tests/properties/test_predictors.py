"""Prompt in, mask out on the scan's own grid, or a sentence with the rule: for any scan at all."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from neurosam3d.inference import Predictor
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.slice_predictor import SlicePredictor
from neurosam3d.intensity import INTENSITY_PRESETS
from neurosam3d.mistakes import describe_mistake
from neurosam3d.models import build_model
from neurosam3d.models.sam2d_encoder import SAM2D_CONFIGS
from tests.models.sam2d_small import CONFIG, small_sam2d
from tests.properties.drawing import PROMPT_KINDS, Effort, Scan, draw_prompts, efforts, scans

MUST_REFUSE = {"outside", "only negative", "box outside", "empty mask", "nothing"}
MUST_ANSWER = {"click", "clicks", "clicks in mm", "box", "box in mm", "mask"}
SPACINGS = st.sampled_from([None, (1.5, 1.5, 1.5), (3.0, 0.9, 2.0)])
AXES = st.sampled_from(["axial", "coronal", "sagittal"])
KINDS = st.sampled_from(PROMPT_KINDS)


@pytest.fixture(scope="module")
def volumes() -> nn.Module:
    """A small network of volumes with random weights."""
    torch.manual_seed(0)
    return build_model("vit_tiny", image_size=32, mask_stride=4, box_prompts=True)


@pytest.fixture(scope="module")
def slices() -> Iterator[nn.Module]:
    """A small network of slices with random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SAM2D_CONFIGS, "vit_b", CONFIG)
        yield small_sam2d()


def require_answer(predictor: ScanPredictor, scan: Scan, kind: str) -> None:
    """Ask, and refuse anything but a mask on the scan's grid or a mistake in a sentence."""
    predictor.set_image(scan.volume)
    prompts = draw_prompts(scan, kind)
    session, prediction, mistake = predictor.open_session(), None, None
    try:
        prediction = session.add(prompts)
    except ValueError as error:
        mistake = describe_mistake(error)
    if prediction is None:
        assert mistake
        assert kind not in MUST_ANSWER
        return
    assert kind not in MUST_REFUSE
    for answer in (prediction, session.add_point(np.array(scan.shape) // 2, 0), session.undo()):
        assert answer.grid.same_as(scan.volume.grid)
        assert answer.mask.shape == answer.logits.shape == scan.shape
        assert (answer.mask.dtype, answer.logits.dtype) == (np.uint8, np.float32)
        assert set(np.unique(answer.mask)) <= {0, 1}
        assert np.isfinite(answer.logits).all()


@efforts(few=14, many=150)
def test_a_network_of_volumes_answers_or_says_why(effort: Effort, volumes: nn.Module) -> None:
    @effort.tries
    @given(scans(effort.largest), KINDS, SPACINGS, st.sampled_from(list(INTENSITY_PRESETS)))
    def holds(
        scan: Scan, kind: str, spacing: tuple[float, float, float] | None, intensity: str
    ) -> None:
        predictor = Predictor(volumes, spacing, intensity=intensity, max_windows=3)
        require_answer(predictor, scan, kind)

    holds()


@efforts(few=14, many=100)
def test_a_network_of_slices_answers_or_says_why(effort: Effort, slices: nn.Module) -> None:
    @effort.tries
    @given(scans(min(effort.largest, 40)), KINDS, AXES, st.booleans())
    def holds(scan: Scan, kind: str, axis: str, propagate: bool) -> None:
        predictor = SlicePredictor(slices, axis=axis, propagate=propagate)  # type: ignore[arg-type]
        require_answer(predictor, scan, kind)

    holds()


class _Thirds(nn.Module):
    """Tells three classes apart by brightness; takes windows of one size alone."""

    crop_size = (16, 12, 20)

    def forward(self, windows: Tensor) -> Tensor:
        assert windows.shape[2:] == self.crop_size
        return torch.cat([-windows, windows, windows.abs() - 1], dim=1)  # (B, 3, d, h, w)


@efforts(few=14, many=100)
def test_a_network_without_prompts_answers_for_any_scan(effort: Effort) -> None:
    @effort.tries
    @given(scans(effort.largest), SPACINGS, st.sampled_from([0.0, 0.25, 0.5]))
    def holds(scan: Scan, spacing: tuple[float, float, float] | None, overlap: float) -> None:
        segmenter = PromptFreeSegmenter(
            _Thirds(), ["low", "high"], spacing=spacing, intensity="zscore", overlap=overlap
        )
        labels = segmenter.segment(scan.volume).labels
        assert labels.shape == scan.shape
        assert set(np.unique(labels)) <= {0, 1, 2}

    holds()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda affine: np.zeros((4, 4)),
        lambda affine: affine @ np.diag([1, 0, 1, 1]),
        lambda affine: np.where(np.eye(4) == 1, np.nan, affine),
        lambda affine: np.vstack([affine[:3], [0, 0, 1, 1]]),
    ],
)
@efforts(few=5, many=30)
def test_a_scan_without_a_place_is_refused(
    effort: Effort, spoil: Callable[[np.ndarray], np.ndarray], volumes: nn.Module
) -> None:
    @effort.tries
    @given(scans(effort.largest))
    def holds(scan: Scan) -> None:
        with pytest.raises(ValueError, match="an affine"):
            Predictor(volumes).set_image((scan.finite, spoil(scan.affine)))

    holds()
