"""Cut a token grid into windows for attention, and put it together again.

Shapes: B batch, C channels; d h w = token grid along tensor axes 2 3 4 of the image; nd nh nw =
windows along them; d' h' w' = tokens of a window.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from torch import Tensor

Region = tuple[slice, slice, slice]


def window_regions(
    grid: tuple[int, ...], window: int, shift: int = 0
) -> Iterator[tuple[Region, tuple[int, int, int]]]:
    """Divide a token grid into regions of equally large windows, cut off at the ends.

    Args:
        grid: Sides in tokens.
        window: Side of a window.
        shift: Where the first whole window begins; before it there is a part of one. To roll the
            grid and hide from each other what was apart (arXiv:2103.14030, section 3.2) comes to
            the same, with more work.

    Yields:
        The region and how many windows it holds along each axis.
    """
    axes = []
    for side in grid:
        last = shift + (side - shift) // window * window
        pieces = [
            (slice(0, shift), 1),
            (slice(shift, last), (last - shift) // window),
            (slice(last, side), 1),
        ]
        axes.append([(piece, count) for piece, count in pieces if piece.start < piece.stop])
    for (d, num_d), (h, num_h), (w, num_w) in product(*axes):
        yield (d, h, w), (num_d, num_h, num_w)


def split_windows(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Cut (B, d, h, w, C) into (B * nd * nh * nw, d', h', w', C); grids may have other axes."""
    num_axes = len(counts)
    for axis, count in reversed(list(enumerate(counts, 1))):
        x = x.unflatten(axis, (count, -1))  # finally (B, nd, d', nh, h', nw, w', C)
    windows, tokens = range(1, 2 * num_axes, 2), range(2, 2 * num_axes + 1, 2)
    return x.permute(0, *windows, *tokens, -1).flatten(0, num_axes)


def merge_windows(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Undo `split_windows`."""
    num_axes = len(counts)
    x = x.unflatten(0, (-1, *counts))  # (B, nd, nh, nw, d', h', w', C)
    pairs = [axis for first in range(1, num_axes + 1) for axis in (first, first + num_axes)]
    x = x.permute(0, *pairs, -1)  # (B, nd, d', nh, h', nw, w', C)
    for axis in range(1, num_axes + 1):
        x = x.flatten(axis, axis + 1)
    return x
