"""Which windows are decoded, and with what."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurosam3d.inference import Predictor
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


def predictor_of(
    truth: np.ndarray, oracle: Oracle, *, roi_size: int = 16, **options: object
) -> Predictor:
    predictor = oracle_predictor(oracle, roi_size=roi_size, **options)
    predictor.set_image((truth.astype(np.float32), AFFINE))
    return predictor


def rod(length: int, *, scan: int) -> np.ndarray:
    """Return a rod from near the start of the first axis on."""
    truth = np.zeros((scan, 20, 20), dtype=np.uint8)
    truth[4 : 4 + length, 8:12, 8:12] = 1
    return truth


def test_quiet_border_needs_no_second_window() -> None:
    truth, oracle = ellipsoid((50, 50, 50), centre=(25, 25, 25), radii=(6, 6, 5)), Oracle()
    prediction = predictor_of(truth, oracle).predict(points=[[25, 25, 25]])
    assert (oracle.num_encoded, len(oracle.asked)) == (1, 1)
    assert prediction.num_windows == 1


def test_window_is_decoded_only_where_the_mask_reaches_the_border() -> None:
    truth, oracle = rod(24, scan=60), Oracle()  # 4 to 27
    prediction = predictor_of(truth, oracle).predict(points=[[18, 10, 10]])
    np.testing.assert_array_equal(prediction.mask, truth)
    assert prediction.is_quiet
    assert prediction.roi is not None  # the first axis runs backwards there, from voxel 26 on
    assert prediction.roi.affine[:3, 3].tolist() == [-26.0, 2.0, 4.0]
    # The first window ends inside the rod at both ends, the next ones, from 3 and to 34, do not.
    assert prediction.num_windows == 3
    assert len(oracle.asked) == 3


def test_neighbour_gets_the_mask_and_a_point_deep_inside_it() -> None:
    truth, oracle = np.roll(rod(15, scan=36), 6, axis=0), Oracle()  # 10 to 24
    predictor = predictor_of(truth, oracle)
    prediction = predictor.predict(points=[[15, 10, 10], [9, 2, 9]], labels=[1, 0])
    np.testing.assert_array_equal(prediction.mask, truth)
    first, second = oracle.asked  # of 8 to 23 and 16 to 31
    assert first.points is not None
    assert first.points.shape == (1, 2, 3)
    assert second.mask is not None
    mask = second.mask[0, 0]
    # Half of the window is known from the first one, and it is what that answered there.
    known = mask.abs().sum(dim=(1, 2)) > 0
    assert known.sum() == 8
    assert set(mask[known].unique().tolist()) == {-6.0, 6.0}
    assert (mask[~known] == 0).all()
    # The points lie elsewhere; the one that is given instead is two voxels deep in that mask.
    assert second.points is not None
    assert second.labels is not None
    assert second.labels.tolist() == [[1]]
    d, h, w = second.points[0, 0].long().tolist()
    assert (mask[d - 1 : d + 2, h - 1 : h + 2, w - 1 : w + 2] > 0).all()


def test_window_that_contradicts_what_is_known_is_not_believed() -> None:
    def answer(image: Tensor) -> Tensor:
        """See the object where it ends in the window, else its surroundings."""
        is_whole = bool(image[:, :, 0].max() <= 0)
        return (image - 0.5) * (12 if is_whole else -12)

    truth, oracle = rod(30, scan=60), Oracle(answer)  # 4 to 33
    predictor = predictor_of(truth[::-1].copy(), oracle)  # on the working grid as it was
    prediction = predictor.predict(points=[[59 - 8, 10, 10]])
    assert len(oracle.asked) == 2
    assert prediction.num_windows == 1
    assert not prediction.is_quiet
    np.testing.assert_array_equal(prediction.mask[::-1][:16], truth[:16])
    assert prediction.mask[::-1][16:].sum() == 0


@pytest.mark.parametrize("max_windows", [1, 2, 3])
def test_max_windows_is_obeyed_and_told(max_windows: int) -> None:
    truth, oracle = rod(50, scan=60), Oracle()
    predictor = predictor_of(truth, oracle, max_windows=max_windows)
    prediction = predictor.predict(points=[[10, 10, 10]])
    assert len(oracle.asked) == max_windows
    assert not prediction.is_quiet
    assert 0 < prediction.mask.sum() < truth.sum()


def test_large_object_is_looked_at_from_afar_first() -> None:
    truth, oracle = rod(16 * 4, scan=80), Oracle()
    predictor = predictor_of(truth, oracle)
    prediction = predictor.predict(points=[[36, 10, 10]])
    np.testing.assert_array_equal(prediction.mask, truth)
    assert prediction.is_quiet
    shapes = [prompts.mask.shape[2:] for prompts in oracle.asked if prompts.mask is not None]
    assert set(shapes) == {(16, 16, 16)}
    levels = [window.level for window in predictor.embeddings._kept]
    assert levels.count(0) >= 5
    assert [level for level in levels if level] == [1, 2, 3]  # at 2, it still reaches the border
    # The refined windows are told by the coarse one where the object is, so nothing is unknown.
    for prompts in oracle.asked[-2:]:
        assert prompts.mask is not None
        assert (prompts.mask != 0).all()
        assert (prompts.mask > 0).any()


def test_gaps_that_the_budget_leaves_are_filled_from_afar() -> None:
    truth, oracle = np.zeros((90, 40, 40), dtype=np.uint8), Oracle()
    truth[4:84, 4:36, 4:36] = 1
    predictor = predictor_of(truth, oracle, max_windows=8)
    prediction = predictor.predict(points=[[45, 20, 20]])
    assert not prediction.is_quiet
    assert len(oracle.asked) == 8
    both = 2 * (prediction.mask * truth).sum() / (prediction.mask.sum() + truth.sum())
    assert both > 0.85


def test_thin_part_that_only_the_working_spacing_shows_is_followed() -> None:
    truth = rod(16 * 4, scan=100)
    truth[60:95, 9, 9] = 1  # one voxel thin
    prediction = predictor_of(truth, Oracle()).predict(points=[[36, 10, 10]])
    np.testing.assert_array_equal(prediction.mask, truth)


def test_logits_have_no_seam() -> None:
    """A network that is less sure towards its border, differently in every window."""

    def answer(image: Tensor) -> Tensor:
        side = image.shape[-1]
        ramp = torch.linspace(-1, 1, side)
        tilt = ramp[:, None, None] + ramp[:, None] - ramp
        return F.avg_pool3d((image - 0.5) * 12, 5, stride=1, padding=2) + 0.5 * tilt

    truth = ellipsoid((60, 30, 30), centre=(30, 15, 15), radii=(24, 9, 9))
    prediction = predictor_of(truth, Oracle(answer), roi_size=24).predict(points=[[30, 15, 15]])
    assert prediction.num_windows > 2
    inside = prediction.logits[18:42, 14:17, 14:17]  # deep inside, where the image is flat
    assert np.abs(np.diff(inside, axis=0)).max() < 0.5  # the windows themselves differ by 3


def test_points_further_apart_than_a_window_open_windows_of_their_own() -> None:
    truth, oracle = np.zeros((60, 20, 20), dtype=np.uint8), Oracle()
    truth[4:9, 8:12, 8:12] = truth[50:55, 8:12, 8:12] = 1
    points = [[52, 10, 10], [6, 10, 10], [51, 2, 2]]
    prediction = predictor_of(truth, oracle).predict(points=points, labels=[1, 1, 0])
    np.testing.assert_array_equal(prediction.mask, truth)
    assert prediction.num_windows == 2
    asked = [prompts.labels.tolist() for prompts in oracle.asked if prompts.labels is not None]
    assert asked == [[[1, 0]], [[1]]]
