"""Slices of prepared sets with label maps as the DataLoaders of a run."""

from collections.abc import Sequence
from typing import Literal

from neurosam3d.data.index import find_sets
from neurosam3d.data.overlap import Sets
from neurosam3d.data.prepared_datamodule import PreparedDataModule, keep_classes, require_spacing
from neurosam3d.data.slice_feed import SliceFeed, require_same_in_parts
from neurosam3d.data.slice_transforms import get_slice_transform
from neurosam3d.data.slices import SliceDataset, SlicedScanDataset, Which
from neurosam3d.data.tree import DEFAULT_ROOT
from neurosam3d.slices import Axis, axis_order
from neurosam3d.volume import Spacing


class SliceDataModule(PreparedDataModule):
    """Slices with label maps for training, whole scans or fixed slices for validation.

    What a training slice is depends on the seed, the epoch and the position in it, and on nothing
    else, as for crops around objects. Test and prediction get the paths of whole scans, shared out
    among the processes, and read them themselves.

    Args:
        data_dir: Root of the prepared tree, where data.py has put it.
        img_size: Side of the network's image in pixels, to which slices are scaled.
        classes: Names of the classes, as the folders of labels are named; the k-th has the value k
            in label maps. Where classes overlap the later one stands. Every one must be in the
            training sets; scans with none are left out.
        batch_size: Slices per batch and process; whole scans come one by one.
        num_workers: Worker processes per loader; 0 prepares slices in the main process.
        training_sets: Sets to train on, as <NAME>_<SET>, for example Synapse_Tr.
        validation_sets: Sets for validation, test and prediction; without any, training runs
            without validation.
        cache_dir: Folder for scans as the slices need them, filled before the run; without it every
            sample decodes its scan, which is far slower.
        axis: What slices are stacked along: axial, coronal or sagittal.
        feeding: How slices become what the network sees. samed: scaled to img_size along each axis.
            sam, sam_med2d, medsam: as those networks were trained.
        detail: Side in pixels to which slices are reduced first, as SAMed's training data were
            (224); null keeps all that a scan shows. For feeding samed.
        transform: How training slices are augmented. samed: quarter turns and flips, or rotation by
            up to 20 degrees. none: nothing.
        intensity: How intensities are normalised: a preset, or an expression: "clip LOW HIGH", or
            "clip LOW HIGH mean M std S". A slice by itself must tell what it needs to know.
        spacing: Voxel size in mm that scans are resampled to; null keeps each scan's own.
        slices: Slices of an epoch: all of every training scan, or those that are labelled.
        validation: scans: every slice of a scan at once, so that Dice is that of the scan. slices:
            the labelled slices.
        seed: Seed of the order of the samples and of everything drawn for them.
        predict_images: Folder of scans that predict segments; without it, predict takes the
            validation sets.
        predict_prompts: JSON or CSV with the prompts of those scans, as `neurosam3d segment` takes
            them, for networks that take prompts.

    Raises:
        ValueError: If no classes are named, a preset is unknown or a number is out of range.
    """

    def __init__(
        self,
        data_dir: str = str(DEFAULT_ROOT),
        img_size: int = 512,
        classes: Sequence[str] = (),
        batch_size: int = 12,
        num_workers: int = 4,
        training_sets: Sequence[str] = (),
        validation_sets: Sequence[str] = (),
        cache_dir: str | None = None,
        axis: Axis = "axial",
        feeding: str = "samed",
        detail: int | None = None,
        transform: str = "samed",
        intensity: str = "clip -125 275",
        spacing: tuple[float, float, float] | None = None,
        slices: Which = "all",
        validation: Literal["scans", "slices"] = "scans",
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
        self.feed = SliceFeed(feeding, img_size, detail)
        get_slice_transform(transform)
        require_same_in_parts(intensity)
        require_spacing(spacing)
        axis_order(axis)
        if not classes:
            raise ValueError(f"classes names what is segmented, got none; {self._tell_classes()}")
        self.classes = tuple(classes)
        self.axis: Axis = axis
        self.transform = transform
        self.intensity = intensity
        self.spacing: Spacing | None = spacing
        self.slices = slices
        self.validation = validation
        self.predict_prompts = predict_prompts

    def _tell_classes(self) -> str:
        """Say which classes the training sets have."""
        sets = find_sets(self.data_dir, self.training_sets)
        found = sorted({name for cases in sets.values() for name in cases.list_classes()})
        return f"the training sets have: {', '.join(found) or 'none, for none is named'}"

    def _select(self, sets: Sets, *, training: bool) -> Sets:
        return keep_classes(sets, self.classes, all_present=training) if sets else sets

    def _dataset(self, sets: Sets, *, training: bool) -> SliceDataset | SlicedScanDataset:
        if not training and self.validation == "scans":
            return SlicedScanDataset(
                sets,
                classes=self.classes,
                spacing=self.spacing,
                intensity=self.intensity,
                feed=self.feed,
                axis=self.axis,
                cache_dir=self.cache_dir,
            )
        return SliceDataset(
            sets,
            classes=self.classes,
            spacing=self.spacing,
            intensity=self.intensity,
            feed=self.feed,
            axis=self.axis,
            transform=self.transform,
            training=training,
            which=self.slices if training else "labelled",
            cache_dir=self.cache_dir,
        )

    @property
    def _validation_batch_size(self) -> int:
        return 1 if self.validation == "scans" else self.batch_size
