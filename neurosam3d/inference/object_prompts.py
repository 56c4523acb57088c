"""What a user points at, checked and brought to voxel indices of the scan.

Shapes: N points; D H W voxels of a mask.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from neurosam3d.inference.mask_prompt import MaskPrompt, place_mask
from neurosam3d.inference.working_scan import map_points
from neurosam3d.volume import Grid, Volume

Coordinates = Sequence[Sequence[float]] | np.ndarray


@dataclass(frozen=True)
class ObjectPrompts:
    """Points, box and mask for one object; at least one of them says where it is.

    Args:
        points: Voxel indices (N, 3) of the scan in its own axis order.
        labels: One per point: 1 inside the object, 0 outside. By default all are inside.
        box: [[min0, min1, min2], [max0, max1, max2]], both corners included.
        mask: A rough mask. An array lies on the scan's grid; a file or Volume on any grid of the
            same space. Booleans and integers mark foreground; floating point numbers are logits,
            unless they are only 0 and 1.
        world: Points and box are RAS+ millimetres. The box is then the smallest in voxels around
            the one in space.
    """

    points: Coordinates | None = None
    labels: Sequence[int] | np.ndarray | None = None
    box: Coordinates | None = None
    mask: MaskPrompt | None = None
    world: bool = False


@dataclass(frozen=True, eq=False)
class PlacedPrompts:
    """The same in voxel indices of the scan.

    Args:
        points: (N, 3).
        labels: (N,), 0 or 1.
        box: Corners (2, 3), lowest first, both included.
        mask: Logits (1, D, H, W) on a grid of their own.
    """

    points: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    box: np.ndarray | None = None
    mask: Volume | None = None

    @property
    def positive(self) -> np.ndarray:
        """The points (P, 3) inside the object."""
        return self.points[self.labels == 1]

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask with foreground."""
        return self.mask is not None and bool((self.mask.data > 0).any())

    def joined(self, new: "PlacedPrompts") -> "PlacedPrompts":
        """Return these prompts with further ones; a new box or mask takes the place of the old."""
        return PlacedPrompts(
            np.concatenate([self.points, new.points]),
            np.concatenate([self.labels, new.labels]),
            self.box if new.box is None else new.box,
            self.mask if new.mask is None else new.mask,
        )


def place_prompts(prompts: ObjectPrompts, grid: Grid) -> PlacedPrompts:
    """Check prompts against a scan's grid and bring them to its voxel indices.

    Raises:
        ValueError: If a shape, a label or a number is not allowed, or a prompt lies outside the
            scan.
    """
    points = np.empty((0, 3))
    if prompts.points is not None:
        points = place_points(prompts.points, grid, world=prompts.world)
    box = None if prompts.box is None else place_box(prompts.box, grid, world=prompts.world)
    mask = None if prompts.mask is None else place_mask(prompts.mask, grid)
    return PlacedPrompts(points, _checked_labels(prompts.labels, len(points)), box, mask)


def require_place(prompts: PlacedPrompts) -> None:
    """Refuse prompts of which none says where the object is.

    Raises:
        ValueError: If there is no point inside it, no box and no mask with foreground.
    """
    if not (len(prompts.positive) or prompts.box is not None or prompts.has_mask):
        raise ValueError(
            "a prompt must say where the object is: a point with label 1, a box, or a mask with "
            f"foreground; got {len(prompts.points)} points with label 0"
        )


def place_points(points: Coordinates, grid: Grid, *, world: bool = False) -> np.ndarray:
    """Return points as voxel indices (N, 3).

    Raises:
        ValueError: If they are not (N, 3) finite numbers inside the scan.
    """
    given = np.asarray(points, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != 3 or not np.isfinite(given).all():
        raise ValueError(f"points must be finite numbers (N, 3), got {_shown(points)}")
    indices = map_points(given, np.eye(4), grid.affine) if world else given
    outside = ((indices < -0.5) | (indices >= np.array(grid.shape) - 0.5)).any(axis=1)
    if outside.any():
        first = given[outside][0].tolist()
        raise ValueError(f"points must lie inside the scan of {_extent(grid, world)}, got {first}")
    return indices


def place_box(box: Coordinates, grid: Grid, *, world: bool = False) -> np.ndarray:
    """Return the corners of a box as voxel indices (2, 3), lowest first, cut at the scan's border.

    Raises:
        ValueError: If it is not two corners of finite numbers, lowest first, or lies outside the
            scan.
    """
    given = np.asarray(box, dtype=np.float64)
    if given.shape != (2, 3) or not np.isfinite(given).all() or (given[0] > given[1]).any():
        raise ValueError(
            "a box must be [[min0, min1, min2], [max0, max1, max2]] with no minimum above its "
            f"maximum, got {_shown(box)}"
        )
    corners = given
    if world:
        eight = np.array(list(itertools.product(*given.T)))
        indices = map_points(eight, np.eye(4), grid.affine)
        corners = np.stack([indices.min(axis=0), indices.max(axis=0)])
    last = np.array(grid.shape) - 1
    if (corners[1] < -0.5).any() or (corners[0] > last + 0.5).any():
        extent = _extent(grid, world)
        raise ValueError(f"a box must meet the scan of {extent}, got {given.tolist()}")
    return np.clip(corners, 0, last)


def _checked_labels(labels: Sequence[int] | np.ndarray | None, count: int) -> np.ndarray:
    if labels is None:
        return np.ones(count, dtype=np.int64)
    given = np.asarray(labels)
    if given.shape != (count,) or not np.isin(given, (0, 1)).all():
        raise ValueError(f"labels must be 1 or 0, one for each of {count} points, got {labels}")
    return given.astype(np.int64)


def _extent(grid: Grid, world: bool) -> str:
    """Describe where a scan lies, in the numbers that the user works with."""
    if not world:
        return f"shape {grid.shape}"
    last = np.array(grid.shape) - 1
    corners = np.array(list(itertools.product(*zip((0, 0, 0), last.tolist(), strict=True))))
    place = map_points(corners, grid.affine, np.eye(4))
    low, high = place.min(axis=0).round(1).tolist(), place.max(axis=0).round(1).tolist()
    return f"{low} to {high} mm"


def _shown(values: Coordinates) -> str:
    return str(np.asarray(values).tolist() if isinstance(values, np.ndarray) else values)
