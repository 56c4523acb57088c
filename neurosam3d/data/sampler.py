"""The order of the samples, and a seed for each: a run can stop anywhere and go on the same.

Nothing random is kept between samples. The run's seed, the epoch and the position in it decide
which case comes and what is drawn for it, so the result depends neither on the number of worker
processes nor on whether the run was interrupted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler


@dataclass(frozen=True)
class SampleKey:
    """What a dataset needs to make one sample: which case, and the seed of all randomness."""

    index: int
    seed: int


class ResumableSampler(Sampler[SampleKey]):
    """Hands out the samples of one process, shuffled anew each epoch, from any position on.

    The same permutation is dealt to all processes in turn. Its length stays that of a full epoch,
    also while an interrupted one is finished.

    Args:
        num_samples: Size of the dataset.
        shuffle: Whether each epoch has an order of its own.
        seed: Seed of the order and of the samples.
        num_replicas: Number of processes.
        rank: This process.
        drop_last: Leave out the samples that do not fill a round of all processes; otherwise some
            samples come twice, so that every process has as many.

    Attributes:
        epoch: The epoch that the next pass is.
        start: Samples of this process that the next pass skips; used up by it, and forgotten when
            another epoch begins.

    Raises:
        ValueError: If there are no samples, or no such rank.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        shuffle: bool,
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        drop_last: bool = False,
    ) -> None:
        if not 0 <= rank < num_replicas:
            raise ValueError(f"a rank is one of {num_replicas} processes, got {rank}")
        rounds = num_samples // num_replicas if drop_last else -(-num_samples // num_replicas)
        if rounds < 1:
            raise ValueError(f"{num_replicas} processes need a sample each, got {num_samples}")
        self.num_samples = num_samples
        self.shuffle = shuffle
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.start = 0
        self._length = rounds

    def __len__(self) -> int:
        return self._length

    @property
    def ends_with_repeat(self) -> bool:
        """Whether the last sample of this process only fills the round, and comes elsewhere too."""
        return self.rank + (self._length - 1) * self.num_replicas >= self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        start, self.start = self.start, 0
        order = self._order()
        total = self._length * self.num_replicas
        for position in range(self.rank + start * self.num_replicas, total, self.num_replicas):
            count = self.epoch * total + position  # samples of the whole run so far
            yield SampleKey(order[position % self.num_samples], sample_seed(self.seed, count))

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.num_samples))
        # Orders count down from the top, samples up from 0, so they never share a seed.
        generator = torch.Generator().manual_seed(sample_seed(self.seed, -1 - self.epoch))
        return torch.randperm(self.num_samples, generator=generator).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is; Lightning does so before each.

        Repeating the number keeps `start`, so that a place set for a resumed epoch survives.
        """
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next pass."""
        return {"epoch": self.epoch, "start": self.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place."""
        self.epoch, self.start = int(state["epoch"]), int(state["start"])


class LazyLoader(DataLoader[Any]):
    """A DataLoader that asks its sampler for nothing before the first batch is wanted.

    Lightning makes the epoch's iterator before it tells the sampler the epoch; workers would
    already have fetched samples of the wrong one.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let PyTorch's global generator draw from a seed, and leave it as it was before."""
    # torchio's noise seeds all generators of the process, so those of CUDA are put back, too.
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        yield


def sample_seed(seed: int, count: int) -> int:
    """Return the seed of the `count`-th sample of a run, 32 bits.

    PyTorch's CPU generator looks at the low 32 bits of a seed only. Mixing a counter of 32 bits
    one-to-one, rather than hashing epoch and position, makes collisions impossible before 4
    billion samples.
    """
    return _mix(_mix(count) ^ _mix(_mix(seed) + 1))  # not symmetric in the two


def _mix(value: int) -> int:
    """Scatter 32-bit numbers one-to-one (the finalizer of MurmurHash3)."""
    value &= 0xFFFFFFFF
    value = ((value ^ value >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    value = ((value ^ value >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return value ^ value >> 16
