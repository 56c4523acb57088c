"""Training of networks that segment a patch in one pass: those without prompts, and 3DSAM-adapter,
whose clicks are all drawn before.

Shapes: B batch, K classes with the background first, N clicks; D H W patch or scan.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neurosam3d.evaluation.run import Evaluator
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.prompts import Prompts
from neurosam3d.sliding_window import Weighting, slide
from neurosam3d.training.click_recipes import ClickRecipe, draw_clicks, require_clicks
from neurosam3d.training.losses import SegmentationLoss
from neurosam3d.training.network_run import NetworkRun
from neurosam3d.training.optim import (
    EpochScheduleName,
    OptimizerName,
    build_optimizer,
    epoch_factor,
)
from neurosam3d.training.pictures import log_largest_class
from neurosam3d.training.score_sums import ScoreSums, log_means
from neurosam3d.training.supervised_network import build_network
from neurosam3d.training.whole_scans import make_automatic_evaluator, make_evaluator


class SupervisedModel(NetworkRun):
    """A network that learns label maps, and how it is trained, validated and tested.

    Batches are those of the data room: normalised patches, or whole scans in validation, with their
    label map, and their names; in test and predict, the paths of whole scans. Logged are
    `train/loss` and `train/dice`, the same for `val` with `val/dice_<class>`, and in `test` Dice,
    surface Dice and the others of the report. Dice is the mean over all pairs of an item and a
    class that it has.

    A network without prompts is validated by a sliding window over whole scans. 3DSAM-adapter with
    prompts needs `data.validation: crops`; the clicks on them are the same in every epoch.

    Args:
        model_type: Network to build, a name of `neurosam3d.models.BASELINES` or adapter3d_vit_b,
            adapter3d_vit_l or adapter3d_vit_h.
        crop_size: Sides of the patches in voxels; linked from the data.
        classes: Names of the classes; linked from the data. 3DSAM-adapter knows one.
        prompt_free: Build 3DSAM-adapter without prompts.
        labelled_clicks: Let 3DSAM-adapter tell clicks on the object from those beside it, which the
            published network cannot.
        click_recipe: Clicks of 3DSAM-adapter. published: num_positive on the object and
            num_negative anywhere in the crop, and in validation val_positive on the object.
            corrected: num_positive on the object and num_negative on the background, none twice, in
            validation as in training; the latter need labelled_clicks.
        num_positive: See click_recipe.
        num_negative: See click_recipe.
        val_positive: See click_recipe.
        freeze_sam: Leave what 3DSAM-adapter's encoder has from SAM as it is. False trains all of
            it, for starts without SAM's weights; null is the network's own choice, to freeze.
        deep_supervision: Let coarser levels of the network learn, too, where it has such outputs.
        checkpoint_blocks: Recompute blocks in the backward pass to save memory, where the network
            knows how to; null for its own choice.
        compile: Compile the network by torch.compile as it is first used, which takes a minute;
            not with checkpoint_blocks.
        published_quirks: Compute as published weights need it, where that differs from the paper;
            null for the network's own choice.
        pretrained_weights: Weights to start from that need not fill the network, such as SAM's for
            3DSAM-adapter or model_swinvit.pt for Swin UNETR; read before checkpoint.
        checkpoint: Weights of the whole network to start from, of any known format; not read when a
            run is resumed with ckpt_path.
        work_dir: Folder of all runs.
        task_name: Folder of this run in it; test results go to its folder test, predictions to
            predict.
        optimizer: adamw, or sgd with Nesterov's momentum as nnU-Net has it.
        lr: Learning rate at the first epoch.
        weight_decay: Decay of all weights: 1e-5 for the published baselines, 0 for 3DSAM-adapter,
            3e-5 for nnU-Net.
        momentum: Momentum of sgd.
        lr_scheduler: Rule for the learning rate, from epoch to epoch: linear (down to a hundredth),
            poly (down to zero by the power 0.9, nnU-Net's) or constant.
        schedule_epochs: Epochs over which the rate falls; null for the trainer's max_epochs.
        clip_per_part: Largest norm of the gradients of image encoder, prompt encoder and mask
            decoder of 3DSAM-adapter, each on its own; null leaves clipping to the trainer.
        dice_weight: Weight of the Dice loss.
        ce_weight: Weight of the cross-entropy.
        overlap: Share of a window's side that the next one covers, too, in validation, test and
            predict of a network without prompts.
        weighting: What a window counts for where windows overlap: gaussian (most in its middle) or
            constant.
        tta_mirror: In test and predict, average over the eight ways to mirror a window.
        eval_prompts: Numbers of clicks, given all at once, after which test judges a network with
            prompts.
        test_pictures: Number of the worst objects of which test keeps a picture.
        logging_batches_idx: Validation batches whose first item is drawn for the loggers.
        intensity: Intensity preset of the data; linked from there and kept in checkpoints, so that
            they say how they must be fed.
        spacing: Voxel size of the data in mm, null for native; linked and kept likewise.
        seed: Seed of the clicks, together with epoch, batch and process; linked from the data.

    Raises:
        ValueError: If a name or a number is not allowed, or the network lacks what is asked for.
    """

    def __init__(
        self,
        model_type: str = "unetr",
        crop_size: tuple[int, int, int] = (64, 160, 160),
        classes: Sequence[str] = (),
        *,
        prompt_free: bool = False,
        labelled_clicks: bool = False,
        click_recipe: ClickRecipe = "published",
        num_positive: int = 10,
        num_negative: int = 20,
        val_positive: int = 10,
        freeze_sam: bool | None = None,
        deep_supervision: bool = False,
        checkpoint_blocks: bool | None = None,
        compile: bool = False,
        published_quirks: bool | None = None,
        pretrained_weights: str | None = None,
        checkpoint: str | None = None,
        work_dir: str = "./work_dir",
        task_name: str = "supervised",
        optimizer: OptimizerName = "adamw",
        lr: float = 4e-4,
        weight_decay: float = 1e-5,
        momentum: float = 0.99,
        lr_scheduler: EpochScheduleName = "linear",
        schedule_epochs: int | None = None,
        clip_per_part: float | None = None,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        overlap: float = 0.5,
        weighting: Weighting = "gaussian",
        tta_mirror: bool = False,
        eval_prompts: Sequence[int] = (1, 3, 5, 10),
        test_pictures: int = 5,
        logging_batches_idx: Sequence[int] = (1, 2, 3, 4, 5),
        intensity: str = "sam_med3d",
        spacing: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
        seed: int = 2024,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        asked = {
            "prompt_free": prompt_free,
            "labelled_clicks": labelled_clicks,
            "freeze_sam": freeze_sam,
            "deep_supervision": deep_supervision,
            "checkpoint_blocks": checkpoint_blocks,
            "published_quirks": published_quirks,
        }
        self.model = build_network(model_type, crop_size=crop_size, classes=classes, asked=asked)
        self.takes_prompts = isinstance(self.model, Adapter3D) and not prompt_free
        self.hparams["eval_protocol"] = "adapter3d" if self.takes_prompts else "automatic"
        require_clicks(click_recipe, num_positive, num_negative)
        says_background = click_recipe == "corrected" and num_negative > 0
        if self.takes_prompts and says_background and not labelled_clicks:
            raise ValueError(
                "clicks on the background need labelled_clicks=True, "
                f"got num_negative {num_negative}"
            )
        if clip_per_part is not None and not isinstance(self.model, Adapter3D):
            raise ValueError(f"clip_per_part needs the parts of adapter3d, got {model_type!r}")
        self.loss = SegmentationLoss(dice_weight=dice_weight, ce_weight=ce_weight)
        self.scores = {stage: ScoreSums(classes) for stage in ("train", "val")}

    def open_evaluator(self) -> tuple[Evaluator, Callable[[], Any]]:
        """Return what judges whole scans, and what loads its predictor or segmenter."""
        if self.takes_prompts:
            clicking = make_evaluator(self.make_predictor, self.model, options=self.hparams)
            return clicking, clicking.load_predictor
        options = self.hparams
        make = self.make_segmenter and partial(
            self.make_segmenter,
            overlap=options["overlap"],
            weighting=options["weighting"],
            mirror=options["tta_mirror"],
        )
        automatic = make_automatic_evaluator(make, self.model, options=options)
        return automatic, automatic.load_segmenter

    def configure_optimizers(self) -> Optimizer:
        """Return the optimizer; its rate follows the epoch and not a scheduler, whose count would
        be off by one after a checkpoint of an epoch's end.
        """
        options = self.hparams
        self._rate_factor(0)  # a mistake shall show before the first epoch
        return build_optimizer(
            self.model.parameters(),
            optimizer=options["optimizer"],
            lr=options["lr"],
            weight_decay=options["weight_decay"],
            momentum=options["momentum"],
        )

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of the epoch; in mid-epoch a resumed optimizer knows it."""
        rate = self.hparams["lr"] * self._rate_factor(self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def _rate_factor(self, epoch: int) -> float:
        num_epochs = self.hparams["schedule_epochs"] or self.trainer.max_epochs
        if num_epochs is None or num_epochs < 1:
            raise ValueError("without trainer.max_epochs schedule_epochs must be given, got none")
        return epoch_factor(epoch, schedule=self.hparams["lr_scheduler"], num_epochs=num_epochs)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each part on its own where that is asked for, then as the trainer says."""
        limit = self.hparams["clip_per_part"]
        if limit is not None:
            for part in self.model.children():
                nn.utils.clip_grad_norm_(part.parameters(), limit)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch of patches."""
        label = batch["label"]
        if self.takes_prompts:
            logits = self.model(batch["image"], *self._click("train", label, batch_idx))
        else:
            logits = self.model(batch["image"])
        loss = self.loss(logits, label)
        finest = logits if isinstance(logits, Tensor) else logits[0]
        self.scores["train"].add(loss.detach(), finest.detach().argmax(1, keepdim=True), label)
        self.log("train/loss_step", loss.detach(), batch_size=len(label))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        log_means(self, "train", self.scores["train"])

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Score whole scans, or patches with the same clicks as ever."""
        batch, count = self._counted(batch, batch_idx)
        image, label = batch["image"], batch["label"]
        points = labels = None
        if self.takes_prompts:
            self._require_crops(image)
            points, labels = self._click("val", label, batch_idx)
            logits = self.model(image, points, labels)
        else:
            options = self.hparams
            logits = slide(
                self.model,
                image,
                crop_size=options["crop_size"],
                overlap=options["overlap"],
                weighting=options["weighting"],
            )
        prediction = logits.argmax(1, keepdim=True)
        if count:
            self.scores["val"].add(self.loss(logits, label), prediction, label)
        if batch_idx in self.hparams["logging_batches_idx"]:
            prompts, classes = Prompts(points, labels), self.hparams["classes"]
            log_largest_class(self, batch, prediction, prompts, classes, name=f"val_{batch_idx}")

    def on_validation_epoch_end(self) -> None:
        """Log the means of all scans."""
        log_means(self, "val", self.scores["val"])

    def _require_crops(self, image: Tensor) -> None:
        if tuple(image.shape[2:]) != tuple(self.hparams["crop_size"]):
            raise ValueError(
                "a network with prompts needs data.validation crops, got an image of "
                f"{tuple(image.shape[2:])} voxels"
            )

    def _click(self, stage: str, label: Tensor, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Draw the clicks of a batch: points (B, N, 3) and labels (B, N)."""
        options = self.hparams
        numbers = {name: options[name] for name in ("num_positive", "num_negative")}
        if stage == "val" and options["click_recipe"] == "published":
            numbers = {"num_positive": options["val_positive"], "num_negative": 0}
        points, labels = draw_clicks(
            label > 0,
            recipe=options["click_recipe"],
            generator=self._generator(self._random_key(stage, batch_idx)),
            **numbers,
        )
        if not options["labelled_clicks"]:  # one set of clicks, whatever they are on
            labels = torch.where(labels == 0, 1, labels)
        return points, labels
