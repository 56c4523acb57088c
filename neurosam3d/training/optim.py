"""Optimizers, their parameter groups, and the learning rate over steps or epochs."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from neurosam3d.training.finetune import block_index, count_blocks

ScheduleName = Literal["steplr", "multisteplr", "coswarm", "linearlr"]
StepScheduleName = Literal["poly", "constant"]
EpochScheduleName = Literal["linear", "poly", "constant"]
OptimizerName = Literal["adamw", "sgd"]

# The image encoder learns at the full rate; the two small parts, which see every click, at a tenth.
RATE_FACTORS = {"image_encoder": 1.0, "prompt_encoder": 0.1, "mask_decoder": 0.1}
# Learned positions and tokens that are plain parameters of more than one axis.
TABLES = ("pos_embed", "rel_pos", "cls_token", "mask_token", "register_tokens")
RAMP_START, RAMP_STEPS = 0.1, 5  # "linearlr": a tenth of the rate, growing over five steps
LINEAR_END, POLY_POWER = 0.01, 0.9  # "linear" ends at a hundredth; "poly": (1 - share) ** 0.9


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of a promptable network by part and by whether they decay.

    Norms, biases and tables (positions, embeddings, tokens) do not decay: pulling them to zero
    removes information instead of limiting capacity.

    Args:
        model: A network with the parts named in ``RATE_FACTORS``.
        lr: Learning rate of the image encoder; the other parts take a tenth.
        weight_decay: AdamW's decay of matrices and kernels.
        layer_decay: Factor on the rate from each block of the image encoder to the one before it
            (BEiT, arXiv:2106.08254, appendix); patches and positions come before the first block,
            the neck after the last.

    Returns:
        Groups for the optimizer, each with a ``name``; none of them is empty.

    Raises:
        ValueError: If ``layer_decay`` does not lie in (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay lies above 0 and is at most 1, got {layer_decay}")
    groups: dict[str, dict[str, Any]] = {}
    for part, factor in RATE_FACTORS.items():
        module = model.get_submodule(part)
        depth = count_blocks(module) if part == "image_encoder" and layer_decay < 1 else 0
        for name, parameter, decays in _trainable(module):
            layer = _layer(name, depth)
            group_name = f"{part}_layer{layer}" if depth else part
            group_name += "" if decays else "_tables"
            group = {
                "name": group_name,
                "params": [],
                "lr": lr * factor * layer_decay ** (depth + 1 - layer if depth else 0),
                "weight_decay": weight_decay if decays else 0.0,
            }
            groups.setdefault(group_name, group)["params"].append(parameter)
    return list(groups.values())


def _trainable(part: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Yield the name of each trainable parameter, the parameter, and whether it decays."""
    for module_name, module in part.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_table = isinstance(module, nn.Embedding) or name.startswith(TABLES)
            decays = parameter.ndim >= 2 and not is_table
            yield f"{module_name}.{name}", parameter, decays


def _layer(name: str, depth: int) -> int:
    """Number the layers of an encoder: 0 before the blocks, depth + 1 after them."""
    index = block_index(name)
    if index is not None:
        return index + 1
    return 0 if name.rpartition(".")[2].startswith(TABLES) or "patch_embed." in name else depth + 1


