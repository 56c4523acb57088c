"""Small crops with an ellipsoid in noise, batched as the data room does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SIDE = 32
AFFINE = torch.tensor(
    [[-1.5, 0, 0, 40], [0, 2, 0, -12], [0, 0, 1, 7], [0, 0, 0, 1]], dtype=torch.float64
)


@dataclass(frozen=True)
class Record:
    image: Path
    label: Path


class Crops(Dataset[dict[str, Any]]):
    """Crops whose every voxel follows from their index."""

    def __init__(self, num_cases: int) -> None:
        self.cases = [
            Record(Path(f"scan{n}.nii.gz"), Path(f"truth{n}.nii.gz")) for n in range(num_cases)
        ]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        label = ellipsoid(centre=(13 + index % 5, 17, 15), radii=(9, 5, 7))
        image = label + 0.5 * torch.randn(label.shape, generator=generator)
        return {
            "image": image,
            "label": label,
            "largest": label > 0,
            "case": f"scan{index}",
            "class": "liver" if index % 2 else "spleen",
            "dataset": "AMOS_Val",
            "affine": AFFINE,
            "index": index,
        }


def ellipsoid(*, centre: tuple[int, int, int], radii: tuple[int, int, int]) -> Tensor:
    """Return a mask (1, SIDE, SIDE, SIDE), uint8."""
    axes = [((torch.arange(SIDE) - c) / r) ** 2 for c, r in zip(centre, radii, strict=True)]
    distance = axes[0][:, None, None] + axes[1][:, None] + axes[2]
    return (distance <= 1).to(torch.uint8)[None]


class CropData(pl.LightningDataModule):
    """The same crops for training and validation, in order."""

    def __init__(self, num_cases: int, *, batch_size: int = 2) -> None:
        super().__init__()
        self.num_cases, self.batch_size = num_cases, batch_size

    def _loader(self) -> DataLoader[dict[str, Any]]:
        generator = torch.Generator()  # else the loader draws from the global state
        return DataLoader(Crops(self.num_cases), batch_size=self.batch_size, generator=generator)

    train_dataloader = val_dataloader = _loader


class ScanData(pl.LightningDataModule):
    """Scans for test and prediction, as the data room describes them."""

    def __init__(self, scans: Sequence[Any]) -> None:
        super().__init__()
        self.scans = scans

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(self.scans, batch_size=None)  # type: ignore[arg-type]

    test_dataloader = predict_dataloader = _loader


@pytest.fixture
def scan_entries(prepared_tree: Path) -> list[dict[str, Any]]:
    """Describe the two toy scans for validation, each with two objects."""
    folder = prepared_tree / "Toy"
    return [
        {
            "dataset": "Toy",
            "set": "Val",
            "case": case,
            "image": str(folder / f"imagesVal/{case}.nii.gz"),
            "labels": {
                name: str(folder / f"labelsVal/{name}/{case}.nii.gz") for name in ("ball", "rod")
            },
        }
        for case in ("toy_Val0", "toy_Val1")
    ]


@pytest.fixture
def scan_data() -> Callable[..., ScanData]:
    return ScanData


@pytest.fixture
def crop_data() -> Callable[..., CropData]:
    return CropData


@pytest.fixture
def batch() -> dict[str, Any]:
    return next(iter(CropData(2).train_dataloader()))


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Return a function that builds a quiet CPU trainer; its arguments are the trainer's."""

    def build(**options: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "logger": False,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
        }
        return pl.Trainer(**{**defaults, **options})

    return build
