"""Slices of whole scans with label maps, as networks of slices see them.

Of a scan, the store reads one plane and not the rest. Scans are turned to RAS+; which plane a slice
is, and what its rows and columns follow, says `neurosam3d.slices`.

Shapes: R A S voxels of a scan; N slices; H W rows and columns of a slice; S side of the network's
image, C its channels: 1 or 3.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from neurosam3d.data.case import Case
from neurosam3d.data.labelled_scans import LabelledScan, LabelledScans
from neurosam3d.data.sampler import SampleKey, drawing_from
from neurosam3d.data.slice_feed import SliceFeed, require_same_in_parts
from neurosam3d.data.slice_transforms import get_slice_transform
from neurosam3d.intensity import normalize_crop
from neurosam3d.slices import Axis, axis_order, in_slice_order, to_slices
from neurosam3d.volume import Grid, Spacing, read_grid

Which = Literal["all", "labelled"]


class SliceDataset(Dataset[dict[str, Any]]):
    """One slice of one scan per item: the image and a label map of the wanted classes.

    Args:
        sets: Cases by the name of their set.
        classes: Names of the classes, as for `LabelledScans`.
        spacing: Voxel size in mm that scans are resampled to; None keeps each scan's own.
        intensity: An intensity preset or expression.
        feed: How slices become what the network sees.
        axis: What slices are stacked along.
        transform: Name of a slice transform, for training.
        training: Whether to augment.
        which: all slices, or those that hold a wanted class.
        cache_dir: Folder of the store of prepared scans, as for `PromptableDataset`.

    Attributes:
        scans: The scans with one of the classes.
        volumes: Where their prepared images and labels come from.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or a single slice does not tell
            what the intensity needs to know of the scan.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[Case]],
        *,
        classes: Sequence[str],
        spacing: Spacing | None,
        intensity: str,
        feed: SliceFeed,
        axis: Axis = "axial",
        transform: str = "none",
        training: bool = False,
        which: Which = "all",
        cache_dir: Path | None = None,
    ) -> None:
        require_same_in_parts(intensity)
        axis_order(axis)  # tells an unknown one
        self._augment = get_slice_transform(transform if training else "none")
        self.scans = LabelledScans(
            sets, classes=classes, spacing=spacing, intensity=intensity, cache_dir=cache_dir
        )
        self.volumes = self.scans.volumes
        self.spacing = spacing
        self.intensity = intensity
        self.feed = feed
        self.axis: Axis = axis
        self.which = which

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Make one sample.

        Args:
            key: Index and seed as the sampler gives them; a bare index is its own seed.

        Returns:
            `image` (C, S, S) float32; `label` (1, S, S) uint8, 0 for background; `dataset` (the
            set's name), `case`, `slice` (its number in the scan); `index`.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(key, seed=key)
        number, plane = self._places[range(len(self))[key.index]].tolist()
        scan = self.scans[number]
        image, label = read_slices(scan, self.axis, range(plane, plane + 1))
        image = normalize_crop(image[None], self.intensity)[0]  # (1, H, W)
        with drawing_from(key.seed):
            pair = self._augment(*self.feed.reduce(image[0], label[0]))
        image, label = self.feed.fit(*pair)
        return {
            "image": image,
            "label": label,
            "dataset": scan.dataset,
            "case": scan.case,
            "slice": plane,
            "index": key.index,
        }

    @cached_property
    def _places(self) -> np.ndarray:
        """Scan and slice of each item, (items, 2); found when they are first wanted, for in a store
        that is yet to be filled every scan would be prepared for that.
        """
        find = self._all_slices if self.which == "all" else self._labelled_slices
        found = [(number, find(number)) for number in range(len(self.scans))]
        places = [np.stack([np.full_like(planes, n), planes], axis=1) for n, planes in found]
        return np.concatenate(places)

    def _all_slices(self, number: int) -> np.ndarray:
        """Count the slices of a scan, of which only the header is read."""
        cases = self.scans.cases
        grid = read_grid(cases[cases.rows_of_image(number)[0]].image).canonical()
        grid = grid if self.spacing is None else grid.with_spacing(self.spacing)
        return np.arange(in_slice_order(grid.shape, self.axis)[0])

    def _labelled_slices(self, number: int) -> np.ndarray:
        axis = axis_order(self.axis)[0]
        found = []
        for mask in self.scans[number].objects.values():
            voxels = mask.foreground[(slice(0, mask.num_foreground),)]
            found.append(mask.start[axis] + np.unravel_index(voxels, mask.shape)[axis])
        return np.unique(np.concatenate(found))


class SlicedScanDataset(Dataset[dict[str, Any]]):
    """A whole scan per item, every slice of it as the network sees it.

    Args:
        sets: See `SliceDataset`, as for the other arguments.
        classes: Likewise.
        spacing: Likewise.
        intensity: Likewise.
        feed: Likewise.
        axis: Likewise.
        cache_dir: Likewise.

    Attributes:
        scans: The scans with one of the classes.
        volumes: Where their prepared images and labels come from.

    Raises:
        ValueError: As `SliceDataset`.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[Case]],
        *,
        classes: Sequence[str],
        spacing: Spacing | None,
        intensity: str,
        feed: SliceFeed,
        axis: Axis = "axial",
        cache_dir: Path | None = None,
    ) -> None:
        require_same_in_parts(intensity)
        axis_order(axis)
        self.scans = LabelledScans(
            sets, classes=classes, spacing=spacing, intensity=intensity, cache_dir=cache_dir
        )
        self.volumes = self.scans.volumes
        self.intensity = intensity
        self.feed = feed
        self.axis: Axis = axis

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Read one scan.

        Returns:
            `image` (C, N, S, S) float32; `label` (1, N, S, S) uint8; `affine` (4, 4) float64 from
            slice, row and column of these to RAS+ millimetres; `dataset`, `case`; `index`.
        """
        index = key.index if isinstance(key, SampleKey) else key
        scan = self.scans[index]
        number = in_slice_order(scan.image.grid.shape, self.axis)[0]
        images, labels = read_slices(scan, self.axis, range(number))
        images = normalize_crop(images[None], self.intensity)[0]  # (N, H, W)
        pairs = [
            self.feed.fit(*self.feed.reduce(image, label))
            for image, label in zip(images, labels, strict=True)
        ]
        fed, fitted = zip(*pairs, strict=True)
        return {
            "image": torch.stack(fed, dim=1),  # (C, N, S, S)
            "label": torch.stack(fitted, dim=1),
            "affine": torch.from_numpy(self._affine(scan.image.grid)),
            "dataset": scan.dataset,
            "case": scan.case,
            "index": index,
        }

    def _affine(self, grid: Grid) -> np.ndarray:
        """Map slice, row and column of the network's image to RAS+ millimetres; corners stay."""
        height, width = in_slice_order(grid.shape, self.axis)[1:]
        last = max(1, self.feed.img_size - 1)
        steps = (1.0, (height - 1) / last, (width - 1) / last)
        return grid.affine[:, [*axis_order(self.axis), 3]] * (*steps, 1.0)


def read_slices(scan: LabelledScan, axis: Axis, numbers: range) -> tuple[Tensor, Tensor]:
    """Read neighbouring slices of a scan.

    Args:
        scan: The scan.
        axis: What slices are stacked along.
        numbers: Which of them, one after the other.

    Returns:
        Images (n, H, W) float32, as prepared, and labels (n, H, W) uint8.
    """
    whole = scan.image.grid
    start, shape = [0, 0, 0], list(whole.shape)
    stacked = axis_order(axis)[0]
    start[stacked], shape[stacked] = numbers.start, len(numbers)
    grid: Grid = whole.window(start, shape)
    image, label = scan.read(grid, fill=0)
    return to_slices(image, axis), to_slices(label, axis)
