"""Training by two processes on the CPU is training by one with batches twice as large."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import DataLoader

from neurosam3d.data.sampler import LazyLoader, ResumableSampler, SampleKey
from neurosam3d.prompts import Prompts, to_indices
from neurosam3d.training import NeuroSamModel, SliceModel, SupervisedModel
from neurosam3d.training.interaction import Interaction

SIDE, NUM_ITEMS = 32, 4
RATE = 0.02

pytestmark = pytest.mark.slow


class Items(torch.utils.data.Dataset[dict[str, Any]]):
    """Cubes with an ellipsoid in noise; every voxel follows from the index."""

    def __init__(self, number: int = NUM_ITEMS) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(key.index)
        axes = [
            ((torch.arange(SIDE) - centre) / radius) ** 2
            for centre, radius in ((12 + 2 * key.index, 8), (16, 5), (15, 10))
        ]
        inside = (axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 1)[None]
        return {
            "image": inside + 0.4 * torch.randn(inside.shape, generator=generator),
            "label": inside.to(torch.uint8),
            "largest": inside,
            "index": key.index,
        }


class Slices(Items):
    """The middle slices of these, of which the first has no object."""

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        item = super().__getitem__(key)
        label = item["label"][..., 15] * (key.index > 0)
        return {"image": item["image"][..., 15], "label": label, "index": key.index}


class Shared(pl.LightningDataModule):
    """Deals the items to all processes in turn."""

    def __init__(self, items: Items, batch_size: int) -> None:
        super().__init__()
        self.items, self.batch_size = items, batch_size

    def _loader(self, *, shuffle: bool) -> DataLoader[dict[str, Any]]:
        assert self.trainer is not None
        sampler = ResumableSampler(
            len(self.items),
            shuffle=shuffle,
            seed=3,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )
        generator = torch.Generator()
        return LazyLoader(
            self.items, batch_size=self.batch_size, sampler=sampler, generator=generator
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader(shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._loader(shuffle=False)


class _PlainSteps:
    """Steps along the gradient itself: AdamW would blow up rounding errors of the smallest ones."""

    model: torch.nn.Module

    def configure_optimizers(self) -> SGD:
        return SGD([p for p in self.model.parameters() if p.requires_grad], lr=RATE)


class FirstAndLastVoxel(Interaction):
    """Clicks that follow from the truth alone: the mask's rounding errors must not move them."""

    def _click(self, prompts: Prompts, truth: Tensor, *_: Any) -> Prompts:
        voxels = truth.flatten(1).int()  # (B, D*H*W)
        first = voxels.argmax(1, keepdim=True)  # (B, 1)
        last = voxels.shape[1] - 1 - voxels.flip(1).argmax(1, keepdim=True)
        chosen = first if prompts.points is None else last
        return prompts.add_click(to_indices(chosen, truth.shape), torch.ones_like(chosen))


class Promptable(_PlainSteps, NeuroSamModel):
    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(
            "vit_tiny",
            SIDE,
            num_clicks=2,
            mask_only_rounds=False,
            logging_batches_idx=[],
            work_dir=folder,
            **options,
        )
        self.interaction = FirstAndLastVoxel(num_clicks=2)


class Supervised(_PlainSteps, SupervisedModel):
    def __init__(self, folder: str) -> None:
        super().__init__(
            "unetr",
            (SIDE, SIDE, SIDE),
            ["ball"],
            overlap=0.0,
            logging_batches_idx=[],
            work_dir=folder,
        )


class SlicesOfClasses(_PlainSteps, SliceModel):
    def __init__(self, folder: str) -> None:
        super().__init__("samed_vit_b", SIDE, ["ball"], rank=2, work_dir=folder)


