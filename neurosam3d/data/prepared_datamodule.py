"""What all DataModules over prepared sets share: finding sets, filling the cache, loaders."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import distributed
from torch.utils.data import DataLoader

from neurosam3d.data.index import find_sets
from neurosam3d.data.overlap import Sets, warn_of_overlap
from neurosam3d.data.sampler import LazyLoader, ResumableSampler, SampleKey
from neurosam3d.data.scan_list import ScanList
from neurosam3d.data.store import Volumes, VolumeStore, build_store
from neurosam3d.volume import Spacing

logger = logging.getLogger(__name__)

WHOLE_SCANS = ("test", "predict")  # the stages that see no crops


class PreparedDataset(Protocol):
    """Samples of prepared sets."""

    @property
    def volumes(self) -> Volumes:
        """Where their prepared scans come from."""

    def __len__(self) -> int:
        """Return how many samples there are."""

    def __getitem__(self, key: SampleKey, /) -> dict[str, Any]:
        """Make one sample."""


class PreparedDataModule(pl.LightningDataModule, ABC):
    """Samples of prepared sets for training and validation, whole scans for test and prediction.

    The seed, the epoch and the position in it decide what a training sample is. Nothing else does,
    so batches do not depend on the number of workers, and a run can go on in mid-epoch: set the
    epoch and `start` of `train_sampler` before the loader is iterated.

    Args:
        data_dir: Root of the prepared tree.
        batch_size: Samples per batch and process.
        num_workers: Worker processes per loader.
        training_sets: Sets to train on.
        validation_sets: Sets for validation, test and prediction.
        cache_dir: Folder of the store of prepared scans.
        seed: Seed of the order of the samples and of everything drawn for them.
        predict_images: Folder of scans that take the place of the validation sets in prediction.

    Attributes:
        predict_names: What prediction yields where there is `predict_images`; set it before.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        data_dir: str,
        batch_size: int,
        num_workers: int,
        training_sets: Sequence[str],
        validation_sets: Sequence[str],
        cache_dir: str | None,
        seed: int,
        predict_images: str | None,
    ) -> None:
        super().__init__()
        require_at_least(1, batch_size, "batch_size")
        require_at_least(0, num_workers, "num_workers")
        self.data_dir = Path(data_dir)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.training_sets = tuple(training_sets)
        self.validation_sets = tuple(validation_sets)
        self.cache_dir = None if cache_dir is None else _expand(cache_dir)
        self.seed = seed
        self.predict_images = predict_images
        self.predict_names: Sequence[str] = ()

    @abstractmethod
    def _select(self, sets: Sets, *, training: bool) -> Sets:
        """Return sets without the cases that shall not be seen.

        Raises:
            ValueError: If nothing is left of one.
        """

    @abstractmethod
    def _dataset(self, sets: Sets, *, training: bool) -> PreparedDataset:
        """Make the samples of sets."""

    @property
    def _validation_batch_size(self) -> int:
        return self.batch_size

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
            ValueError: If none are named, one is not prepared, or none of its cases is fit; or if
                the Trainer would share the samples out a second time.
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
        """Return the shuffled, augmented samples of the training sets."""
        return self._loader(self.training_data, self.train_sampler, batch_size=self.batch_size)

    def val_dataloader(self) -> LazyLoader | list[LazyLoader]:
        """Return the fixed samples of the validation sets; none without such sets."""
        if not self.validation_sets:
            return []
        return self._loader(
            self.evaluation_data,
            self._sampler(self.evaluation_data, shuffle=False),
            batch_size=self._validation_batch_size,
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
        evaluation = find_sets(self.data_dir, self.validation_sets)
        training = find_sets(self.data_dir, self.training_sets) if fit else {}
        return self._select(training, training=True), self._select(evaluation, training=False)

    def _sampler(self, dataset: PreparedDataset, *, shuffle: bool) -> ResumableSampler:
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

    def _loader(
        self, dataset: PreparedDataset, sampler: ResumableSampler, *, batch_size: int
    ) -> LazyLoader:
        return LazyLoader(
            dataset,  # type: ignore[arg-type]  # it need not inherit from Dataset
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            # Its own generator: making an iterator must not draw from the model's randomness.
            generator=torch.Generator().manual_seed(self.seed),
        )


def require_at_least(least: int, number: int, name: str) -> None:
    """Refuse a number that is too small.

    Raises:
        ValueError: If it is smaller than the least; the sentence names it.
    """
    if number < least:
        raise ValueError(f"{name} is at least {least}, got {number}")


def require_spacing(spacing: Spacing | None) -> None:
    """Refuse a voxel size that is none.

    Raises:
        ValueError: If it is not three positive numbers, or None.
    """
    if spacing is not None and min(spacing) <= 0:
        raise ValueError(f"spacing is three positive numbers in mm or null, got {spacing}")


def keep_classes(sets: Sets, classes: Sequence[str], *, all_present: bool) -> Sets:
    """Return sets with the cases of some classes only; scans with none of them are counted.

    Args:
        sets: The sets.
        classes: Names of the classes.
        all_present: Whether the sets together must have every class.

    Raises:
        ValueError: If one must be there and is not, or a set has none of them.
    """
    found = list(dict.fromkeys(name for cases in sets.values() for name in cases.list_classes()))
    missing = [name for name in classes if name not in found]
    if all_present and missing:
        raise ValueError(
            f"the training sets {', '.join(sets)} must have every class of `classes`, got "
            f"{', '.join(missing)}; they have: {', '.join(found)}"
        )
    kept = {name: cases.of_classes(classes) for name, cases in sets.items()}
    for name, cases in kept.items():
        if not cases:
            raise ValueError(
                f"{name} must have one of the classes {', '.join(classes)}; "
                f"it has: {', '.join(sets[name].list_classes())}"
            )
        logger.info(
            "%s: %d scans with one of the classes, %d without left out",
            *(name, cases.num_images, sets[name].num_images - cases.num_images),
        )
    return kept


def _require(names: Sequence[str], argument: str, *, needed: bool) -> None:
    if needed and not names:
        raise ValueError(f"{argument} names at least one prepared set, got none")


def _refuse_second_sampler(trainer: Any) -> None:
    """Lightning's distributed sampler around ours would leave most samples out."""
    connector = getattr(trainer, "_accelerator_connector", None)
    if connector is not None and trainer.world_size > 1 and connector.use_distributed_sampler:
        raise ValueError(
            "with several processes the Trainer needs use_distributed_sampler=False, got True: "
            "the DataModule shares the samples out itself"
        )


def _expand(folder: str) -> Path:
    """Put the values of environment variables, and of ~, into a path."""
    expanded = os.path.expanduser(os.path.expandvars(folder))
    if "$" in expanded:
        raise ValueError(
            f"cache_dir may only name environment variables that are set, got {folder}"
        )
    return Path(expanded)
