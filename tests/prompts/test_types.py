"""The prompt record."""

import pytest
import torch

from neurosam3d.prompts import Prompts


def test_clicks_accumulate_and_the_rest_is_kept() -> None:
    box = torch.tensor([[[1.0, 2, 3], [4, 5, 6]]])
    first = Prompts(box=box).add_click(torch.tensor([[[1.0, 2, 3]]]), torch.tensor([[1]]))
    second = first.add_click(torch.tensor([[[4.0, 5, 6]]]), torch.tensor([[0]]))
    assert second.points is not None
    assert second.labels is not None
    assert second.points.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert second.labels.tolist() == [[1, 0]]
    assert second.box is box
    assert first.points is not None
    assert first.points.shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"points": (1, 2, 3)}, "points and labels are given together"),
        ({"points": (1, 3), "labels": (1,)}, r"points must be \(B, N, 3\), got \(1, 3\)"),
        ({"points": (2, 4, 3), "labels": (2, 3)}, r"labels must be \(2, 4\).* got \(2, 3\)"),
        ({"box": (1, 6)}, r"box must be \(B, 2, 3\), got \(1, 6\)"),
        ({"mask": (1, 4, 4, 4)}, r"mask must be \(B, 1, M, M, M\), got \(1, 4, 4, 4\)"),
    ],
)
def test_wrong_shapes_are_named(fields: dict[str, tuple[int, ...]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Prompts(**{name: torch.zeros(shape) for name, shape in fields.items()})
