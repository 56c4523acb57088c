"""What counts as foreground."""

import torch

from neurosam3d.prompts import foreground


def test_above_zero_and_nothing_else() -> None:
    logits = torch.tensor([[-3.0, -0.0], [0.0, 1e-6]])
    assert foreground(logits).tolist() == [[False, False], [False, True]]
    labels = torch.tensor([-1, 0, 1, 7], dtype=torch.int16)
    assert foreground(labels).tolist() == [False, False, True, True]
    mask = torch.tensor([True, False])
    assert foreground(mask) is mask
