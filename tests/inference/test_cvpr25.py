"""Cases of the CVPR25 challenge: axes, classes, clicks and what was answered before."""

import numpy as np
import pytest

from neurosam3d.inference.cvpr25 import segment_cvpr25
from tests.inference.oracle import Oracle, ellipsoid, oracle_predictor

SHAPE = (14, 18, 22)
SPACING = (3.0, 0.8, 1.2)
FIRST = ellipsoid(SHAPE, centre=(6, 8, 15), radii=(4, 5, 4))
SECOND = ellipsoid(SHAPE, centre=(7, 10, 4), radii=(3, 4, 3))
BOX = {
    **{"z_min": 2, "z_max": 10, "z_mid": 6},
    **{"z_mid_y_min": 3, "z_mid_y_max": 13, "z_mid_x_min": 11, "z_mid_x_max": 19},
}


def _case(truth: np.ndarray, **prompts: object) -> dict[str, object]:
    return {"imgs": (truth * 255).astype(np.uint8), "spacing": np.array(SPACING), **prompts}


def _oracle() -> Oracle:
    return Oracle(lambda image: image - 100)


def test_a_box_is_brought_to_the_network_in_the_axes_of_the_image() -> None:
    oracle = _oracle()
    predictor = oracle_predictor(oracle, roi_size=SHAPE)
    segs = segment_cvpr25(predictor, _case(FIRST, boxes=[BOX]))
    np.testing.assert_array_equal(segs, FIRST)
    assert segs.dtype == np.uint8
    assert predictor.scan.volume.spacing == pytest.approx(SPACING)
    (asked,) = oracle.asked
    assert asked.box is not None
    np.testing.assert_allclose(asked.box[0], [[2, 3, 11], [10, 13, 19]], atol=1e-4)
    assert asked.points is None


def test_clicks_and_the_last_answer_prompt_together() -> None:
    oracle = _oracle()
    before = np.zeros(SHAPE, np.uint8)
    before[3:6, 4:9, 12:15] = 1
    clicks = [{"fg": [[6, 8, 15], [5, 8, 15]], "bg": [[1, 2, 3]]}]
    case = _case(FIRST, boxes=[BOX], clicks=clicks, prev_pred=before)
    segs = segment_cvpr25(oracle_predictor(oracle, roi_size=SHAPE), case)
    np.testing.assert_array_equal(segs, FIRST)
    asked = oracle.asked[0]
    assert asked.points is not None
    assert asked.labels is not None
    assert asked.mask is not None
    np.testing.assert_allclose(asked.points[0], [[6, 8, 15], [5, 8, 15], [1, 2, 3]], atol=1e-4)
    assert asked.labels[0].tolist() == [1, 1, 0]
    np.testing.assert_array_equal(asked.mask[0, 0] > 0, before == 1)


def test_every_class_has_its_value_and_the_highest_logit_wins() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[:, :9], image[:, 9:] = 3.0, 5.0

    class Biased(Oracle):
        """The first class claims all with 4, the second all with the brightness."""

        def __init__(self) -> None:
            super().__init__(lambda image: image if len(self.asked) % 2 == 0 else 0 * image + 4)

    case = {
        "imgs": image,
        "spacing": SPACING,
        "clicks": [{"fg": [[6, 4, 4]], "bg": []}, {"fg": [[6, 12, 4]], "bg": []}],
    }
    segs = segment_cvpr25(oracle_predictor(Biased(), roi_size=SHAPE), case)
    np.testing.assert_array_equal(segs, np.where(image > 4, 2, 1))


def test_a_class_that_nothing_points_at_stays_as_it_was() -> None:
    before = (2 * SECOND).astype(np.uint8)
    clicks = [{"fg": [[6, 8, 15]], "bg": []}, {"fg": [], "bg": []}, {"fg": [], "bg": [[1, 1, 1]]}]
    case = _case(FIRST, clicks=clicks, boxes=[None, None, None], prev_pred=before)
    segs = segment_cvpr25(oracle_predictor(_oracle(), roi_size=SHAPE), case)
    np.testing.assert_array_equal(segs, FIRST + 2 * SECOND)


def test_classes_in_one_window_share_its_embedding() -> None:
    oracle = _oracle()
    clicks = [{"fg": [[6, 8, 15]], "bg": []}, {"fg": [[7, 10, 4]], "bg": []}]
    predictor = oracle_predictor(oracle, roi_size=SHAPE)
    segment_cvpr25(predictor, _case(FIRST, clicks=clicks))
    assert oracle.num_encoded == 1


def test_unfit_cases_are_told() -> None:
    predictor = oracle_predictor(_oracle(), roi_size=SHAPE)
    with pytest.raises(ValueError, match="for 1 to 255 classes, got 0"):
        segment_cvpr25(predictor, _case(FIRST))
    with pytest.raises(ValueError, match=r"prev_pred must have the shape \(14, 18, 22\) of imgs"):
        segment_cvpr25(predictor, _case(FIRST, boxes=[BOX], prev_pred=np.zeros((2, 2, 2))))
    outside = [{"fg": [[14, 8, 15]], "bg": []}]
    with pytest.raises(ValueError, match="points must lie inside the scan"):
        segment_cvpr25(predictor, _case(FIRST, clicks=outside))
