"""Image embeddings of windows, kept as long as memory allows."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from neurosam3d.inference.network import Embedding
from neurosam3d.inference.windows import Window

E = TypeVar("E", bound=Embedding)


class EmbeddingCache:
    """Embeddings by window; the ones not used for longest give way.

    Args:
        max_bytes: How much they may take together. One that is larger alone is not kept.

    Raises:
        ValueError: If the limit is negative.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"cache_bytes must not be negative, got {max_bytes}")
        self.max_bytes = max_bytes
        self._kept: OrderedDict[Window, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_bytes(self) -> int:
        """Bytes that the kept embeddings take."""
        return sum(embedding.nbytes for embedding in self._kept.values())

    def get(self, window: Window, compute: Callable[[Window], E]) -> E:
        """Return the embedding of a window, computed if it is not kept."""
        if window in self._kept:
            self._kept.move_to_end(window)
            kept: E = self._kept[window]
            return kept
        embedding = compute(window)
        self._kept[window] = embedding
        while self.num_bytes > self.max_bytes:
            self._kept.popitem(last=False)
        return embedding

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
