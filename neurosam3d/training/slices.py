"""Training of networks of slices: SAMed, which tells classes apart, and those that take prompts.

Shapes: B batch; N slices of a scan; S side of the network's image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from neurosam3d.evaluation.run import Evaluator
from neurosam3d.models import SAMED
from neurosam3d.prompts import Prompts
from neurosam3d.slices import Axis
from neurosam3d.training.network_run import NetworkRun
from neurosam3d.training.optim import (
    OptimizerName,
    StepScheduleName,
    build_optimizer,
    step_factor,
)
from neurosam3d.training.pictures import log_largest_class
from neurosam3d.training.score_sums import ScoreSums, log_means
from neurosam3d.training.slice_network import RecipeName, build_slice_network, pick_recipe
from neurosam3d.training.whole_scans import (
    PointMethod,
    SliceProtocol,
    make_automatic_evaluator,
    make_evaluator,
)


class SliceModel(NetworkRun):
    """A network of slices, and how it is trained, validated and tested.

    Batches are those of `neurosam3d.data.slices`: slices, or whole scans in validation; in test and
    predict, the paths of whole scans. What a network is asked and what it learns from, is up to its
    recipe. Logged are `train/loss` and `train/dice`, the same for `val` with `val/dice_<class>`,
    and in `test` Dice, surface Dice and the others of the report. Dice is the mean over all pairs
    of an item and a class that it has.

    Args:
        model_type: Network to build, a name of `neurosam3d.models.SAMED` or `SAM2D`.
        img_size: Side of the network's image in pixels; linked from the data.
        classes: Names of the classes; linked from the data.
        recipe: samed: every pixel is to tell its class. medsam: a loose box around an object is to
            give its mask. sam_med2d: a box or a point, then points where the answer is wrong. null
            for the one that the network was published with; SAM's is medsam.
        rank: Rank of SAMed's additions to attention (LoRA).
        freeze_sam: Leave what the encoder has from SAM as it is. False trains all of it, for starts
            without SAM's weights; null for the network's own choice: SAMed and SAM-Med2D freeze.
        checkpoint_blocks: Recompute the encoder's blocks in the backward pass to save memory.
        compile: Compile the network by torch.compile as it is first used, which takes a minute;
            not with checkpoint_blocks.
        pretrained_weights: Weights to start from that need not fill the network, such as SAM's;
            read before checkpoint.
        checkpoint: Weights to start from, of any known format, for SAMed what its programs save
            beside SAM's; not read when a run is resumed with ckpt_path.
        work_dir: Folder of all runs.
        task_name: Folder of this run in it; test results go to its folder test, predictions to
            predict.
        optimizer: adamw or sgd.
        lr: Learning rate after the warm-up.
        weight_decay: Decay of all weights that learn.
        momentum: Momentum of sgd.
        lr_scheduler: Rule for the learning rate after the warm-up: poly (down to zero by
            lr_power) or constant.
        lr_power: Power of poly.
        warmup_steps: Optimizer steps over which the rate grows to lr.
        schedule_epochs: Epochs over which the rate falls; null for the trainer's max_epochs. As
            published it is larger, so that the run ends before the rate does.
        dice_weight: Of recipe samed: weight of the Dice loss.
        ce_weight: Likewise of the cross-entropy.
        box_margin: Of recipe medsam: pixels by which each side of a tight box moves out at most.
        objects_per_slice: Of recipe sam_med2d: objects drawn from every slice.
        num_corrections: Likewise rounds after the first.
        num_points: Likewise numbers of points, of which each round draws one.
        box_jitter: Likewise pixels by which each side of a tight box moves at most.
        eval_protocol: How test prompts networks that take prompts: prompt_roi or oracle_roi
            (clicks, one after the other), oracle_slices (clicks on every slice of the object),
            box_per_slice, box_3d, or propagate (a box on the slice where it is largest).
        eval_clicks: Clicks on each object in test, or on each of its slices.
        eval_click_type: Where test clicks: random voxels of the error, or ritm.
        eval_box_margin: Pixels of the network's image by which test enlarges boxes at each side.
        eval_legacy: samed: Test reports Dice and HD95 as SAMed's program does, too, for comparison
            with its paper.
        test_pictures: Number of the worst objects of which test keeps a picture.
        logging_batches_idx: Scans of the validation that are drawn for the loggers.
        intensity: Intensity preset of the data; linked from there and kept in checkpoints, so that
            they say how they must be fed.
        spacing: Voxel size of the data in mm, null for native; linked and kept likewise.
        axis: What slices are stacked along; linked and kept likewise.
        feeding: How slices become what the network sees; linked and kept likewise.
        detail: Side in pixels to which slices are reduced first, or null; linked and kept likewise.
        seed: Seed of the prompts, together with epoch, batch and process; linked from the data.

    Raises:
        ValueError: If a name or a number is not allowed, or the network lacks what is asked for.
    """

    def __init__(
        self,
        model_type: str = "samed_vit_b",
        img_size: int = 512,
        classes: Sequence[str] = (),
        *,
        recipe: RecipeName | None = None,
        rank: int = 4,
        freeze_sam: bool | None = None,
        checkpoint_blocks: bool = False,
        compile: bool = False,
        pretrained_weights: str | None = None,
        checkpoint: str | None = None,
        work_dir: str = "./work_dir",
        task_name: str = "slices",
        optimizer: OptimizerName = "adamw",
        lr: float = 0.005,
        weight_decay: float = 0.1,
        momentum: float = 0.9,
        lr_scheduler: StepScheduleName = "poly",
        lr_power: float = 0.9,
        warmup_steps: int = 250,
        schedule_epochs: int | None = None,
        dice_weight: float = 0.8,
        ce_weight: float = 0.2,
        box_margin: float = 20.0,
        objects_per_slice: int = 5,
        num_corrections: int = 8,
        num_points: Sequence[int] = (1, 3, 5, 9),
        box_jitter: float = 5.0,
        eval_protocol: SliceProtocol = "prompt_roi",
        eval_clicks: int = 5,
        eval_click_type: PointMethod = "ritm",
        eval_box_margin: float = 0.0,
        eval_legacy: Literal["samed"] | None = None,
        test_pictures: int = 5,
        logging_batches_idx: Sequence[int] = (1, 2, 3, 4, 5),
        intensity: str = "clip -125 275",
        spacing: tuple[float, float, float] | None = None,
        axis: Axis = "axial",
        feeding: str = "samed",
        detail: int | None = None,
        seed: int = 2024,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        asked: dict[str, Any] = {"freeze_sam": freeze_sam, "checkpoint_blocks": checkpoint_blocks}
        if model_type in SAMED:
            asked["rank"] = rank
        self.model = build_slice_network(
            model_type, img_size=img_size, classes=classes, asked=asked
        )
        self.recipe = pick_recipe(model_type, self.hparams)
        self.recipe.prepare(self.model)
        self.takes_prompts = self.recipe.takes_prompts
        if not self.takes_prompts:
            self.hparams["eval_protocol"] = "automatic"
        self.scores = {stage: ScoreSums(self.recipe.scored) for stage in ("train", "val")}

    def open_evaluator(self) -> tuple[Evaluator, Callable[[], Any]]:
        """Return what judges whole scans, and what loads its predictor or segmenter."""
        options = self.hparams
        if self.takes_prompts:
            make = self.make_predictor and partial(
                self.make_predictor, axis=options["axis"], feeding=options["feeding"]
            )
            clicking = make_evaluator(make, self.model, options=options)
            return clicking, clicking.load_predictor
        automatic = make_automatic_evaluator(
            self.make_segmenter
            and partial(self.make_segmenter, axis=options["axis"], detail=options["detail"]),
            self.model,
            options=options,
        )
        return automatic, automatic.load_segmenter

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer of what learns, and its schedule per optimizer step."""
        options = self.hparams
        optimizer = build_optimizer(
            self.model.parameters(),
            optimizer=options["optimizer"],
            lr=options["lr"],
            weight_decay=options["weight_decay"],
            momentum=options["momentum"],
            nesterov=False,
        )
        factor = partial(
            step_factor,
            schedule=options["lr_scheduler"],
            warmup_steps=options["warmup_steps"],
            num_steps=self._count_schedule_steps(),
            power=options["lr_power"],
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def _count_schedule_steps(self) -> int:
        """Return the optimizer steps over which the rate falls."""
        num_epochs = self.hparams["schedule_epochs"] or self.trainer.max_epochs
        if num_epochs is None or num_epochs < 1:
            raise ValueError("without trainer.max_epochs schedule_epochs must be given, got none")
        _ = self.trainer.estimated_stepping_batches  # asking has the trainer count its batches
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return num_epochs * math.ceil(batches)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch of slices."""
        generator = self._generator(self._random_key("train", batch_idx))
        answer = self.recipe.train(self.model, batch, generator=generator)
        loss = answer.loss.detach()
        self.scores["train"].add(loss, answer.prediction, answer.truth)
        self.log("train/loss_step", loss, batch_size=len(batch["label"]))
        return answer.loss

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        log_means(self, "train", self.scores["train"])

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Score whole scans, or slices with the same prompts as ever."""
        generator = self._generator(self._random_key("val", batch_idx))
        batch, count = self._counted(batch, batch_idx)
        answer = self.recipe.validate(self.model, batch, generator=generator)
        if count:
            self.scores["val"].add(answer.loss, answer.prediction, answer.truth)
        if "affine" in batch and batch_idx in self.hparams["logging_batches_idx"]:
            classes, name = self.hparams["classes"], f"val_{batch_idx}"
            log_largest_class(self, batch, answer.prediction, Prompts(), classes, name=name)

    def on_validation_epoch_end(self) -> None:
        """Log the means of all scans or slices."""
        log_means(self, "val", self.scores["val"])
