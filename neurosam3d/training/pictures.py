"""Draw cases of a batch, and hand pictures to every logger that can take one."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from neurosam3d.evaluation.metrics import batch_dice
from neurosam3d.evaluation.plots import plot_case
from neurosam3d.evaluation.scene import Round
from neurosam3d.files import replacing
from neurosam3d.prompts import Prompts


def draw_item(path: Path, batch: Mapping[str, Any], rounds: Sequence[Round], *, item: int) -> None:
    """Draw one item of a batch after its first and last round, as PNG.

    Args:
        path: The file to write.
        batch: Images and labels (B, 1, D, H, W), affines (B, 4, 4) and names.
        rounds: Rounds of the whole batch, in order.
        item: Which item.
    """
    plot_case(
        path,
        batch["image"],
        batch["label"],
        rounds,
        affine=batch["affine"][item].cpu().numpy(),
        item=item,
        clicks=(rounds[0].clicks, rounds[-1].clicks),
        title=" ".join(batch[key][item] for key in ("dataset", "class", "case")),
    )


def log_largest_class(
    module: pl.LightningModule,
    batch: Mapping[str, Any],
    prediction: Tensor,
    prompts: Prompts,
    classes: Sequence[str],
    *,
    name: str,
) -> None:
    """Draw the largest object of a batch's first item for a module's loggers.

    Args:
        module: The module in its run; all but the first process, and sanity checks, draw nothing.
        batch: Images and label maps (B, 1, D, H, W), affines (B, 4, 4) and names.
        prediction: Label maps of the same shape.
        prompts: What the network was told.
        classes: Names of the classes, of which the k-th has the value k, from 1.
        name: What the picture shows, fit for a file name.
    """
    if module.trainer.sanity_checking or not module.trainer.is_global_zero:
        return
    sizes = batch["label"][0].flatten().bincount(minlength=1 + len(classes))
    value = 1 + int(sizes[1:].argmax())
    mask, truth = prediction == value, batch["label"] == value
    shown = {**batch, "label": truth, "class": [classes[value - 1]] * len(truth)}
    answer = Round(prompts, mask, batch_dice(mask, truth))
    log_picture(
        module.trainer.loggers,
        lambda path: draw_item(path, shown, [answer], item=0),
        name=name,
        step=module.trainer.global_step,
    )


def log_picture(
    loggers: Sequence[Logger], draw: Callable[[Path], object], *, name: str, step: int
) -> None:
    """Draw a picture once and give it to TensorBoard, W&B and, as a file beside its table, CSV.

    Args:
        loggers: The trainer's loggers; others than these three are passed over.
        draw: Writes the picture as PNG to the path it is given.
        name: What the picture shows, fit for a file name.
        step: Optimizer steps taken so far.
    """
    takers = [
        one for one in loggers if isinstance(one, CSVLogger | TensorBoardLogger | WandbLogger)
    ]
    if not takers:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.png"
        draw(path)
        for taker in takers:
            _give(taker, path, step)


def _give(taker: CSVLogger | TensorBoardLogger | WandbLogger, path: Path, step: int) -> None:
    if isinstance(taker, WandbLogger):
        taker.log_image(key=f"pictures/{path.stem}", images=[str(path)], step=step)
    elif isinstance(taker, TensorBoardLogger):
        from matplotlib.image import imread

        pixels = imread(path)[..., :3]  # (H, W, RGB)
        taker.experiment.add_image(f"pictures/{path.stem}", pixels, step, dataformats="HWC")
    else:
        target = Path(taker.log_dir) / "pictures" / f"{path.stem}_step{step:07d}.png"
        with replacing(target) as partial:
            shutil.copyfile(path, partial)
