"""A memory of embeddings that forgets the oldest."""

import pytest
import torch

from neurosam3d.inference.embeddings import EmbeddingCache
from neurosam3d.inference.windows import Window

A, B, C = (Window((start, 0, 0), (4, 4, 4)) for start in range(3))


class Encoder:
    """Counts what it computes; an embedding takes 400 bytes."""

    def __init__(self) -> None:
        self.windows: list[Window] = []

    def __call__(self, window: Window) -> torch.Tensor:
        self.windows.append(window)
        return torch.full((100,), float(window.start[0]))


def test_embedding_is_computed_once() -> None:
    cache, encode = EmbeddingCache(2000), Encoder()
    for _ in range(3):
        assert (cache.get(B, encode) == 1).all()
    assert encode.windows == [B]
    assert cache.num_bytes == 400


def test_least_recently_used_goes_first() -> None:
    cache, encode = EmbeddingCache(900), Encoder()
    for window in (A, B, A, C):  # B goes for C
        cache.get(window, encode)
    assert len(cache) == 2
    assert cache.num_bytes == 800
    cache.get(A, encode)
    assert encode.windows == [A, B, C]
    cache.get(B, encode)
    assert encode.windows == [A, B, C, B]


def test_window_of_another_level_is_another() -> None:
    cache, encode = EmbeddingCache(2000), Encoder()
    cache.get(A, encode)
    cache.get(Window(A.start, A.shape, level=1), encode)
    assert len(encode.windows) == 2


def test_nothing_is_kept_without_memory() -> None:
    cache, encode = EmbeddingCache(0), Encoder()
    cache.get(A, encode)
    cache.get(A, encode)
    assert len(cache) == 0
    assert encode.windows == [A, A]
    with pytest.raises(ValueError, match="cache_bytes must not be negative, got -1"):
        EmbeddingCache(-1)


def test_clear_forgets_all() -> None:
    cache, encode = EmbeddingCache(2000), Encoder()
    cache.get(A, encode)
    cache.clear()
    cache.get(A, encode)
    assert encode.windows == [A, A]
