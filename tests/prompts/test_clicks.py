"""Click rules: who is clicked, how often, and with which label."""

import pytest
import torch
from torch import Tensor

from neurosam3d.prompts import CLICK_METHODS, sample_clicks

SHAPE = (3, 5, 7)
NUM_DRAWS = 6000


def _empty(batch: int = 1) -> Tensor:
    return torch.zeros(batch, 1, *SHAPE, dtype=torch.bool)


def _draw_often(truth: Tensor, prediction: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Draw many clicks on one item; return how often each voxel was hit, and the labels map."""
    many = (NUM_DRAWS, -1, -1, -1, -1)
    coords, labels = sample_clicks(
        truth.expand(many),
        prediction.expand(many),
        method=method,
        generator=torch.Generator().manual_seed(7),
    )
    d, h, w = coords[:, 0].long().unbind(1)
    hits = torch.zeros(SHAPE).index_put_((d, h, w), torch.ones(NUM_DRAWS), accumulate=True)
    label_at = torch.full(SHAPE, -9).index_put_((d, h, w), labels[:, 0])
    return hits, label_at


def _assert_uniform(hits: Tensor, region: Tensor) -> None:
    expected = NUM_DRAWS / int(region.sum())
    assert hits[~region].sum() == 0
    # Five standard deviations of a binomial count.
    assert (hits[region] - expected).abs().max() < 5 * expected**0.5


def test_random_is_uniform_over_the_error_and_labels_by_its_kind() -> None:
    truth, prediction = _empty(), _empty()
    truth[0, 0, 0:2, 1:3, 2:5] = True
    prediction[0, 0, 1:3, 1:3, 4:6] = True
    hits, label_at = _draw_often(truth, prediction, "random")
    missed, added = (truth & ~prediction)[0, 0], (prediction & ~truth)[0, 0]
    _assert_uniform(hits, missed | added)
    assert (label_at[missed] == 1).all()
    assert (label_at[added] == 0).all()


def test_random_reaches_the_first_and_the_last_voxel() -> None:
    truth = _empty()
    truth[0, 0, 0, 0, 0] = truth[0, 0, -1, -1, -1] = True
    hits, _ = _draw_often(truth, _empty(), "random")
    _assert_uniform(hits, truth[0, 0])


def test_largest_ignores_the_prediction_and_joins_corners() -> None:
    truth = _empty()
    for i in range(3):
        truth[0, 0, i, i, i] = True  # three voxels that touch at corners only
    truth[0, 0, 0, 4, 5:7] = True  # two that share a face
    hits, label_at = _draw_often(truth, truth, "largest")
    diagonal = truth[0, 0].clone()
    diagonal[0, 4] = False
    _assert_uniform(hits, diagonal)
    assert (label_at[diagonal] == 1).all()


def test_largest_takes_the_component_it_is_given() -> None:
    truth, given = _empty(), _empty()
    truth[0, 0, :, :2] = True
    given[0, 0, 2, 1, 3] = True
    coords, labels = sample_clicks(truth, _empty(), method="largest", largest=given)
    assert coords.tolist() == [[[2, 1, 3]]]
    assert labels.tolist() == [[1]]


def test_ritm_clicks_the_core_of_the_deeper_region() -> None:
    truth, prediction = _empty(), _empty()
    truth[0, 0, :, :, 0:3] = True  # missed, 3 x 5 x 3: the deepest voxel is 2 deep
    prediction[0, 0, 0:2, 0:2, 5:7] = True  # added, 2 x 2 x 2: every voxel is 1 deep
    hits, label_at = _draw_often(truth, prediction, "ritm")
    core = torch.zeros(SHAPE, dtype=torch.bool)
    core[1, 1:4, 1] = True  # deeper than 1; the border counts as background
    _assert_uniform(hits, core)
    assert (label_at[core] == 1).all()


def test_ritm_prefers_the_larger_depth_over_the_larger_volume() -> None:
    truth, prediction = _empty(), _empty()
    truth[0, 0, 0] = True  # 35 voxels missed, all 1 deep
    truth[0, 0, :, :, 3:] = False
    prediction[0, 0, :, 1:4, 4:7] = True  # 27 added, one of them 2 deep
    coords, labels = sample_clicks(truth, prediction, method="ritm")
    assert coords.tolist() == [[[1, 2, 5]]]
    assert labels.tolist() == [[0]]


def test_ritm_measures_depth_by_the_spacing() -> None:
    truth, prediction = _empty(), _empty()
    truth[0, 0, :, 0] = True  # 3 x 1 x 7 missed: one voxel, here 9 mm, deep
    prediction[0, 0, :, 2:5, 2:5] = True  # 3 x 3 x 3 added: two voxels, here 2 mm, deep
    in_voxels, in_mm = (
        sample_clicks(truth, prediction, method="ritm", spacing=spacing)
        for spacing in ((1.0, 1.0, 1.0), (9.0, 9.0, 1.0))
    )
    assert in_voxels[0].tolist() == [[[1, 3, 3]]]
    assert in_voxels[1].tolist() == [[0]]
    assert in_mm[1].tolist() == [[1]]


@pytest.mark.parametrize("method", CLICK_METHODS)
def test_each_item_is_clicked_in_its_own_region(method: str) -> None:
    truth, prediction = _empty(4), _empty(4)
    truth[0, 0, 0, 0, 1] = True
    truth[1, 0, 2, 4, 6] = True
    truth[2, 0, 1, 3, 2] = prediction[2, 0, 1, 3, 2] = True  # perfect; item 3 is empty
    coords, labels = sample_clicks(truth, prediction, method=method)
    assert coords.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert coords[:2].tolist() == [[[0, 0, 1]], [[2, 4, 6]]]
    assert labels[:2].tolist() == [[1], [1]]
    assert coords[3].tolist() == [[0, 0, 0]]
    assert labels[3].tolist() == [-1]
    # The largest-component rule looks at the truth alone and so clicks the perfect item as well.
    assert labels[2].tolist() == ([1] if method == "largest" else [-1])


@pytest.mark.parametrize("method", CLICK_METHODS)
def test_the_generator_alone_decides(method: str) -> None:
    truth = torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(3)) < 0.8

    def draw(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        rounds = [
            sample_clicks(truth, ~truth, method=method, generator=generator) for _ in range(6)
        ]
        return [coords for coords, _ in rounds]

    before = torch.get_rng_state()
    first, again, other = draw(1), draw(1), draw(2)
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert not torch.equal(torch.stack(first), torch.stack(other))
    assert len({tuple(coords.flatten().tolist()) for coords in first}) > 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("method", CLICK_METHODS)
def test_no_rule_reads_values_on_the_host(method: str) -> None:
    # A meta tensor has no values: every device-to-host read raises on it.
    truth = torch.zeros(2, 1, *SHAPE, dtype=torch.bool, device="meta")
    coords, labels = sample_clicks(truth, truth, method=method, largest=truth)
    assert coords.shape == (2, 1, 3)
    assert labels.shape == (2, 1)


def test_wrong_arguments_are_named() -> None:
    truth = _empty()
    with pytest.raises(ValueError, match="unknown click method 'best'; known: random, largest"):
        sample_clicks(truth, truth, method="best")
    with pytest.raises(ValueError, match=r"truth must be \(B, 1, D, H, W\), got \(3, 5, 7\)"):
        sample_clicks(truth[0, 0], truth[0, 0], method="random")
    with pytest.raises(ValueError, match="prediction must have the truth's shape"):
        sample_clicks(truth, truth[..., 1:], method="random")
    with pytest.raises(ValueError, match="largest must have the truth's shape"):
        sample_clicks(truth, truth, method="largest", largest=truth[..., 1:])


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["random", "largest"])
def test_a_click_never_waits_for_the_device(method: str) -> None:
    truth = torch.zeros(2, 1, 9, 14, 21, dtype=torch.bool, device="cuda")
    truth[:, :, 2:6, 3:9, 4:11] = True
    generator = torch.Generator("cuda").manual_seed(5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        _, labels = sample_clicks(
            truth, torch.zeros_like(truth), method=method, generator=generator, largest=truth
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert labels.tolist() == [[1], [1]]
