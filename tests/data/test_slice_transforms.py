"""What augmentation does to slices, with known answers."""

import pytest
import torch

from neurosam3d.data import slice_transforms
from neurosam3d.data.slice_transforms import get_slice_transform, rotate, turn_or_rotate


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A slice whose every pixel has a value of its own, and a label of the same pixels."""
    image = torch.arange(5 * 7, dtype=torch.float32).view(5, 7) - 3
    return image, (image > 12).to(torch.uint8)


def test_a_full_turn_changes_nothing_and_half_of_one_turns_both_axes() -> None:
    image, label = pair()
    same, same_label = rotate(image, label, degrees=360)
    torch.testing.assert_close(same, image, atol=1e-3, rtol=0)
    assert torch.equal(same_label, label)
    turned, turned_label = rotate(image, label, degrees=180)
    torch.testing.assert_close(turned, image.flip(0, 1), atol=1e-3, rtol=0)
    assert torch.equal(turned_label, label.flip(0, 1))


def test_a_rotation_keeps_angles_in_slices_that_are_not_square() -> None:
    image = torch.zeros(41, 81)
    image[20, 28:53] = 1  # a bar along the columns, through the middle
    label = image.to(torch.uint8)
    turned, turned_label = rotate(image, label, degrees=90)
    assert turned_label[8:33, 40].all()
    assert turned_label.sum() == label.sum() == 25
    assert turned_label.dtype == torch.uint8
    torch.testing.assert_close(turned[8:33, 40], torch.ones(25), atol=1e-3, rtol=0)
    tilted, _ = rotate(image, label, degrees=20)
    rows, columns = (tilted > 0.3).nonzero().T.float()
    slope = ((rows - 20) * (columns - 40)).sum() / ((columns - 40) ** 2).sum()
    assert slope.abs().item() == pytest.approx(0.364, abs=0.03)  # of 20 degrees
    assert ((tilted > 0.01) & (tilted < 0.99)).any()  # not the nearest pixel's value


def test_what_comes_from_outside_is_dark_and_background() -> None:
    turned, label = rotate(torch.full((9, 9), 5.0) + torch.eye(9), torch.ones(9, 9), degrees=45)
    assert turned[0, 0].item() == pytest.approx(5.0)
    assert (label[0, 0], label[4, 4]) == (0, 1)


def test_half_are_turned_by_quarters_and_a_quarter_are_rotated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    angles = []

    def record(
        image: torch.Tensor, label: torch.Tensor, *, degrees: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        angles.append(degrees)
        return image, label

    monkeypatch.setattr(slice_transforms, "rotate", record)
    torch.manual_seed(0)
    image, label = pair()
    seen: dict[bytes, int] = {}
    for _ in range(800):
        turned, turned_label = turn_or_rotate(image, label)
        assert torch.equal(turned_label, (turned > 12).to(torch.uint8))
        seen[turned.numpy().tobytes()] = seen.get(turned.numpy().tobytes(), 0) + 1
    turns = [torch.rot90(image.flip(0), quarters).contiguous() for quarters in range(4)]
    counts = [seen.pop(turn.numpy().tobytes()) for turn in turns]
    assert seen.keys() == {image.numpy().tobytes()}
    assert min(counts) > 60
    assert 340 < sum(counts) < 460
    assert 160 < len(angles) < 240
    assert -20 <= min(angles) < -18
    assert 18 < max(angles) <= 20


def test_names_are_known() -> None:
    image, label = pair()
    assert get_slice_transform("none")(image, label) == (image, label)
    assert get_slice_transform("samed") is turn_or_rotate
    with pytest.raises(ValueError, match="unknown slice transform 'nnunet'; known: none, samed"):
        get_slice_transform("nnunet")
