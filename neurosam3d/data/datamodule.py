"""Prepared sets as the DataLoaders of a run."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import distributed
from torch.utils.data import DataLoader

from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.data.index import find_sets
from neurosam3d.data.overlap import Sets, warn_of_overlap
from neurosam3d.data.sampler import LazyLoader, ResumableSampler
from neurosam3d.data.scan_list import ScanList
from neurosam3d.data.store import VolumeStore, build_store
from neurosam3d.data.transforms import get_transform_preset
from neurosam3d.data.tree import DEFAULT_ROOT
from neurosam3d.intensity import padding_value
from neurosam3d.volume import Spacing

logger = logging.getLogger(__name__)

WHOLE_SCANS = ("test", "predict")  # the stages that see no crops


class NeuroSamDataModule(pl.LightningDataModule):
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
        cache_dir: str | None = None,
        transform: str = "neurosam3d",
        intensity: str = "sam_med3d",
        spacing: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
        min_foreground: int = 100,
        seed: int = 2024,
        predict_images: str | None = None,
        predict_prompts: str | None = None,
    ) -> None:
        super().__init__()
        get_transform_preset(transform)
        padding_value(intensity)
        for name, value, least in (
            ("img_size", img_size, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name} is at least {least}, got {value}")
        if (predict_images is None) != (predict_prompts is None):
            raise ValueError(
                "predict_images and predict_prompts are given together, got "
                f"{predict_images} and {predict_prompts}"
            )
        if spacing is not None and min(spacing) <= 0:
            raise ValueError(f"spacing is three positive numbers in mm or null, got {spacing}")
        self.data_dir = Path(data_dir)
        self.img_size = img_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.volume_threshold = volume_threshold
        self.training_sets = tuple(training_sets)
        self.validation_sets = tuple(validation_sets)
        self.cache_dir = None if cache_dir is None else _expand(cache_dir)
        self.transform = transform
        self.intensity = intensity
        self.spacing: Spacing | None = spacing
        self.min_foreground = min_foreground
        self.seed = seed
        self.predict_images = predict_images
        self.predict_prompts = predict_prompts
        self.predict_names: Sequence[str] = ()  # of the scans in predict_images that have prompts

    def prepare_data(self) -> None:
        """Fill the cache, where there is one; Lightning calls this once per node.

        A trial run (`fast_dev_run`) only makes what its few batches need, when they need it. Test
        and prediction read whole scans, which are not cached.

        Raises:
            ValueError: As `setup`; or if a scan cannot be prepared or the folder not written to.
        """
        trainer: Any = self.trainer
        if self.cache_dir is None or (trainer is not None and trainer.fast_dev_run):
            return
        if trainer is not None and trainer.state.fn in WHOLE_SCANS:
            return
        node, num_nodes = (0, 1) if trainer is None else (trainer.node_rank, trainer.num_nodes)
        training, evaluation = self._find_stage(None if trainer is None else trainer.state.fn)
        for title, sets in (("cache training", training), ("cache validation", evaluation)):
            if sets:
                store = self._dataset(sets, training=False).volumes
                assert isinstance(store, VolumeStore)
                build_store(
                    store,
                    workers=max(1, self.num_workers),
                    title=title,
                    node=node,
                    num_nodes=num_nodes,
                )

    def setup(self, stage: str | None = None) -> None:
        """Find the sets of a stage, before anything is computed.

        Raises:
            ValueError: If none are named, one is not prepared, or none of its objects is large
                enough; or if the Trainer would share the samples out a second time.
        """
        if stage == "predict" and self.predict_images is not None:
            return
        training, evaluation = self._find_stage(stage)
        if stage in WHOLE_SCANS:
            self.scans = ScanList(evaluation)
            return
        if evaluation:
            self.evaluation_data = self._dataset(evaluation, training=False)
        if training:
            warn_of_overlap(training, evaluation)
            self.training_data = self._dataset(training, training=True)
            self.train_sampler = self._sampler(self.training_data, shuffle=True)

    def train_dataloader(self) -> LazyLoader:
        """Return shuffled, augmented crops of the training sets."""
        return self._loader(self.training_data, self.train_sampler)

    def val_dataloader(self) -> LazyLoader | list[LazyLoader]:
        """Return the fixed crops of the validation sets; none without such sets."""
        if not self.validation_sets:
            return []
        return self._loader(
            self.evaluation_data, self._sampler(self.evaluation_data, shuffle=False)
        )

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the scans of the validation sets, as plain text, this process's share of them."""
        return self._share(self.scans)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the names of scans in `predict_images`, or the scans of the validation sets."""
        return self._share(self.scans if self.predict_images is None else list(self.predict_names))

    def _find_stage(self, stage: str | None) -> tuple[Sets, Sets]:
        """Read the indexes of the training sets of a stage, if it trains, and of the others."""
        _refuse_second_sampler(self.trainer)
        fit = stage in ("fit", None)
        _require(self.training_sets, "training_sets", needed=fit)
        _require(self.validation_sets, "validation_sets", needed=not fit)
        evaluation = self._find(self.validation_sets)
        return self._find(self.training_sets) if fit else {}, evaluation

    def _find(self, names: Sequence[str]) -> Sets:
        """Read the indexes of sets, without the objects that are too small."""
        sets = find_sets(self.data_dir, names)
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

    def _sampler(self, dataset: PromptableDataset, *, shuffle: bool) -> ResumableSampler:
        num_replicas, rank = self._place_among_processes()
        return ResumableSampler(
            len(dataset), shuffle=shuffle, seed=self.seed, num_replicas=num_replicas, rank=rank
        )

    def _place_among_processes(self) -> tuple[int, int]:
        """Return how many processes share the samples, and which one this is."""
        trainer: Any = self.trainer
        if trainer is not None:
            return trainer.world_size, trainer.global_rank
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_world_size(), distributed.get_rank()
        return 1, 0

    def _share(self, items: Any) -> DataLoader[Any]:
        """Deal items to the processes in turn, each to one of them."""
        num_replicas, rank = self._place_among_processes()
        mine = range(rank, len(items), num_replicas)
        return DataLoader(items, batch_size=None, sampler=mine)

    def _loader(self, dataset: PromptableDataset, sampler: ResumableSampler) -> LazyLoader:
        return LazyLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Its own generator: making an iterator must not draw from the model's randomness.
            generator=torch.Generator().manual_seed(self.seed),
        )


def _require(names: Sequence[str], argument: str, *, needed: bool) -> None:
    if needed and not names:
        raise ValueError(f"{argument} names at least one prepared set, got none")


def _refuse_second_sampler(trainer: Any) -> None:
    """Lightning's distributed sampler around ours would leave most samples out."""
    connector = getattr(trainer, "_accelerator_connector", None)
    if connector is not None and trainer.world_size > 1 and connector.use_distributed_sampler:
        raise ValueError(
            "with several processes the Trainer needs use_distributed_sampler=False, got True: "
            "NeuroSamDataModule shares the samples out itself"
        )


def _expand(folder: str) -> Path:
    """Put the values of environment variables, and of ~, into a path."""
    expanded = os.path.expanduser(os.path.expandvars(folder))
    if "$" in expanded:
        raise ValueError(
            f"cache_dir may only name environment variables that are set, got {folder}"
        )
    return Path(expanded)