def rate_factor(
    step: int, *, schedule: ScheduleName, step_size: Sequence[int], gamma: float, warmup_steps: int
) -> float:
    """Return the factor on the learning rate at an optimizer step.

    Args:
        step: Optimizer steps taken so far.
        schedule: The name of a rule, which starts to count after the warm-up. ``steplr``: times
            gamma every ``step_size[0]`` steps; ``multisteplr``: times gamma at each step listed in
            ``step_size``; ``coswarm``: half a cosine from 1 to 0 over ``step_size[0]`` steps, again
            and again; ``linearlr``: constant after a ramp of five steps from a tenth.
        step_size: Steps, as the rule reads them.
        gamma: Factor at each drop, for the two step rules.
        warmup_steps: Steps over which the factor grows linearly to 1.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    step -= warmup_steps
    if schedule == "steplr":
        return gamma ** (step // step_size[0])
    if schedule == "multisteplr":
        return gamma ** bisect_right(sorted(step_size), step)
    if schedule == "coswarm":
        return 0.5 * (1 + math.cos(math.pi * (step % step_size[0]) / step_size[0]))
    return RAMP_START + (1 - RAMP_START) * min(step / RAMP_STEPS, 1.0)


def build_scheduler(
    optimizer: Optimizer,
    *,
    schedule: ScheduleName,
    step_size: Sequence[int],
    gamma: float,
    warmup_steps: int,
) -> LambdaLR:
    """Build a scheduler to be stepped after every optimizer step; see `rate_factor`.

    Raises:
        ValueError: If the schedule is unknown or a number is out of its range.
    """
    _require_known("lr_scheduler", schedule, get_args(ScheduleName))
    if not step_size or min(step_size) < 1:
        raise ValueError(f"step_size must list numbers of steps >= 1, got {list(step_size)}")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps must be >= 0, got {warmup_steps}")
    if gamma <= 0:
        raise ValueError(f"gamma must be > 0, got {gamma}")

    def factor(step: int) -> float:
        return rate_factor(
            step,
            schedule=schedule,
            step_size=step_size,
            gamma=gamma,
            warmup_steps=warmup_steps,
        )

    return LambdaLR(optimizer, factor)


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    *,
    optimizer: OptimizerName,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool = True,
) -> Optimizer:
    """Build an optimizer of those parameters that learn, all of which decay, as published.

    The 3DSAM-adapter and its baselines (arXiv:2306.13465), and SAMed (arXiv:2304.13785), learn by
    AdamW, nnU-Net (arXiv:1904.08128) by stochastic gradient descent with Nesterov's momentum.

    Args:
        parameters: Those of the network.
        optimizer: adamw or sgd.
        lr: Learning rate.
        weight_decay: Decay of the weights.
        momentum: Momentum of sgd; adamw has its usual ones.
        nesterov: Whether sgd looks ahead.

    Raises:
        ValueError: If the optimizer is unknown, or a number is out of its range.
    """
    _require_known("optimizer", optimizer, get_args(OptimizerName))
    if min(lr, weight_decay) < 0:
        raise ValueError(f"lr and weight_decay must be >= 0, got {lr} and {weight_decay}")
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if optimizer == "adamw":
        return torch.optim.AdamW(learning, lr, weight_decay=weight_decay)
    if not 0 < momentum < 1:
        raise ValueError(f"momentum lies between 0 and 1, got {momentum}")
    return torch.optim.SGD(learning, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)


def step_factor(
    step: int, *, schedule: StepScheduleName, warmup_steps: int, num_steps: int, power: float
) -> float:
    """Return the factor on the learning rate at an optimizer step, as SAMed (arXiv:2304.13785).

    Args:
        step: Optimizer steps taken so far.
        schedule: What follows the warm-up. poly: from 1 to 0 by a power; constant: 1.
        warmup_steps: Steps over which the factor grows linearly to 1.
        num_steps: Steps over which it falls, the warm-up not counted; it then stays.
        power: Of poly.

    Raises:
        ValueError: If the schedule is unknown or a number is not allowed.
    """
    _require_known("lr_scheduler", schedule, get_args(StepScheduleName))
    if warmup_steps < 0 or num_steps < 1 or power < 0:
        raise ValueError(
            "a schedule takes warmup_steps and a power of at least 0 and at least 1 step, got "
            f"{warmup_steps}, {power} and {num_steps}"
        )
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = min((step - warmup_steps) / num_steps, 1.0)
    return 1.0 if schedule == "constant" else (1 - share) ** power


def epoch_factor(epoch: int, *, schedule: EpochScheduleName, num_epochs: int) -> float:
    """Return the factor on the learning rate in an epoch.

    Args:
        epoch: Epochs finished so far; those beyond ``num_epochs`` keep the last factor.
        schedule: linear: from 1 to a hundredth (the 3DSAM-adapter and its baselines); poly: from 1
            to 0 by the power 0.9 (nnU-Net); constant: 1.
        num_epochs: Epochs over which the factor falls.

    Raises:
        ValueError: If the schedule is unknown or there are no epochs.
    """
    _require_known("lr_scheduler", schedule, get_args(EpochScheduleName))
    if num_epochs < 1:
        raise ValueError(f"a schedule takes at least 1 epoch, got {num_epochs}")
    if schedule == "constant":
        return 1.0
    share = min(epoch / num_epochs, 1.0)
    return 1 - (1 - LINEAR_END) * share if schedule == "linear" else (1 - share) ** POLY_POWER


def _require_known(argument: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"unknown {argument} {name!r}; known: {', '.join(known)}")
