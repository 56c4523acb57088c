"""How much of the image encoder learns: everything, its last blocks, additions to it, or nothing.

Prompt encoder and mask decoder always learn, and so does the encoder's neck: it maps features to
what the decoder reads, and weights from self-supervision bring none.
"""

import logging
import os
import re
from collections.abc import Iterable
from typing import Literal, get_args

from torch import nn

from neurosam3d.checkpoints import load_weights
from neurosam3d.models.lora import LoraConfig, add_lora, lora_layers, remove_lora

logger = logging.getLogger(__name__)

Finetuning = Literal["full", "last", "lora", "frozen"]

# `blocks.<index>.` or, grouped, `blocks.<chunk>.<index>.`; the index counts through all groups.
_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.(?:(\d+)\.)?")


def block_index(name: str) -> int | None:
    """Return the number of the transformer block that a parameter of an encoder belongs to."""
    found = _BLOCK.search(name)
    return None if found is None else int(found[2] or found[1])


def count_blocks(encoder: nn.Module) -> int:
    """Count the transformer blocks of an encoder."""
    indices = (block_index(name) for name, _ in encoder.named_parameters())
    return 1 + max((index for index in indices if index is not None), default=-1)


def limit_learning(
    encoder: nn.Module,
    mode: Finetuning,
    *,
    last_blocks: int = 2,
    lora: LoraConfig | None = None,
) -> list[str]:
    """Freeze what shall not learn, and add what shall, in place.

    Args:
        encoder: An image encoder with `blocks` and a `neck`.
        mode: full: all of it learns. last: the last blocks and what follows them. lora: low-rank
            additions to its linear layers. frozen: only the neck.
        last_blocks: Number of blocks that learn with "last".
        lora: The additions of "lora"; None for those of SAMed, rank 4 on queries and values.

    Returns:
        The names of the frozen parameters.

    Raises:
        ValueError: If the mode is unknown, or a number or a layer is not there.
    """
    if mode not in get_args(Finetuning):
        raise ValueError(f"unknown finetune {mode!r}; known: {', '.join(get_args(Finetuning))}")
    depth = count_blocks(encoder)
    if mode == "last" and not 1 <= last_blocks <= depth:
        raise ValueError(
            f"the encoder has {depth} blocks, so 1 to {depth} can learn, got {last_blocks}"
        )
    if mode == "full":
        return []
    if mode == "lora":
        add_lora(encoder, lora or LoraConfig())
    first = depth - last_blocks if mode == "last" else depth
    frozen = []
    for name, parameter in encoder.named_parameters():
        if _learns(name, mode, first):
            continue
        parameter.requires_grad_(False)
        frozen.append(name)
    return frozen


def read_start(model: nn.Module, paths: Iterable[str | os.PathLike[str]]) -> None:
    """Fill a network from files, one after the other.

    Low-rank additions that a file brings stay apart in a network that has some; otherwise they join
    the weights, so that the network is the one that was built, and its optimizer knows every
    parameter.

    Args:
        model: The network, already limited by `limit_learning`.
        paths: Checkpoints of any known format.

    Raises:
        ValueError: If a file cannot be read, or does not fit.
    """
    is_adapted = any(True for _ in lora_layers(model))
    for path in paths:
        logger.info("%s: %s", path, load_weights(model, path))
    if not is_adapted:
        remove_lora(model)


def _learns(name: str, mode: Finetuning, first: int) -> bool:
    if name.startswith("neck.") or name.endswith((".lora_a", ".lora_b")):
        return True
    index = block_index(name)
    if index is None:  # the final norm follows the blocks; patches and positions come before them
        return mode == "last" and name.endswith(("norm.weight", "norm.bias"))
    return index >= first
