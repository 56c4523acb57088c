"""Where the first windows of an object lie.

Shapes: all indices are (3,), voxels of a working grid.
"""

from collections.abc import Sequence

import numpy as np

from neurosam3d.inference.growth import foreground_box
from neurosam3d.inference.object_prompts import PlacedPrompts
from neurosam3d.inference.windows import Window, centred_window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.volume import Triple

Extent = tuple[np.ndarray, np.ndarray]
"""First and last voxel."""


def prompt_extent(prompts: PlacedPrompts, scan: WorkingScan, *, level: int = 0) -> Extent:
    """Return what an object's prompts say it takes at least: its box, else mask, else points.

    Args:
        prompts: A box, a mask with foreground, or a point inside the object is among them.
        scan: The scan.
        level: Level of the working grid.
    """
    if prompts.box is not None:
        return box_extent(prompts.box, scan, level=level)
    if prompts.mask is not None and prompts.has_mask:
        return foreground_box(prompts.mask, scan.grid(level))
    points = scan.place(prompts.positive, level=level)
    return points.min(axis=0), points.max(axis=0)


def box_extent(box: np.ndarray, scan: WorkingScan, *, level: int = 0) -> Extent:
    """Return the first and last voxel of a box (2, 3), given in the scan's voxels."""
    # Its outer faces are mapped, not the centres of its corner voxels: one thick slice becomes
    # several voxels, and a box thinner than a voxel its middle.
    faces = scan.to_working(box + np.array([[-0.5], [0.5]]), level=level)
    low, high = faces.min(axis=0) + 0.5, faces.max(axis=0) - 0.5
    middle = (low + high) / 2
    return np.minimum(low, middle), np.maximum(high, middle)


def first_window(
    prompts: PlacedPrompts, scan: WorkingScan, roi_size: Triple, *, alone: bool
) -> Window | None:
    """Lay a window around all prompts.

    Points that spread wider than a window get one around the first of them. A box that is larger
    gets one of a coarser spacing; a mask that is larger gets none, as it leads the way itself.

    Args:
        prompts: What is known of the object.
        scan: The scan.
        roi_size: Voxels of a window.
        alone: There will be no other window: boxes and masks get one of level 0 in any case.
    """
    level = 0
    low, high = prompt_extent(prompts, scan)
    if prompts.box is None and not prompts.has_mask:
        if (high - low >= roi_size).any():
            low = high = scan.place(prompts.positive)[0]
        return window_around((low + high) / 2, scan, roi_size)
    while not alone and (high - low >= roi_size).any():
        if prompts.box is None:
            return None
        level += 1
        low, high = box_extent(prompts.box, scan, level=level)
    return window_around((low + high) / 2, scan, roi_size, level=level)


def window_around(
    centre: np.ndarray, scan: WorkingScan, roi_size: Triple, *, level: int = 0
) -> Window:
    """Return the window around a point, moved inside the scan."""
    return centred_window(centre, roi_size, scan_shape=scan.grid(level).shape, level=level)


def shared_windows(
    objects: Sequence[PlacedPrompts], scan: WorkingScan, roi_size: Triple
) -> list[Window | None]:
    """Lay windows that several objects have in common, so that they share an embedding.

    An object that only points tell of is taken to reach a quarter of a window beyond them.

    Returns:
        For each object its window, or None where it has one of its own.
    """
    groups: list[tuple[Extent, list[int]]] = []
    for number, prompts in enumerate(objects):
        low, high = prompt_extent(prompts, scan)
        if prompts.box is None and not prompts.has_mask:
            reach = np.floor_divide(roi_size, 4)
            low, high = low - reach, high + reach
        for index, ((lowest, highest), members) in enumerate(groups):
            union = np.minimum(low, lowest), np.maximum(high, highest)
            if (union[1] - union[0] < roi_size).all():
                groups[index] = (union, [*members, number])
                break
        else:
            groups.append(((low, high), [number]))
    windows: list[Window | None] = [None] * len(objects)
    for (low, high), members in groups:
        if len(members) > 1:
            shared = window_around((low + high) / 2, scan, roi_size)
            windows = [shared if n in members else own for n, own in enumerate(windows)]
    return windows
