"""Crops around objects of prepared sets as the DataLoaders of a run."""

import logging
from collections.abc import Sequence

from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.data.overlap import Sets
from neurosam3d.data.prepared_datamodule import (
    PreparedDataModule,
    keep_classes,
    require_at_least,
    require_spacing,
)
from neurosam3d.data.transforms import get_transform_preset
from neurosam3d.data.tree import DEFAULT_ROOT
from neurosam3d.intensity import padding_value
from neurosam3d.volume import Spacing

logger = logging.getLogger(__name__)


class NeuroSamDataModule(PreparedDataModule):
    """Crops of prepared sets for training and validation, whole scans for test and prediction.

    A training crop of the default preset lies around a random voxel of the object, at 1.5 mm, with
    SAM-Med3D's intensities: at use a region of interest follows the user's click, not the unknown
    centre of the object, and the published weights know this resolution and this z-score. Crops for
    validation are centred on the object and never change. Test and prediction get the paths of
    whole scans, shared out among the processes, and read them themselves.

    The seed, the epoch and the position in it decide what a training sample is. Nothing else does,
    so batches do not depend on the number of workers, and a run can go on in mid-epoch: set the
    epoch and `start` of `train_sampler` before the loader is iterated.

    Args:
        data_dir: Root of the prepared tree, where data.py has put it.
        img_size: Side of the cubic crops in voxels.
        batch_size: Crops per batch and process.
        num_workers: Worker processes per loader; 0 prepares crops in the main process.
        volume_threshold: Objects must be larger than this, in cubic millimetres, in all sets.
        training_sets: Sets to train on, as <NAME>_<SET>, for example AMOS_Tr.
        validation_sets: Sets for validation, test and prediction; without any, training runs
            without validation.
        classes: Classes whose objects are seen, in all sets; by default all. Every one must be in
            the training sets.
        cache_dir: Folder for scans as the crops need them, at most 4 bytes per voxel after
            resampling (10 MB for a cube of 200 mm at 1.5 mm). It is filled before the run by
            `num_workers` processes, on each node, and may be shared by nodes, runs and users, or
            lie on a node's own disk ($TMPDIR is understood). Nothing in it is ever deleted: delete
            it whenever you like. Without it every sample decodes and resamples its scan, which is
            far slower: set it for anything but a trial.
        transform: How training crops are placed and augmented. neurosam3d: around a random voxel of
            the object, with flips, 90 degree rotations, and one of gamma, noise, blur, histogram
            shift and sharpening half of the time. sam_med3d: around the middle of the object's
            bounding box, with flips.
        intensity: How intensities are normalised. sam_med3d: z-score over the crop's voxels above
            0. neurosam3d: percentiles 0.05 and 99.95 of the scan to -1 and 1. none: as stored.
        spacing: Voxel size in mm that scans are resampled to; null keeps each scan's own.
        min_foreground: Voxels of its object that a training crop should hold, or all of a smaller
            one. A crop with less is drawn again, at last around the object's centre.
        seed: Seed of the order of the samples and of everything drawn for them.
        predict_images: Folder of scans that predict segments by the prompts of predict_prompts;
            without it, predict clicks the objects of the validation sets.
        predict_prompts: JSON or CSV with the prompts of those scans, as `neurosam3d segment` takes
            them.

    Raises:
        ValueError: If a preset is unknown or a number is out of range.
    """

    def __init__(
        self,
        data_dir: str = str(DEFAULT_ROOT),
        img_size: int = 128,
        batch_size: int = 4,
        num_workers: int = 4,
        volume_threshold: float = 100.0,
        training_sets: Sequence[str] = (),
        validation_sets: Sequence[str] = (),
        classes: Sequence[str] = (),
        cache_dir: str | None = None,
        transform: str = "neurosam3d",
        intensity: str = "sam_med3d",
        spacing: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
        min_foreground: int = 100,
        seed: int = 2024,
        predict_images: str | None = None,
        predict_prompts: str | None = None,
    ) -> None:
        super().__init__(
            data_dir=data_dir,
            batch_size=batch_size,
            num_workers=num_workers,
            training_sets=training_sets,
            validation_sets=validation_sets,
            cache_dir=cache_dir,
            seed=seed,
            predict_images=predict_images,
        )
        get_transform_preset(transform)
        padding_value(intensity)
        require_at_least(1, img_size, "img_size")
        if (predict_images is None) != (predict_prompts is None):
            raise ValueError(
                "predict_images and predict_prompts are given together, got "
                f"{predict_images} and {predict_prompts}"
            )
        require_spacing(spacing)
        self.img_size = img_size
        self.volume_threshold = volume_threshold
        self.classes = tuple(classes)
        self.transform = transform
        self.intensity = intensity
        self.spacing: Spacing | None = spacing
        self.min_foreground = min_foreground
        self.predict_prompts = predict_prompts

    def _select(self, sets: Sets, *, training: bool) -> Sets:
        """Leave out the objects of other classes, and those that are too small."""
        if self.classes and sets:
            sets = keep_classes(sets, self.classes, all_present=training)
        return {name: self._large_enough(name, cases) for name, cases in sets.items()}

    def _large_enough(self, name: str, cases: CaseTable) -> CaseTable:
        volumes = cases.volumes_mm3
        kept = cases.select(volumes > self.volume_threshold)
        if not kept:
            largest = volumes.max(initial=0.0)
            raise ValueError(
                f"{name} needs an object larger than volume_threshold = "
                f"{self.volume_threshold:g} mm^3, but the largest of its {len(cases)} has "
                f"{largest:g} mm^3"
            )
        logger.info(
            "%s: %d objects, %d of at most %g mm^3 left out",
            *(name, len(kept), len(cases) - len(kept), self.volume_threshold),
        )
        return kept

    def _dataset(self, sets: Sets, *, training: bool) -> PromptableDataset:
        return PromptableDataset(
            sets,
            img_size=self.img_size,
            spacing=self.spacing,
            intensity=self.intensity,
            transform=self.transform,
            training=training,
            min_foreground=self.min_foreground,
            cache_dir=self.cache_dir,
        )
