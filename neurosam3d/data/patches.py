"""Patches of whole scans with label maps, for networks that take no prompts, or learn with them.

Everything random is drawn from one seed per sample, as for crops around objects. Scans are turned
to RAS+, and seen slices first (see `neurosam3d.axes`).

Shapes: D H W voxels of a patch or of a scan: its slices, rows and columns.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from neurosam3d.axes import swap_slices
from neurosam3d.data.case import Case
from neurosam3d.data.labelled_scans import LabelledScan, LabelledScans
from neurosam3d.data.patch_transforms import get_patch_transform
from neurosam3d.data.sampler import SampleKey, drawing_from
from neurosam3d.data.store import ObjectMask
from neurosam3d.intensity import get_preset, normalize_crop
from neurosam3d.volume import Grid, Spacing, Triple


class PatchDataset(Dataset[dict[str, Any]]):
    """One patch of one scan per item: the image and a label map of the wanted classes.

    Training patches are placed and augmented at random; turns, zooms and flips are one sampling of
    the scan, of just the voxels that the patch covers. All others are centred on the largest object
    of their scan, at its voxel nearest to its centre of mass, and draw nothing.

    Args:
        sets: Cases by the name of their set.
        classes: Names of the classes; the k-th has the value k, from 1. Where they overlap the
            later one stands. What a set does not label is background.
        crop_size: Voxels D, H, W of a patch.
        spacing: Voxel size in mm that scans are resampled to; None keeps each scan's own.
        intensity: An intensity preset or expression.
        transform: Name of a patch transform.
        training: Whether to place patches at random and augment them.
        foreground: Share of the training patches that surely hold a voxel of a class. The class is
            drawn first, so that small ones come as often as large ones, then one of its voxels, as
            in nnU-Net (arXiv:1904.08128). The other patches lie anywhere in the scan.
        length: Patches of an epoch, each of a scan drawn at random; None takes every scan once.
        cache_dir: Folder of the store of prepared scans, as for `PromptableDataset`.

    Attributes:
        scans: The scans with one of the classes.
        volumes: Where their prepared images and labels come from.

    Raises:
        ValueError: If a name is unknown or a number is out of range, or if the transform moves raw
            intensities and the preset has none.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[Case]],
        *,
        classes: Sequence[str],
        crop_size: Triple,
        spacing: Spacing | None,
        intensity: str,
        transform: str,
        training: bool,
        foreground: float = 0.33,
        length: int | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        check_patches(crop_size, foreground=foreground, length=length)
        self._transform = get_patch_transform(transform, intensity=intensity)
        self.scans = LabelledScans(
            sets, classes=classes, spacing=spacing, intensity=intensity, cache_dir=cache_dir
        )
        self.volumes = self.scans.volumes
        d, h, w = crop_size
        self._size: Triple = (w, h, d)  # along the scan's axes
        self.intensity = intensity
        self.training = training
        self.foreground = foreground
        self.length = length
        self.padding = get_preset(intensity).padding

    def __len__(self) -> int:
        return len(self.scans) if self.length is None else self.length

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Make one sample.

        Args:
            key: Index and seed as the sampler gives them; a bare index is its own seed.

        Returns:
            `image` (1, D, H, W) float32, normalised; `label` (1, D, H, W) uint8, 0 for background;
            `affine` (4, 4) float64 from voxel of the patch to RAS+ millimetres, turns and flips
            included; `dataset` (the set's name), `case`; `index`.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(key, seed=key)
        index = range(len(self))[key.index]
        with drawing_from(key.seed):
            if self.length is not None:
                index = int(torch.randint(len(self.scans), ()))
            scan = self.scans[index]
            return self._draw(scan, key.index) if self.training else self._fixed(scan, key.index)

    def _fixed(self, scan: LabelledScan, index: int) -> dict[str, Any]:
        mask = scan.largest
        grid = self._grid(scan, _add(mask.start, mask.center), self._middle, np.eye(3))
        image, label = scan.read(grid, fill=self.padding)
        return make_item(scan, index, normalize_crop(image, self.intensity), label, grid)

    def _draw(self, scan: LabelledScan, index: int) -> dict[str, Any]:
        transform = self._transform
        voxel, anchor = self._draw_place(scan)
        matrix = transform.draw_matrix(scan.image.grid.orientation)
        grid = self._grid(scan, voxel, anchor, matrix)
        offset = transform.draw_offset()
        # What is outside the scan keeps the padding's value whatever is added.
        image, label = scan.read(grid, fill=self.padding - offset)
        image = transform.change(normalize_crop(image + offset, self.intensity))
        return make_item(scan, index, image, label, grid)

    def _draw_place(self, scan: LabelledScan) -> tuple[Triple, Triple]:
        """Draw a voxel of the scan, and the voxel of the patch that lies there."""
        if torch.rand(()) < self.foreground:
            masks: Sequence[ObjectMask] = list(scan.objects.values())
            mask = masks[int(torch.randint(len(masks), ()))]
            return _add(mask.start, mask.draw_voxel()), self._draw_anchor()
        first = [
            int(torch.randint(min(0, n - side), max(0, n - side) + 1, ()))
            for n, side in zip(scan.image.voxels.shape, self._size, strict=True)
        ]
        return _add(first, self._middle), self._middle

    def _draw_anchor(self) -> Triple:
        """Draw a voxel of the patch, as far from its middle as the transform says."""
        reach = [round(self._transform.jitter * side) for side in self._size]
        return _add(self._middle, [int(torch.randint(-r, r + 1, ())) for r in reach])

    @property
    def _middle(self) -> Triple:
        first, second, third = self._size
        return first // 2, second // 2, third // 2

    def _grid(self, scan: LabelledScan, voxel: Triple, anchor: Triple, matrix: np.ndarray) -> Grid:
        """Return the patch's grid: `anchor` of it lies on `voxel` of the scan.

        Args:
            scan: The scan.
            voxel: Index in the scan.
            anchor: Index in the patch.
            matrix: (3, 3), from millimetres along the patch's axes to such along the scan's.
        """
        spacing = np.asarray(scan.image.grid.spacing)
        mapping = np.eye(4)  # index in the patch -> index in the scan
        mapping[:3, :3] = matrix * spacing / spacing[:, None]
        mapping[:3, 3] = voxel - mapping[:3, :3] @ anchor
        return Grid(self._size, scan.image.affine @ mapping)


class WholeScanDataset(Dataset[dict[str, Any]]):
    """A whole scan per item, on its working grid, with the keys that `PatchDataset` has.

    Args:
        sets: Cases by the name of their set.
        classes: Names of the classes, as for `PatchDataset`.
        spacing: Voxel size in mm that scans are resampled to; None keeps each scan's own.
        intensity: An intensity preset or expression; the crop stage is applied to the whole scan.
        cache_dir: Folder of the store of prepared scans.

    Attributes:
        scans: The scans with one of the classes.
        volumes: Where their prepared images and labels come from.

    Raises:
        ValueError: As `LabelledScans`.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[Case]],
        *,
        classes: Sequence[str],
        spacing: Spacing | None,
        intensity: str,
        cache_dir: Path | None = None,
    ) -> None:
        self.scans = LabelledScans(
            sets, classes=classes, spacing=spacing, intensity=intensity, cache_dir=cache_dir
        )
        self.volumes = self.scans.volumes
        self.intensity = intensity

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Read one scan; see `PatchDataset`."""
        index = key.index if isinstance(key, SampleKey) else key
        scan = self.scans[index]
        grid = scan.image.grid
        image, label = scan.read(grid, fill=0)
        return make_item(scan, index, normalize_crop(image, self.intensity), label, grid)


def make_item(
    scan: LabelledScan, index: int, image: Tensor, label: Tensor, grid: Grid
) -> dict[str, Any]:
    """Put the parts of a sample together, slices first.

    Args:
        scan: The scan.
        index: Number of the sample.
        image: (1, W, H, D), along the scan's axes.
        label: The same.
        grid: Where they lie.
    """
    return {
        "image": swap_slices(image).contiguous(),  # (1, D, H, W)
        "label": swap_slices(label).contiguous(),
        "affine": torch.from_numpy(grid.affine[:, [2, 1, 0, 3]]),
        "dataset": scan.dataset,
        "case": scan.case,
        "index": index,
    }


def check_patches(crop_size: Sequence[int], *, foreground: float, length: int | None) -> None:
    """Refuse numbers that no patches can be drawn with.

    Raises:
        ValueError: If one is out of range.
    """
    if len(crop_size) != 3 or min(crop_size) < 1:
        raise ValueError(f"crop_size is three positive numbers of voxels, got {tuple(crop_size)}")
    if not 0 <= foreground <= 1:
        raise ValueError(f"foreground is a share from 0 to 1, got {foreground}")
    if length is not None and length < 1:
        raise ValueError(f"an epoch has at least 1 patch, got {length}")


def _add(one: Sequence[int], other: Sequence[int]) -> Triple:
    d, h, w = (a + b for a, b in zip(one, other, strict=True))
    return d, h, w
