"""What to lower when a training step does not fit into a device's memory."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neurosam3d.mistakes import is_out_of_memory
from neurosam3d.models.catalogue import BaselineEntry, catalogue
from neurosam3d.training.network_run import NetworkRun

# Bytes per number in float32: the weight, and for those that learn its gradient and AdamW's two
# moments.
KEPT, LEARNT = 4, 16

RECOMPUTING = ("checkpoint_blocks", "checkpoint_upscaling")


@contextmanager
def explained(module: NetworkRun, *, batch_size: int) -> Iterator[None]:
    """Turn running out of memory in training into a sentence with what to lower.

    Raises:
        ValueError: With that sentence.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        device = module.trainer.strategy.root_device
        capacity = None
        if device.type == "cuda":
            capacity = torch.cuda.get_device_properties(device).total_memory
        sentence = explain(module.model, module.hparams, batch_size=batch_size, capacity=capacity)
        raise ValueError(sentence) from error


def explain(
    network: nn.Module, options: Mapping[str, Any], *, batch_size: int, capacity: int | None
) -> str:
    """Say in one sentence what a step needs, and what would make it need less.

    Args:
        network: The network that was trained.
        options: The arguments of its LightningModule.
        batch_size: Samples per device.
        capacity: Bytes of the device; None if unknown.
    """
    needs = f"{_gib(fixed_bytes(network))} for weights, gradients and optimizer"
    if (sample := sample_bytes(options)) is not None:
        needs += f" and about {_gib(sample)} for each sample of the batch"
    has = "" if capacity is None else f", the device has {_gib(capacity)}"
    ways = "; or ".join(_ways(options, batch_size))
    return f"out of memory: in float32 a training step needs {needs}{has}; {ways}"


def fixed_bytes(network: nn.Module) -> int:
    """Count the bytes that training takes whatever the batch is: weights, gradients, moments."""
    return sum(p.numel() * (LEARNT if p.requires_grad else KEPT) for p in network.parameters())


def sample_bytes(options: Mapping[str, Any]) -> int | None:
    """Estimate what a sample keeps for the backward pass, from the counts of the catalogue.

    These are of other sizes and eleven clicks; they are scaled by the number of voxels and clicks.

    Args:
        options: `model_type`, `img_size` or `crop_size`, and `mask_stride` and `num_clicks` if any.

    Returns:
        Bytes in float32, or None for a network of which nothing was counted.
    """
    entry = next((one for one in catalogue() if one.name == options["model_type"]), None)
    if entry is None:
        return None
    sides: tuple[int, ...]
    if isinstance(entry, BaselineEntry):
        counted, sides = entry.costs.step_mib, entry.costs.crop_size
    else:
        decoders = entry.costs.decoders
        counted = decoders[options.get("mask_stride", min(decoders))].step_mib
        sides = (entry.costs.image_size,) * (2 if entry.family == "sam2d" else 3)
    given = options.get("crop_size") or (options["img_size"],) * len(sides)
    return round(counted * 2**20 * math.prod(given) / math.prod(sides))


def _ways(options: Mapping[str, Any], batch_size: int) -> Iterator[str]:
    """Say what can be lowered, and what else saves memory and is not yet in use."""
    given: dict[str, Any] = {"data.batch_size": batch_size if batch_size > 1 else None}
    given |= {"data.img_size": options.get("img_size")}
    if "crop_size" in options:
        given |= {"data.crop_size": " x ".join(map(str, options["crop_size"]))}
    given |= {"model.num_clicks": options.get("num_clicks")}
    yield "lower " + ", ".join(
        f"{name} ({value})" for name, value in given.items() if value is not None
    )
    unused = [name for name in RECOMPUTING if name in options and not options[name]]
    yield "set " + ", ".join(
        [*(f"model.{name} true" for name in unused), "trainer.precision bf16-mixed"]
    )


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
