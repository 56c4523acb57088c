"""What happened during a run of the automatic generator."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RunLog:
    """Counts and times.

    Args:
        counts: How often something happened.
        seconds: Time of encoding windows, decoding points, and restoring masks on the scan's grid.
        highest_stability: Of all answers.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"encode": 0.0, "decode": 0.0, "restore": 0.0}
    )
    highest_stability: float = 0.0

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the block's time to a step's."""
        start = time.perf_counter()
        yield
        self.add_seconds({step: time.perf_counter() - start})

    def add_seconds(self, seconds: dict[str, float]) -> None:
        """Add to the time of several steps."""
        for step, value in seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + value
