"""How long a network takes to encode and to decode."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the seconds of what is done several times.

    Args:
        device: Where it is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = {"encode": 0.0, "decode": 0.0}

    def restart(self) -> None:
        """Count from 0 again."""
        self.seconds = {"encode": 0.0, "decode": 0.0}

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add a block's time, with what the device has still to do."""
        start = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[what] += time.perf_counter() - start
