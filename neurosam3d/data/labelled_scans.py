"""Whole prepared scans with one label map of the wanted classes, to be read on any grid.

Shapes: D H W voxels of the grid that is read, N scans.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosam3d.data.case import Case
from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.store import (
    MemoryVolumes,
    ObjectMask,
    Preparation,
    PreparedImage,
    Volumes,
    VolumeStore,
)
from neurosam3d.volume import Grid, Spacing, Triple, Volume, restore


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A prepared scan and its objects.

    Args:
        dataset: Name of its set.
        case: Its name.
        image: The prepared image.
        objects: The mask of each class that is present, by its value in the label map, rising.
    """

    dataset: str
    case: str
    image: PreparedImage
    objects: Mapping[int, ObjectMask]

    @property
    def largest(self) -> ObjectMask:
        """The object with the most voxels."""
        return max(self.objects.values(), key=lambda mask: mask.num_foreground)

    def read(self, grid: Grid, *, fill: float) -> tuple[Tensor, Tensor]:
        """Read image and label map on a grid, and of the scan only what that covers.

        Args:
            grid: Where to read; turned, scaled and mirrored grids are sampled, linearly the image
                and the label by the nearest voxel, unless the voxels coincide.
            fill: Value of the image outside the scan.

        Returns:
            The image (1, D, H, W) float32, and the label (1, D, H, W) uint8.
        """
        first, size = _covered(np.linalg.inv(self.image.affine) @ grid.affine, grid.shape)
        d, h, w = (a + n // 2 for a, n in zip(first, size, strict=True))
        image = self.image.crop(size, center=(d, h, w), fill=fill)
        labels = np.zeros(size, np.uint8)
        for value, mask in self.objects.items():
            mask.paint(labels, first=first, value=value)
        label = Volume(torch.from_numpy(labels[None]), image.affine)
        return restore(image, grid, fill=fill).data, restore(label, grid, mode="nearest").data


class LabelledScans(Sequence[LabelledScan]):
    """The scans of prepared sets that hold a wanted class.

    Args:
        sets: Cases by the name of their set.
        classes: Names of the wanted classes; the k-th has the value k, from 1, in label maps.
            Where classes overlap the later one stands. What a set does not label is background.
        spacing: Voxel size in mm that scans are resampled to; None keeps each scan's own.
        intensity: An intensity preset or expression.
        cache_dir: Folder of the store of prepared scans, as for `PromptableDataset`.

    Attributes:
        cases: The records of all objects.
        volumes: Where their prepared scans come from.

    Raises:
        ValueError: If there are no classes, one twice or more than 255; or if the intensity is
            unknown or a number out of range.
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
        if not 0 < len(set(classes)) == len(classes) <= 255:
            raise ValueError(f"a label map has 1 to 255 different classes, got {list(classes)}")
        tables = [CaseTable.from_cases(cases).of_classes(classes) for cases in sets.values()]
        self.cases = CaseTable.join(tables)
        self._values = {name: value for value, name in enumerate(classes, start=1)}
        self._set_names = list(sets)
        self._set_ends = list(accumulate(table.num_images for table in tables))
        preparation = Preparation(spacing, intensity)
        self.volumes: Volumes = (
            MemoryVolumes(self.cases, preparation)
            if cache_dir is None
            else VolumeStore(self.cases, preparation, cache_dir=cache_dir)
        )

    def __len__(self) -> int:
        return self.cases.num_images

    def __getitem__(self, index: int) -> LabelledScan:  # type: ignore[override]
        """Open a scan; its voxels are read when they are wanted."""
        number = range(len(self))[index]
        rows = self.cases.rows_of_image(number)
        values = {self._values[self.cases[row].class_name]: row for row in rows}
        return LabelledScan(
            dataset=self._set_names[bisect_right(self._set_ends, number)],
            case=self.cases[rows[0]].case_id,
            image=self.volumes.image(rows[0]),
            objects={value: self.volumes.object_mask(values[value]) for value in sorted(values)},
        )


def _covered(mapping: np.ndarray, shape: Triple) -> tuple[Triple, Triple]:
    """Return first voxel and shape of the smallest box that covers a grid mapped into it."""
    ends = product(*((0, n - 1) for n in shape))
    corners = (mapping @ np.array([(*end, 1) for end in ends]).T)[:3].round(6)  # (3, 8)
    low, high = np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1))
    d, h, w = low.astype(int).tolist()
    depth, height, width = (high - low + 1).astype(int).tolist()
    return (d, h, w), (depth, height, width)
