"""What holds for all tests of networks."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    """Seed what networks and images are drawn from, whatever ran before."""
    torch.manual_seed(3)
