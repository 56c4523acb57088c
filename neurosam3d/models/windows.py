"""Cut a token grid into windows for attention, and put it together again.

Shapes: B batch, C channels; d h w = token grid along tensor axes 2 3 4 of the image; nd nh nw =
windows along them; d' h' w' = tokens of a window.
"""

from collections.abc import Iterator
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


def split_windows(x: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """Cut (B, d, h, w, C) into (B * nd * nh * nw, d', h', w', C)."""
    for axis, count in zip((3, 2, 1), reversed(counts), strict=True):
        x = x.unflatten(axis, (count, -1))  # finally (B, nd, d', nh, h', nw, w', C)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3)


def merge_windows(x: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """Undo `split_windows`."""
    x = x.unflatten(0, (-1, *counts))  # (B, nd, nh, nw, d', h', w', C)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
