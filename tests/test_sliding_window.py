"""Windows over a whole image: where they meet, what is smaller than one, and mirroring."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosam3d.sliding_window import slide

CROP = (4, 6, 8)


def image_of(*shape: int) -> Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(3))


def two_channels(windows: Tensor) -> Tensor:
    """Answer by the voxel itself, in half precision as networks do under autocast."""
    return torch.cat([windows, 2 * windows], dim=1).half()


def first_voxel_marks(windows: Tensor) -> Tensor:
    """Answer 1 at a window's first voxel along D and 0 elsewhere: mirroring moves it."""
    logits = torch.zeros_like(windows)
    logits[:, :, 0] = 1
    return logits


@pytest.mark.parametrize("shape", [(9, 7, 19), (3, 7, 5), (4, 6, 8)])
@pytest.mark.parametrize("weighting", ["gaussian", "constant"])
def test_a_voxelwise_network_is_not_changed(shape: tuple[int, int, int], weighting: Any) -> None:
    image, sides = image_of(*shape), set()

    def network(windows: Tensor) -> Tensor:
        sides.add(tuple(windows.shape[2:]))
        return two_channels(windows)

    logits = slide(network, image, crop_size=CROP, weighting=weighting, batch_size=3)
    assert logits.dtype == torch.float32
    assert sides == {CROP}
    torch.testing.assert_close(logits, two_channels(image).float(), atol=2e-3, rtol=0)


def count_windows(**options: Any) -> int:
    calls = []

    def network(windows: Tensor) -> Tensor:
        calls.append(len(windows))
        return windows

    slide(network, image_of(4, 6, 24), crop_size=CROP, **options)
    return sum(calls)


def test_overlap_decides_on_the_number_of_windows() -> None:
    assert count_windows(overlap=0.0) == 3
    assert count_windows(overlap=0.5) == 5
    assert count_windows(overlap=0.0, mirror=True) == 24


@pytest.mark.parametrize(("weighting", "least"), [("constant", 0.5), ("gaussian", 0.0)])
def test_the_middle_of_a_window_counts_most(weighting: Any, least: float) -> None:
    def by_place(windows: Tensor) -> Tensor:
        return windows.new_tensor([0, 0, 0, 0, 0, 0, 0, 1]).expand_as(windows).clone()

    logits = slide(by_place, image_of(4, 6, 12), crop_size=CROP, weighting=weighting)
    last_of_first = logits[0, 0, 1, 2, 7].item()  # the fourth voxel of the second window
    assert last_of_first == pytest.approx(least, abs=0.02)


def test_mirroring_averages_over_eight_forms() -> None:
    image = image_of(*CROP)
    plain = slide(first_voxel_marks, image, crop_size=CROP)
    assert plain[0, 0, :, 0, 0].tolist() == [1, 0, 0, 0]
    mirrored = slide(first_voxel_marks, image, crop_size=CROP, mirror=True)
    assert mirrored[0, 0, :, 3, 5].tolist() == [0.5, 0, 0, 0.5]
    same = slide(two_channels, image, crop_size=CROP, mirror=True)
    torch.testing.assert_close(same, two_channels(image).float(), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slide(two_channels, image_of(4, 6, 8)[0], crop_size=CROP), "got .1, 4, 6, 8. and"),
        (lambda: slide(two_channels, image_of(4, 6, 8), crop_size=(4, 6)), "three sides, got"),
        (
            lambda: slide(two_channels, image_of(4, 6, 8), crop_size=CROP, overlap=1.0),
            "overlap must be at least 0 and below 1, got 1.0",
        ),
        (
            lambda: slide(two_channels, image_of(4, 6, 8), crop_size=CROP, batch_size=0),
            "batch_size must be at least 1, got 0",
        ),
        (
            lambda: slide(two_channels, image_of(4, 6, 8), crop_size=CROP, weighting="x"),
            "unknown weighting 'x'; known: gaussian, constant",
        ),
    ],
)
def test_what_makes_no_windows_is_refused(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
