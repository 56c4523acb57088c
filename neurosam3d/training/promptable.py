"""Training a promptable network with a simulated user in the loop.

The image encoder runs once per step; then the user clicks, the network answers, and so on for a
number of rounds, each with a loss. Nothing in a step waits for the device.

Shapes: B batch; S image side.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from neurosam3d.evaluation.metrics import batch_dice
from neurosam3d.evaluation.run import Evaluator
from neurosam3d.evaluation.scene import Round
from neurosam3d.models import BASELINES, SAM2D, SAMED, Sam3D, build_model
from neurosam3d.models.lora import LoraConfig
from neurosam3d.training.early_gradient import take_gradient
from neurosam3d.training.finetune import Finetuning, limit_learning
from neurosam3d.training.interaction import Answer, Interaction
from neurosam3d.training.losses import MaskLoss, iou_loss
from neurosam3d.training.network_run import NetworkRun
from neurosam3d.training.optim import ScheduleName, build_scheduler, parameter_groups
from neurosam3d.training.pictures import draw_item, log_picture
from neurosam3d.training.sharding import shard
from neurosam3d.training.whole_scans import PointMethod, RoiProtocol, make_evaluator

ClickType = Literal["random", "largest", "ritm"]


class NeuroSamModel(NetworkRun):
    """A promptable network and how it is trained, validated and tested.

    Batches are those of the data room: normalised crops with their label, its largest component and
    their names; in test and predict, the paths of whole scans. Logged are `train/loss`,
    `train/dice` and `train/dice_click_1`, `_2` and so on, and the same for `val`; `test` logs its
    Dice likewise and `test/nsd`, `test/hd95_median`, `test/missed` and `test/seconds` after the
    last click. The loss is the average over the rounds; so is `dice` in training and validation,
    which stands for the area under the curve of Dice by clicks.

    Args:
        model_type: Network to build, a name of `neurosam3d.models.list_models`.
        img_size: Side of the cubic crops in voxels; linked from the data.
        mask_stride: Image side divided by the side of the decoder's masks: 4 for SAM-Med3D's
            decoder, 1 for NeuroSAM3D's.
        box_prompts: Whether the network has box embeddings. By default as the published family has
            it (not at stride 4, yes at 1), and yes with bbox_first.
        published_quirks: Compute relative positions, window padding and dense position encoding as
            the published weights need it. False gives the correct forms, for training from scratch.
        checkpoint_upscaling: Recompute the decoder's upscaling in the backward pass to save memory;
            worth it at mask_stride 1.
        checkpoint_blocks: Recompute the image encoder's blocks likewise; costs about a third more
            time and saves most of its memory.
        compile: Compile the network by torch.compile as it is first used, which takes a minute;
            not with checkpoint_blocks.
        drop_path: Probability of leaving out a branch of the encoder's last block in training; it
            grows linearly from 0 at the first block (stochastic depth).
        model_cfg: Configuration file of the network, for those that read one.
        pretrained_weights: Weights of the image encoder to start from; read before checkpoint.
        checkpoint: Weights of the whole network to start from, of any known format. They replace no
            other argument, and are not read when a run is resumed with ckpt_path, so the file may
            be gone by then.
        work_dir: Folder of all runs.
        task_name: Folder of this run in it; test results go to its folder test, predictions to
            predict.
        lr: Learning rate of the image encoder; prompt encoder and mask decoder learn at a tenth.
        weight_decay: AdamW's decay. Norms, biases, position tables and embeddings do not decay.
        layer_decay: Factor on the learning rate from each block of the image encoder to the one
            before it; 1 for one rate.
        finetune: What of the image encoder learns. full: everything; last: its last_blocks and what
            follows them; lora: low-rank additions to its linear layers; frozen: only the neck,
            which learns in every case, as prompt encoder and mask decoder do.
        last_blocks: Number of blocks that learn with finetune last.
        lora_rank: Rank of the additions.
        lora_alpha: Scales them by lora_alpha / lora_rank; null for 1.
        lora_targets: Ends of the names of the linear layers that get one, for example attn.qkv,
            attn.proj. Of a qkv layer, queries and values do.
        lr_scheduler: Rule for the learning rate, stepped after every optimizer step: steplr (times
            gamma every step_size[0] steps), multisteplr (times gamma at each of step_size), coswarm
            (cosine to zero over step_size[0] steps, with restarts) or linearlr (constant after a
            ramp of five steps).
        step_size: Optimizer steps, as lr_scheduler reads them.
        gamma: Factor on the learning rate at each drop of steplr and multisteplr.
        warmup_steps: Optimizer steps in which the learning rate grows linearly to its value; the
            rule starts after.
        num_clicks: Rounds per image in training and validation, each with a loss.
        click_type: Where the next click falls: random (anywhere in the error), ritm (deep inside
            the larger error) or largest (in the object's largest component).
        largest_first: Put the first point into the object's largest component, whatever click_type
            says.
        multi_click: Show the network all points so far; False: the newest only.
        mask_only_rounds: In training, one random round from the third to the ninth gets no click,
            only the mask.
        bbox_first: Start each session with a box instead of a point; the box then stays.
        box_jitter: Largest shift of a box corner, as a fraction of the box's side.
        cut_gradient: Stop gradients where a mask is fed back as a prompt; False keeps the whole
            chain of rounds, which takes more memory.
        iou_loss_weight: Weight of the loss of the estimated IoU; 0 leaves that part of the network
            untrained.
        eval_protocol: What the network is told in test and predict. prompt_roi: the clicks, as by a
            user; its window lies around the first one and grows. oracle_roi: one window around the
            object, as SAM-Med3D was judged.
        eval_clicks: Clicks per object in test and predict.
        eval_click_type: Where those clicks fall: ritm (deep inside the larger error), random
            (anywhere in the error), largest (first in the object's largest component, then random)
            or default (two by ritm, then random, as SAM-Med3D was judged).
        test_pictures: Number of the worst objects of which test keeps a picture.
        logging_batches_idx: Validation batches whose first case is drawn for the loggers.
        intensity: Intensity preset of the data; linked from there and kept in checkpoints, so that
            they say how they must be fed.
        spacing: Voxel size of the data in mm, null for native; linked and kept likewise.
        seed: Seed of the simulated clicks, together with epoch, batch and process; linked from the
            data.

    Raises:
        ValueError: If a name or a number is not allowed.
    """

    def __init__(
        self,
        model_type: str = "vit_b_ori",
        img_size: int = 128,
        *,
        mask_stride: int = 4,
        box_prompts: bool | None = None,
        published_quirks: bool = True,
        checkpoint_upscaling: bool = False,
        checkpoint_blocks: bool = False,
        compile: bool = False,
        drop_path: float = 0.0,
        model_cfg: str | None = None,
        pretrained_weights: str | None = None,
        checkpoint: str | None = None,
        work_dir: str = "./work_dir",
        task_name: str = "neurosam3d",
        lr: float = 1e-3,
        weight_decay: float = 0.005,
        layer_decay: float = 1.0,
        finetune: Finetuning = "full",
        last_blocks: int = 2,
        lora_rank: int = 4,
        lora_alpha: float | None = None,
        lora_targets: Sequence[str] = ("attn.qkv",),
        lr_scheduler: ScheduleName = "steplr",
        step_size: Sequence[int] = (2000,),
        gamma: float = 0.9,
        warmup_steps: int = 0,
        num_clicks: int = 11,
        click_type: ClickType = "random",
        largest_first: bool = True,
        multi_click: bool = True,
        mask_only_rounds: bool = True,
        bbox_first: bool = False,
        box_jitter: float = 0.0,
        cut_gradient: bool = True,
        iou_loss_weight: float = 0.0,
        eval_protocol: RoiProtocol = "prompt_roi",
        eval_clicks: int = 5,
        eval_click_type: PointMethod = "ritm",
        test_pictures: int = 5,
        logging_batches_idx: Sequence[int] = (1, 2, 3, 4, 5),
        intensity: str = "sam_med3d",
        spacing: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
        seed: int = 2024,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.interaction = Interaction(
            num_clicks=num_clicks,
            click_type=click_type,
            largest_first=largest_first,
            multi_click=multi_click,
            bbox_first=bbox_first,
            box_jitter=box_jitter,
            cut_gradient=cut_gradient,
        )
        if bbox_first and box_prompts is False:
            raise ValueError("bbox_first needs box_prompts=True, got box_prompts=False")
        if model_type in BASELINES:
            raise ValueError(f"model_type must take prompts, got {model_type!r}, which takes none")
        if model_type in SAM2D or model_type in SAMED:
            raise ValueError(
                f"model_type must see volumes, got {model_type!r}; slices are of task slices"
            )
        overrides: dict[str, Any] = {} if model_cfg is None else {"model_cfg": model_cfg}
        self.model: Sam3D = build_model(  # type: ignore[assignment]
            model_type,
            image_size=img_size,
            mask_stride=mask_stride,
            box_prompts=True if bbox_first else box_prompts,
            published_quirks=published_quirks,
            checkpoint_upscaling=checkpoint_upscaling,
            checkpoint_blocks=checkpoint_blocks,
            drop_path=drop_path,
            **overrides,
        )
        # The checkpoint shall tell what was built, not what was asked for.
        self.hparams["box_prompts"] = len(self.model.prompt_encoder.point_embeddings) == 4
        self.frozen = self.model.freeze_unreachable(
            boxes=bbox_first, mask_always_given=True, multimask=False, iou=iou_loss_weight > 0
        )
        lora = LoraConfig(rank=lora_rank, alpha=lora_alpha, targets=tuple(lora_targets))
        self.frozen += limit_learning(
            self.model.image_encoder, finetune, last_blocks=last_blocks, lora=lora
        )
        self.mask_loss = MaskLoss()

    def configure_model(self) -> None:
        """Split the network over the processes, where the strategy is to; Lightning calls this."""
        if self.device_mesh is None or self.trainer.state.fn != TrainerFn.FITTING:
            return  # whole scans take each process another number of clicks
        self._read_initial_weights()  # files hold whole tensors
        shard(self.model.children(), self.device_mesh)

    def open_evaluator(self) -> tuple[Evaluator, Callable[[], Any]]:
        """Return what clicks objects of whole scans, and what loads its predictor."""
        evaluator = make_evaluator(self.make_predictor, self.model, options=self.hparams)
        return evaluator, evaluator.load_predictor

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over the trainable parameters and its schedule per optimizer step."""
        options = self.hparams
        groups = parameter_groups(
            self.model,
            lr=options["lr"],
            weight_decay=options["weight_decay"],
            layer_decay=options["layer_decay"],
        )
        optimizer = torch.optim.AdamW(groups)
        scheduler = build_scheduler(
            optimizer,
            schedule=options["lr_scheduler"],
            step_size=options["step_size"],
            gamma=options["gamma"],
            warmup_steps=options["warmup_steps"],
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Play one session per crop and return the loss, averaged over the rounds."""
        key = self._random_key("train", batch_idx)
        mask_only_round = None
        choices = self.interaction.mask_only_choices
        if self.hparams["mask_only_rounds"] and choices:
            mask_only_round = int(np.random.default_rng(key).choice(choices))
        losses, scores = [], []
        for answer in self._play(batch, key, mask_only_round):
            losses.append(self._loss(answer, batch["label"]))
            scores.append(batch_dice(answer.logits.detach(), batch["label"]).mean())
        loss = torch.stack(losses).mean()
        self._log_session("train", loss.detach(), scores, batch_size=len(batch["label"]))
        self.log("train/loss_step", loss.detach(), batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Play the same session every time and score its rounds."""
        batch, count = self._counted(batch, batch_idx)
        first = last = None
        losses, scores = [], []
        for answer in self._play(batch, self._random_key("val", batch_idx)):
            losses.append(self._loss(answer, batch["label"]))
            scores.append(batch_dice(answer.logits, batch["label"]).mean())
            first, last = first or answer, answer
        loss = torch.stack(losses).mean()
        self._log_session("val", loss, scores, batch_size=count)
        if batch_idx in self.hparams["logging_batches_idx"] and first and last:
            self._log_picture(batch, [first, last], name=f"val_batch{batch_idx}")

    def _play(
        self, batch: Mapping[str, Any], key: Sequence[int], mask_only_round: int | None = None
    ) -> Iterator[Answer]:
        return self.interaction.run(
            self.model,
            self.model.image_encoder(batch["image"]),
            batch["label"] > 0,
            largest=batch["largest"],
            generator=self._generator(key),
            mask_only_round=mask_only_round,
        )

    def _loss(self, answer: Answer, label: Tensor) -> Tensor:
        loss = take_gradient(self.mask_loss(answer.logits, label), answer.low_res_logits)
        weight = self.hparams["iou_loss_weight"]
        return loss + weight * iou_loss(answer.iou, answer.logits, label) if weight else loss

    def _log_session(
        self, stage: str, loss: Tensor, scores: Sequence[Tensor], *, batch_size: int
    ) -> None:
        values = {f"{stage}/dice_click_{n}": score for n, score in enumerate(scores, 1)}
        common: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True}
        # Lightning averages the sizes over all processes; as whole numbers they would be cut off.
        common["batch_size"] = float(batch_size)
        self.log_dict(values, **common)
        summary = {f"{stage}/loss": loss, f"{stage}/dice": torch.stack(list(scores)).mean()}
        # In Lightning's progress bar a metric of a training step makes the host wait in every step.
        self.log_dict(summary, prog_bar=stage == "val", **common)

    def _log_picture(
        self, batch: Mapping[str, Any], answers: Sequence[Answer], *, name: str
    ) -> None:
        """Draw the first item after its first and last round for the loggers."""
        if self.trainer.sanity_checking or not self.trainer.is_global_zero:
            return
        rounds = [
            Round(a.prompts, a.logits > 0, batch_dice(a.logits, batch["label"])) for a in answers
        ]
        log_picture(
            self.trainer.loggers,
            lambda path: draw_item(path, batch, rounds, item=0),
            name=name,
            step=self.trainer.global_step,
        )
