"""Sampler: who gets what, with which seed, and how to go on in the middle of an epoch."""

import itertools

import pytest
import torch
from torch.utils.data import Dataset

from neurosam3d.data.sampler import LazyLoader, ResumableSampler, SampleKey, sample_seed


class Echo(Dataset):
    """Returns what it was asked for, and a draw from that seed."""

    def __getitem__(self, key: SampleKey) -> tuple[int, int, torch.Tensor]:
        generator = torch.Generator().manual_seed(key.seed)
        return key.index, key.seed, torch.rand(3, generator=generator)

    def __len__(self) -> int:
        return 23


def make_sampler(num_samples: int = 23, **options) -> ResumableSampler:
    return ResumableSampler(num_samples, **{"shuffle": True, "seed": 7, **options})


def epoch_of(sampler: ResumableSampler, epoch: int) -> list[SampleKey]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_epoch_holds_every_sample_once_in_an_order_of_its_own():
    sampler = make_sampler()
    orders = [[key.index for key in epoch_of(sampler, epoch)] for epoch in range(3)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [key.index for key in epoch_of(sampler, 1)] == orders[1]


def test_the_seed_decides_the_order():
    first, second = (epoch_of(make_sampler(seed=seed), 0) for seed in (7, 8))
    assert [key.index for key in first] != [key.index for key in second]
    assert {key.seed for key in first}.isdisjoint(key.seed for key in second)


def test_without_shuffling_the_order_is_that_of_the_data():
    assert [key.index for key in epoch_of(make_sampler(shuffle=False), 5)] == list(range(23))


def test_no_two_epochs_or_positions_share_a_stream():
    sampler = make_sampler(1000)
    seeds = [key.seed for epoch in range(100) for key in epoch_of(sampler, epoch)]
    # PyTorch's CPU generator looks at 32 bits of the seed only. Random 32-bit numbers would
    # collide about once in 100000 draws.
    assert len({seed % 2**32 for seed in seeds}) == len(seeds) == 100_000


def test_the_low_bits_of_a_seed_are_all_that_pytorch_uses():
    low, high = (torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**32))
    assert torch.equal(torch.rand(9, generator=low), torch.rand(9, generator=high))
    assert 0 <= sample_seed(2**40, 2**40) < 2**32


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("num_samples", "num_replicas"), [(23, 4), (24, 4), (3, 2), (2, 5)])
def test_processes_share_an_epoch(num_samples, num_replicas, drop_last):
    if drop_last and num_samples < num_replicas:
        with pytest.raises(ValueError, match="5 processes need a sample each, got 2"):
            make_sampler(num_samples, num_replicas=num_replicas, drop_last=True)
        return
    samplers = [
        make_sampler(num_samples, num_replicas=num_replicas, rank=r, drop_last=drop_last)
        for r in range(num_replicas)
    ]
    parts = [epoch_of(sampler, 2) for sampler in samplers]
    rounds = num_samples // num_replicas if drop_last else -(-num_samples // num_replicas)
    assert [len(part) for part in parts] == [rounds] * num_replicas
    keys = list(itertools.chain(*parts))
    assert len({key.seed for key in keys}) == len(keys)
    indices = [key.index for key in keys]
    if drop_last:
        assert len(set(indices)) == len(indices)
    else:
        assert set(indices) == set(range(num_samples))
        repeats = sum(sampler.ends_with_repeat for sampler in samplers)
        assert repeats == len(keys) - num_samples
        assert max(indices.count(index) for index in indices) <= -(-len(keys) // num_samples)


def test_a_round_of_all_processes_is_a_stretch_of_the_common_order():
    whole = [key.index for key in epoch_of(make_sampler(24), 3)]
    parts = [epoch_of(make_sampler(24, num_replicas=3, rank=rank), 3) for rank in range(3)]
    dealt = [key.index for one_round in zip(*parts, strict=True) for key in one_round]
    assert dealt == whole


@pytest.mark.parametrize("num_replicas", [1, 3])
def test_a_resumed_epoch_is_the_tail_of_the_uninterrupted_one(num_replicas):
    rank = num_replicas - 1
    whole = epoch_of(make_sampler(num_replicas=num_replicas, rank=rank), 4)
    resumed = make_sampler(num_replicas=num_replicas, rank=rank)
    resumed.set_epoch(4)
    resumed.start = 5
    assert list(resumed) == whole[5:]


def test_start_survives_the_same_epoch_and_is_used_up_by_one_pass():
    sampler = make_sampler()
    sampler.set_epoch(2)
    sampler.start = 20
    sampler.set_epoch(2)  # as Lightning does when the resumed epoch begins
    assert len(sampler) == 23
    assert len(list(sampler)) == 3
    assert len(list(sampler)) == 23


def test_start_is_forgotten_when_another_epoch_begins():
    sampler = make_sampler()
    sampler.start = 20
    sampler.set_epoch(1)
    assert len(list(sampler)) == 23


def test_state_is_the_place_of_the_next_pass():
    sampler = make_sampler()
    sampler.set_epoch(3)
    sampler.start = 9
    other = make_sampler()
    other.load_state_dict(sampler.state_dict())
    assert list(other) == epoch_of(make_sampler(), 3)[9:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "1 processes need a sample each, got 0"),
        ({"num_samples": 4, "num_replicas": 2, "rank": 2}, "one of 2 processes, got 2"),
    ],
)
def test_impossible_shares_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_sampler(**options)


def flat(batches: list) -> list[tuple[int, int, tuple[float, ...]]]:
    return [
        (index, seed, tuple(draw))
        for indices, seeds, draws in batches
        for index, seed, draw in zip(
            *(part.tolist() for part in (indices, seeds, draws)), strict=True
        )
    ]


def loader_of(sampler: ResumableSampler, num_workers: int) -> LazyLoader:
    return LazyLoader(
        Echo(),
        batch_size=4,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_loaders_resume_alike_with_any_number_of_workers(num_workers):
    reference = loader_of(make_sampler(), 0)
    reference.sampler.set_epoch(1)
    whole = flat(list(reference))

    sampler = make_sampler()
    loader = loader_of(sampler, num_workers)
    sampler.set_epoch(1)
    sampler.start = 2 * 4
    assert len(loader) == 6
    assert flat(list(loader)) == whole[8:]
    sampler.set_epoch(2)
    reference.sampler.set_epoch(2)
    assert flat(list(loader)) == flat(list(reference))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_reads_the_epoch_when_the_first_batch_is_wanted(num_workers):
    """Lightning makes the iterator first and tells the epoch, or the place, afterwards."""
    sampler = make_sampler()
    loader = loader_of(sampler, num_workers)
    iterator = iter(loader)
    sampler.set_epoch(3)
    sampler.start = 12
    expected = epoch_of(make_sampler(), 3)[12:]
    seen = [key[:2] for key in flat(list(iterator))]
    assert seen == [(key.index, key.seed) for key in expected]
