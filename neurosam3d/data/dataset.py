"""Crops around objects, with everything random drawn from one seed per sample.

Shapes: S crop side.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio as tio
from torch import Tensor
from torch.utils.data import Dataset

from neurosam3d.data.case import Case
from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.sampler import SampleKey, drawing_from
from neurosam3d.data.store import (
    MemoryVolumes,
    ObjectMask,
    Preparation,
    Volumes,
    VolumeStore,
)
from neurosam3d.data.transforms import get_transform_preset
from neurosam3d.intensity import normalize_crop, padding_value
from neurosam3d.prompts.components import largest_component
from neurosam3d.volume import Spacing, Triple

_MAX_DRAWS = 10


class PromptableDataset(Dataset[dict[str, Any]]):
    """One object of one scan per item: a cubic crop and its binary label.

    Training crops are placed and augmented as the transform preset says. All others are centred on
    the object's voxel nearest to its centre of mass, and draw nothing.

    Args:
        sets: Cases by the name of their set, for example those of
            `neurosam3d.data.index.find_sets`.
        img_size: Side S of the crops in voxels.
        spacing: Voxel size in mm that scans are resampled to; None keeps each scan's own.
        intensity: Name of an intensity preset.
        transform: Name of a transform preset.
        training: Whether to draw crops and augment them.
        min_foreground: Foreground voxels that a training crop should hold, or all of an object
            with fewer. A crop that misses too much is drawn again; at last it is centred on the
            object. It is never replaced by another case.
        cache_dir: Folder of the store of prepared scans, which makes what it lacks when that is
            wanted, or before by `neurosam3d.data.store.build_store`; None prepares a scan for every
            sample.

    Attributes:
        cases: The records of all items, in order.
        volumes: Where their prepared scans come from.

    Raises:
        ValueError: If a preset is unknown or a number is out of range.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[Case]],
        *,
        img_size: int,
        spacing: Spacing | None,
        intensity: str,
        transform: str,
        training: bool,
        min_foreground: int = 100,
        cache_dir: Path | None = None,
    ) -> None:
        if img_size < 1:
            raise ValueError(f"img_size is a positive number of voxels, got {img_size}")
        tables = [CaseTable.from_cases(cases) for cases in sets.values()]
        self.cases = CaseTable.join(tables)
        self._set_names = list(sets)
        self._set_ends = list(accumulate(map(len, tables)))
        self.img_size = img_size
        self._crop_size = (img_size, img_size, img_size)
        self.intensity = intensity
        self.training = training
        self.min_foreground = min_foreground
        self.padding = padding_value(intensity)
        preset = get_transform_preset(transform)
        self._center = preset.center
        self._augment = preset.build()
        preparation = Preparation(spacing, intensity)
        self.volumes: Volumes = (
            MemoryVolumes(self.cases, preparation)
            if cache_dir is None
            else VolumeStore(self.cases, preparation, cache_dir=cache_dir)
        )

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Make one sample.

        Args:
            key: Index and seed as the sampler gives them; a bare index is its own seed.

        Returns:
            `image` (1, S, S, S) float32, normalised; `label` (1, S, S, S) uint8; `largest`
            (1, S, S, S) bool, the largest component of the label; `affine` (4, 4) float64 of the
            crop before augmentation; `dataset` (the set's name), `class`, `case`; `index`.
        """
        key = key if isinstance(key, SampleKey) else SampleKey(key, seed=key)
        with drawing_from(key.seed):
            return self._make_sample(range(len(self))[key.index])

    def _make_sample(self, index: int) -> dict[str, Any]:
        case = self.cases[index]
        image, mask = self.volumes.image(index), self.volumes.object_mask(index)
        center, label = self._draw_crop(mask) if self.training else self._central_crop(mask)
        crop = image.crop(self._crop_size, center=center, fill=self.padding)
        voxels = normalize_crop(crop.data, self.intensity)
        if self.training:
            voxels, label = self._augmented(voxels, label, crop.affine)
        return {
            "image": voxels,
            "label": label,
            "largest": largest_component(label[0])[None],
            "affine": torch.from_numpy(crop.affine.copy()),
            "dataset": self._set_names[bisect_right(self._set_ends, index)],
            "class": case.class_name,
            "case": case.case_id,
            "index": index,
        }

    def _central_crop(self, mask: ObjectMask) -> tuple[Triple, Tensor]:
        return self._crop_label(mask, mask.center)

    def _draw_crop(self, mask: ObjectMask) -> tuple[Triple, Tensor]:
        """Place a crop until it holds enough of the object; at last, centre it on the object."""
        enough = min(self.min_foreground, mask.num_foreground)
        for _ in range(_MAX_DRAWS):
            place, label = self._crop_label(mask, self._center(mask))
            if label.sum() >= enough:
                return place, label
        return self._central_crop(mask)

    def _crop_label(self, mask: ObjectMask, center: Triple) -> tuple[Triple, Tensor]:
        """Cut the label around a voxel of the object's box; return its place in the image, too."""
        label = mask.crop(self._crop_size, center=center)
        d, h, w = (first + inside for first, inside in zip(mask.start, center, strict=True))
        return (d, h, w), label

    def _augmented(self, image: Tensor, label: Tensor, affine: np.ndarray) -> tuple[Tensor, Tensor]:
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=image, affine=affine),
            label=tio.LabelMap(tensor=label, affine=affine),
        )
        subject = self._augment(subject)
        image, label = subject.get_image("image").data, subject.get_image("label").data
        return image.contiguous(), label.contiguous()