class Records(Callback):
    """Writes down what each process saw and drew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Mapping[str, Any], index: int
    ) -> None:
        drawn = torch.rand(3, generator=module._generator(module._random_key("train", index)))
        seen = {"items": batch["index"].tolist(), "drawn": drawn.tolist()}
        torch.save(seen, self.folder / f"rank{trainer.global_rank}_{index}.pt")

    @staticmethod
    def read(folder: Path) -> list[list[dict[str, Any]]]:
        """Return what was written, rank by rank."""
        ranks = sorted({path.name.split("_")[0] for path in folder.glob("rank*_*.pt")})
        return [
            [torch.load(path, weights_only=True) for path in sorted(folder.glob(f"{rank}_*.pt"))]
            for rank in ranks
        ]


MODULES: dict[str, Callable[[str], pl.LightningModule]] = {
    "promptable": Promptable,
    "lora": lambda folder: Promptable(folder, finetune="lora", lora_rank=2),
    "supervised": Supervised,
    "slices": SlicesOfClasses,
}


def weights(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize("kind", MODULES)
def test_a_step_of_two_processes_is_that_of_one(
    kind: str, make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    def fit(batch_size: int, **options: Any) -> tuple[dict[str, Tensor], dict[str, float], Path]:
        folder = tmp_path / str(batch_size)
        folder.mkdir()
        pl.seed_everything(5, verbose=False)
        module = MODULES[kind](str(folder))
        if kind in ("lora", "slices"):  # B begins at zero, and then A has no gradient
            for name, value in module.named_parameters():
                if "lora_b" in name:
                    torch.nn.init.normal_(value, std=0.1)
        before = weights(module)
        trainer = make_trainer(
            precision="64-true",  # else a unit near its kink switches by rounding
            max_steps=1,
            logger=CSVLogger(folder),
            callbacks=[Records(folder)],
            **options,
        )
        items = Slices() if kind == "slices" else Items()
        trainer.fit(module, datamodule=Shared(items, batch_size))
        after = weights(module)
        steps = {name: after[name] - value for name, value in before.items()}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return steps, metrics, folder

    alone, alone_metrics, _ = fit(NUM_ITEMS)
    together, metrics, folder = fit(NUM_ITEMS // 2, strategy="ddp_spawn", devices=2)

    assert max(step.abs().max().item() for step in alone.values()) > 1e-4
    for name, step in alone.items():
        torch.testing.assert_close(
            together[name].double(),
            step.double(),
            rtol=0,
            atol=1e-6,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    compared = [name for name in alone_metrics if name.startswith("val/")]
    if kind == "slices":  # in validation their loss is that of each batch
        compared.remove("val/loss")
    assert "val/dice" in compared
    for name in compared:
        assert metrics[name] == pytest.approx(alone_metrics[name], abs=1e-5), name

    ranks: Sequence[Sequence[Mapping[str, Any]]] = Records.read(folder)
    assert len(ranks) == 2
    assert sorted(i for rank in ranks for seen in rank for i in seen["items"]) == [0, 1, 2, 3]
    drawn = [np.array(rank[0]["drawn"]) for rank in ranks]
    assert not np.isclose(*drawn).any()
    assert len(list(folder.rglob("metrics.csv"))) == 1  # of the first process alone


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize(
    ("kind", "number", "batch_size"),
    [("promptable", 3, 2), ("promptable", 3, 1), ("supervised", 5, 2), ("slices", 3, 1)],
)
def test_validation_counts_every_sample_once(
    kind: str,
    number: int,
    batch_size: int,
    make_trainer: Callable[..., pl.Trainer],
    tmp_path: Path,
) -> None:
    items = (Slices if kind == "slices" else Items)(number)

    def validate(batch_size: int, **options: Any) -> dict[str, float]:
        pl.seed_everything(5, verbose=False)
        module = MODULES[kind](str(tmp_path))
        trainer = make_trainer(**options)
        trainer.validate(module, datamodule=Shared(items, batch_size), verbose=False)
        return {name: float(value) for name, value in trainer.callback_metrics.items()}

    alone = validate(1)
    together = validate(batch_size, strategy="ddp_spawn", devices=2)
    compared = [name for name in alone if (kind, name) != ("slices", "val/loss")]
    assert "val/dice" in compared
    for name in compared:
        assert together[name] == pytest.approx(alone[name], abs=1e-5), name


class Prompted(SliceModel):
    """SAM-Med2D's recipe, which begins with a box or a point by a coin."""

    def __init__(self, folder: str) -> None:
        super().__init__(
            "sam_med2d_vit_b",
            SIDE,
            ["ball"],
            feeding="sam_med2d",
            objects_per_slice=1,
            num_corrections=3,
            num_points=[1, 2],
            work_dir=folder,
            logging_batches_idx=[],
            schedule_epochs=1,
        )


class Clicked(NeuroSamModel):
    """Rounds with a mask alone, drawn by every process for itself."""

    def __init__(self, folder: str) -> None:
        super().__init__("vit_tiny", SIDE, num_clicks=5, work_dir=folder, logging_batches_idx=[])


class Rounds(Callback):
    """Writes down how often each process has asked the mask decoder in a step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        module.model.mask_decoder.register_forward_hook(self._notice)

    def _notice(self, *_: Any) -> None:
        self.count += 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        torch.save(self.count, self.folder / f"rank{trainer.global_rank}_{index}.pt")
        self.count = 0


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize(("kind", "rounds"), [(Clicked, 5), (Prompted, 4)])
def test_all_processes_play_as_many_rounds(
    kind: Any, rounds: int, make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    items = Slices() if kind is Prompted else Items()
    trainer = make_trainer(
        strategy="ddp_spawn", devices=2, callbacks=[Rounds(tmp_path)], limit_val_batches=0
    )
    trainer.fit(kind(str(tmp_path)), datamodule=Shared(items, batch_size=1))
    asked = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("rank*_*.pt")}
    assert asked == {f"rank{rank}_{step}": rounds for rank in (0, 1) for step in (0, 1)}
