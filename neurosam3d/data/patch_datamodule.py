"""Patches of prepared sets with label maps as the DataLoaders of a run."""

from collections.abc import Sequence
from typing import Literal

from neurosam3d.data.index import find_sets
from neurosam3d.data.overlap import Sets
from neurosam3d.data.patch_transforms import get_patch_transform
from neurosam3d.data.patches import PatchDataset, WholeScanDataset, check_patches
from neurosam3d.data.prepared_datamodule import PreparedDataModule, keep_classes, require_spacing
from neurosam3d.data.tree import DEFAULT_ROOT
from neurosam3d.volume import Spacing


class PatchDataModule(PreparedDataModule):
    """Patches with label maps for training, whole scans or fixed patches for validation.

    What a training patch is depends on the seed, the epoch and the position in it, and on nothing
    else, as for crops around objects. Test and prediction get the paths of whole scans, shared out
    among the processes, and read them themselves.

    Args:
        data_dir: Root of the prepared tree, where data.py has put it.
        crop_size: Voxels of a patch: slices, rows and columns, of axial slices.
        classes: Names of the classes, as the folders of labels are named; the k-th has the value k
            in label maps. Where classes overlap the later one stands. Every one must be in the
            training sets; scans with none are left out. A class that a set does not label is
            background there.
        batch_size: Patches per batch and process; whole scans come one by one.
        num_workers: Worker processes per loader; 0 prepares patches in the main process.
        training_sets: Sets to train on, as <NAME>_<SET>, for example KiTS_Tr.
        validation_sets: Sets for validation, test and prediction; without any, training runs
            without validation.
        cache_dir: Folder for scans as the patches need them, filled before the run; without it
            every sample decodes and resamples its scan, which is far slower. Runs that differ in
            clipping only, and promptable ones, share what is in it.
        transform: How training patches are augmented. baseline: rotation, zoom, flips, quarter
            turns, shift of intensity. adapter3d: zoom, flips, quarter turns, an offset of up to 20
            raw units. Both, with _in_plane, rotate and zoom within slices only. nnunet: nnU-Net's.
            none: nothing.
        intensity: How intensities are normalised: a preset, or an expression: "clip LOW HIGH", or
            "clip LOW HIGH mean M std S".
        spacing: Voxel size in mm that scans are resampled to: from left to right, from back to
            front, and from slice to slice. null keeps each scan's own.
        foreground: Share of the training patches that surely hold a voxel of a class; the others
            lie anywhere.
        patches_per_epoch: Patches of an epoch in all processes, each of a scan drawn at random;
            null takes one of every scan.
        validation: scans: whole scans, for a sliding window. crops: one patch of each scan around
            its largest object.
        seed: Seed of the order of the samples and of everything drawn for them.
        predict_images: Folder of scans that predict segments; without it, predict takes the
            validation sets.

    Raises:
        ValueError: If no classes are named, a preset is unknown or a number is out of range.
    """

    def __init__(
        self,
        data_dir: str = str(DEFAULT_ROOT),
        crop_size: tuple[int, int, int] = (64, 160, 160),
        classes: Sequence[str] = (),
        batch_size: int = 2,
        num_workers: int = 4,
        training_sets: Sequence[str] = (),
        validation_sets: Sequence[str] = (),
        cache_dir: str | None = None,
        transform: str = "baseline",
        intensity: str = "sam_med3d",
        spacing: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
        foreground: float = 0.33,
        patches_per_epoch: int | None = None,
        validation: Literal["scans", "crops"] = "scans",
        seed: int = 2024,
        predict_images: str | None = None,
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
        get_patch_transform(transform, intensity=intensity)
        check_patches(crop_size, foreground=foreground, length=patches_per_epoch)
        require_spacing(spacing)
        if not classes:
            raise ValueError(f"classes names what is segmented, got none; {self._tell_classes()}")
        self.crop_size = crop_size
        self.classes = tuple(classes)
        self.transform = transform
        self.intensity = intensity
        self.spacing: Spacing | None = spacing
        self.foreground = foreground
        self.patches_per_epoch = patches_per_epoch
        self.validation = validation

    def _tell_classes(self) -> str:
        """Say which classes the training sets have."""
        sets = find_sets(self.data_dir, self.training_sets)
        found = sorted({name for cases in sets.values() for name in cases.list_classes()})
        return f"the training sets have: {', '.join(found) or 'none, for none is named'}"

    def _select(self, sets: Sets, *, training: bool) -> Sets:
        return keep_classes(sets, self.classes, all_present=training) if sets else sets

    def _dataset(self, sets: Sets, *, training: bool) -> PatchDataset | WholeScanDataset:
        if not training and self.validation == "scans":
            return WholeScanDataset(
                sets,
                classes=self.classes,
                spacing=self.spacing,
                intensity=self.intensity,
                cache_dir=self.cache_dir,
            )
        return PatchDataset(
            sets,
            classes=self.classes,
            crop_size=self.crop_size,
            spacing=self.spacing,
            intensity=self.intensity,
            transform=self.transform,
            training=training,
            foreground=self.foreground,
            length=self.patches_per_epoch if training else None,
            cache_dir=self.cache_dir,
        )

    @property
    def _validation_batch_size(self) -> int:
        return 1 if self.validation == "scans" else self.batch_size
