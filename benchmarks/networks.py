"""What the benchmarks of networks share: weights, an object to click at, a training step.

Shapes: S image side.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurosam3d.models import BASELINES, SAM2D, SAMED, Sam3D, build_model, list_models
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS
from neurosam3d.training.early_gradient import take_gradient
from neurosam3d.training.interaction import Interaction
from neurosam3d.training.losses import MaskLoss

LARGE = ("vit_l", "vit_h")  # minutes on a CPU
SMALL = ("vit_tiny",)  # for demonstrations, not to be measured
PROMPTABLE = tuple(
    name
    for name in list_models()
    if not any(name in other for other in (BASELINES, SAM2D, SAMED, ADAPTER3D_CONFIGS))
)
MEASURED = tuple(name for name in PROMPTABLE if name not in (*LARGE, *SMALL))


def seeded_model(name: str, *, image_size: int | None = None, recompute: bool = False) -> Sam3D:
    """Build a network whose position tables are not zero, as training leaves them.

    Args:
        name: One of `PROMPTABLE`.
        image_size: Side S of its images; by default the network's own.
        recompute: Make activations of the encoder's blocks and of the decoder's upscaling again in
            the backward pass.
    """
    torch.manual_seed(0)
    side = {} if image_size is None else {"image_size": image_size}
    model = build_model(name, checkpoint_blocks=recompute, checkpoint_upscaling=recompute, **side)
    assert isinstance(model, Sam3D)
    for parameter_name, parameter in model.named_parameters():
        if "rel_pos" in parameter_name or "pos_embed" in parameter_name:
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def ball(side: int) -> Tensor:
    """Return a ball of a quarter of the side in the middle of a cube, (1, 1, S, S, S) bool."""
    axis = torch.arange(side) - side / 2
    d, h, w = torch.meshgrid(axis, axis, axis, indexing="ij")
    return (d**2 + h**2 + w**2 < (side / 4) ** 2)[None, None]


def training_step(
    model: nn.Module, image: Tensor, truth: Tensor, *, num_clicks: int
) -> Callable[[], Tensor]:
    """Return what plays a session and goes backward, as a training step does without optimizer.

    Args:
        model: A network for prompts, which is set to train.
        image: Crops (B, 1, S, S, S).
        truth: Boolean references of that shape.
        num_clicks: Rounds of the session, each with a loss.
    """
    assert isinstance(model, Sam3D)
    network = model.train()
    network.freeze_unreachable(boxes=False, mask_always_given=True, multimask=False, iou=False)
    interaction, mask_loss = Interaction(num_clicks), MaskLoss()

    def step() -> Tensor:
        network.zero_grad(set_to_none=True)
        answers = interaction.run(
            network,
            network.image_encoder(image),
            truth,
            largest=truth,
            generator=torch.Generator(image.device).manual_seed(0),
        )
        losses = [
            take_gradient(mask_loss(answer.logits, truth), answer.low_res_logits)
            for answer in answers
        ]
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss

    return step
