"""How the benchmarks measure: interleaved minima, a unit of arithmetic, bytes kept for the
backward pass.
"""

import time
import weakref
from collections.abc import Callable

import torch
from torch import Tensor

GEMM_SIDE = 2048


def gemm_seconds() -> float:
    """Time one 2048 x 2048 x 2048 float32 matrix product, the unit that makes machines
    comparable.
    """
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(GEMM_SIDE, GEMM_SIDE, generator=generator)
    b = torch.randn(GEMM_SIDE, GEMM_SIDE, generator=generator)
    start = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - start


def interleaved_minima(
    candidates: dict[str, Callable[[], object]], *, repeats: int
) -> dict[str, float]:
    """Time each candidate and the unit product in turns and keep each one's minimum.

    Taking turns exposes all of them to the same load of a shared machine.

    Args:
        candidates: Name to a function without arguments.
        repeats: Rounds; one more is run first to warm up and not counted.

    Returns:
        Seconds by name, with the unit under ``"gemm"``.
    """
    best = dict.fromkeys([*candidates, "gemm"], float("inf"))
    for round_index in range(repeats + 1):
        for name, function in candidates.items():
            unit = gemm_seconds()
            start = time.perf_counter()
            function()
            seconds = time.perf_counter() - start
            if round_index:
                best[name] = min(best[name], seconds)
                best["gemm"] = min(best["gemm"], unit)
    return best


class _Saved:
    """A tensor that autograd keeps, for as long as it does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_tensors(forward: Callable[[], Tensor]) -> list[Tensor]:
    """Return what a forward pass keeps for its backward pass.

    What was kept and freed before the pass ended, for a part that went backward already, is not
    among it.

    Args:
        forward: Runs the pass and returns its output.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        kept.add(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        output = forward()
    assert output.requires_grad
    return [saved.tensor for saved in kept]


def saved_megabytes(forward: Callable[[], Tensor], parameters: set[int]) -> float:
    """Return the MiB of distinct storage that a forward pass keeps for its backward pass.

    Args:
        forward: Runs the pass and returns its output.
        parameters: The parameters' storages, by `_cdata`, which are not counted.
    """
    # Storages without data have no data_ptr.
    storages = [tensor.untyped_storage() for tensor in saved_tensors(forward)]
    sizes = {s._cdata: s.nbytes() for s in storages if s._cdata not in parameters}
    return sum(sizes.values()) / 2**20
