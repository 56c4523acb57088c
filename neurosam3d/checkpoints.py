"""Weights from files into networks.

A file is read without running anything in it (`checkpoint_io`), its kind told by what it holds
(`checkpoint_formats`), its network by what it says and by its shapes (`recognise`). Then weights
are matched to the network name by name.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurosam3d.checkpoint_formats import (
    LORA_FACTORS,
    Checkpoint,
    read_checkpoint,
    shorten,
    without_chunk,
)
from neurosam3d.checkpoint_lora import fit_lora
from neurosam3d.models import BASELINES, build_model, list_overrides
from neurosam3d.models.lora import LoraConfig, remove_lora, unmerge_lora
from neurosam3d.recognise import Identity, identify, require_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What became of every weight.

    Args:
        format: Kind of file.
        loaded: Names in the network that were filled, resized ones included.
        missing: Names in the network that the file does not have.
        unexpected: Names in the file that the network does not have.
        mismatched: Names in both whose shapes differ.
        resized: Names of position tables that were brought to the network's image size.
        derived: Names of position tables along the slice axis that a file of a 2-D network lacks;
            they got the mean of those of the other axes, and are among the loaded.
    """

    format: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [f"{self.format}: {len(self.loaded)} tensors loaded"]
        for kind in ("resized", "derived", "missing", "unexpected", "mismatched"):
            if names := getattr(self, kind):
                counts.append(f"{len(names)} {kind} ({shorten(names)})")
        return ", ".join(counts)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> LoadReport:
    """Fill a network from a file.

    Names and shapes that agree are loaded; blocks agree whether or not their names are grouped in
    chunks. Position tables of another image size are resized, which is logged. If the file has
    low-rank additions (LoRA) and the network has none, it gets them. The rest is left as it was and
    reported.

    Args:
        model: The network to fill, in place.
        path: A `.pth`, `.pt`, `.ckpt` or `.safetensors` file.

    Raises:
        ValueError: If the file cannot be read without running code in it or is of no known kind, if
            its LoRA is not the network's, or if it would fill fewer than half of the parameters'
            elements: of the image encoder's or of LoRA's if its kind holds no more than that. The
            network is then unchanged.
    """
    checkpoint = read_checkpoint(Path(path))
    return _fill(model, checkpoint, identify(checkpoint).lora)


def load_model(
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    image_size: int | None = None,
    base: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """Build the network that a file belongs to and fill it.

    Args:
        path: A `.pth`, `.pt`, `.ckpt` or `.safetensors` file.
        name: Which network it is, one of `list_models()`. Otherwise the file's hyper-parameters or
            metadata say so, else the shapes of its weights.
        image_size: Side of its images in voxels, where it shall not be the file's: position tables
            are resized to it.
        base: A file with the rest of the network, where `path` holds a part of it by nature: SAM's
            where it is of SAMed, for example. It is read first.

    Returns:
        The network in evaluation mode, with the image size, mask stride, box prompts and LoRA of
        the file.

    Raises:
        ValueError: As `load_weights`; or if the network cannot be told, its name is unknown, the
            file does not say for which crops a network without prompts is, or it and its base do
            not go together.
    """
    checkpoint = read_checkpoint(Path(path))
    beneath = None if base is None else read_base(Path(base), checkpoint)
    identity = identify(checkpoint, name)
    known_name = require_name(identity, checkpoint)
    size = {} if image_size is None else _size_option(known_name, image_size)
    identity = replace(identity, name=known_name, options={**identity.options, **size})
    if not checkpoint.format.is_partial:  # before memory is taken for what a file says of itself
        outline = outline_network(checkpoint, identity)
        require_fit(outline, checkpoint, *match_weights(outline, checkpoint))
    model = _build(identity, checkpoint)
    if beneath is not None:
        logger.info("%s: %s", base, _fill(model, beneath, identify(beneath).lora))
    report = _fill(model, checkpoint, identity.lora)
    if report.mismatched and known_name in BASELINES:
        raise ValueError(
            f"{path} must be of a {known_name} for crops of the default size where it names no "
            f"other, got other shapes for {shorten(report.mismatched)}; build_model with crop_size "
            "and load_weights read it"
        )
    logger.info("%s: %s", path, report)
    if checkpoint.format.is_partial and base is None:
        part = checkpoint.format.part
        logger.warning("%s fills only %s of %s; the rest is random", path, part, known_name)
    return model.eval()


def read_base(path: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Read the file with what another one lacks of its network.

    Args:
        path: The file beneath.
        checkpoint: The other one.

    Raises:
        ValueError: If it cannot be read, or the two do not hold a whole network and a part of one.
    """
    base = read_checkpoint(path)
    if base.format.is_partial or not checkpoint.format.is_partial:
        raise ValueError(
            "a base holds a whole network and lies beneath a part of one, "
            f"got {path} ({base.format.name}) beneath {checkpoint.path} ({checkpoint.format.name})"
        )
    return base


def _size_option(name: str, side: int) -> dict[str, Any]:
    """Return the argument of `build_model` for images of a side, as the network calls it."""
    if name in BASELINES:
        return {"crop_size": (side,) * 3}
    return {"crop_size" if "crop_size" in list_overrides(name) else "image_size": side}


def outline_network(checkpoint: Checkpoint, identity: Identity) -> nn.Module:
    """Build the network that a file belongs to, without memory for its weights.

    Raises:
        ValueError: If its name is not known, or the file's LoRA fits none of its layers.
    """
    with torch.device("meta"):
        model = _build(identity, checkpoint)
        fit_lora(model, checkpoint, identity.lora)
    return model


def _build(identity: Identity, checkpoint: Checkpoint) -> nn.Module:
    """Build the network that a file says it is of.

    Raises:
        ValueError: If its name is not known, or there is none with such options.
    """
    name = require_name(identity, checkpoint)
    try:
        return build_model(name, **identity.options)
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{checkpoint.path} says of its {name} that it has {dict(identity.options)}, of which "
            f"no network can be built ({reason})"
        ) from error


def match_weights(model: nn.Module, checkpoint: Checkpoint) -> tuple[LoadReport, dict[str, Tensor]]:
    """Tell what of a file fits a network.

    Args:
        model: The network, on any device; its weights are not read.
        checkpoint: The file.

    Returns:
        What would become of every weight, and those that would be filled under the network's names.
    """
    found = {without_chunk(name): key for key, name in checkpoint.names.items()}
    fitting, used = {}, set()
    report = LoadReport(checkpoint.format.name)
    for name, current in model.state_dict().items():
        key = found.get(without_chunk(name))
        used.add(key)
        value = checkpoint.weights[key] if key else _mean_table(name, found, checkpoint.weights)
        if value is None:
            report.missing.append(name)
            continue
        resized = value if value.shape == current.shape else _resize(name, value, current.shape)
        if resized is None:
            report.mismatched.append(name)
            continue
        fitting[name] = resized
        report.loaded.append(name)
        if resized is not value:
            report.resized.append(name)
        if key is None:
            report.derived.append(name)
    report.unexpected.extend(str(key) for key in checkpoint.entries if key not in used)
    return report, fitting


def require_fit(
    model: nn.Module, checkpoint: Checkpoint, report: LoadReport, fitting: Mapping[str, Tensor]
) -> None:
    """Refuse a file that does not belong to a network.

    Raises:
        ValueError: If a factor of LoRA has another shape, or fewer than half of the parameters'
            elements of the part that the file is about would be filled.
    """
    if unfit := [name for name in report.mismatched if name.endswith(LORA_FACTORS)]:
        raise ValueError(
            f"the LoRA of {checkpoint.path} must have the shapes that it says it has, "
            f"got others for {shorten(unfit)}"
        )
    format_ = checkpoint.format
    sizes = {n: p.numel() for n, p in model.named_parameters() if format_.covers(n)}
    share = sum(sizes[name] for name in fitting if name in sizes) / max(sum(sizes.values()), 1)
    if share < 0.5:
        raise ValueError(
            f"{checkpoint.path} must fill at least half of {format_.part_title}'s parameter "
            f"elements, got {share:.1%} ({report})"
        )


def _fill(model: nn.Module, checkpoint: Checkpoint, lora: LoraConfig | None) -> LoadReport:
    """Match a file's weights to the network's and load them, or raise and leave it as it was."""
    was_adapted = fit_lora(model, checkpoint, lora)
    try:
        report, fitting = match_weights(model, checkpoint)
        require_fit(model, checkpoint, report, fitting)
    except ValueError:
        if was_adapted:
            remove_lora(model)  # the additions are still zero
        raise
    if report.resized:
        shown = shorten(report.resized)
        logger.warning("%s: resized to the image size: %s", checkpoint.path, shown)
    unmerge_lora(model)  # weights are kept apart from additions in files
    model.load_state_dict(fitting, strict=False)
    return report


def _mean_table(
    name: str, found: Mapping[str, str], weights: Mapping[str, Tensor]
) -> Tensor | None:
    """Return the mean of the in-plane tables for one along the slice axis; None for other names."""
    keys = [found.get(re.sub(r"\.rel_pos_d$", f".rel_pos_{axis}", name)) for axis in "hw"]
    h, w = (weights[key].float() if key else None for key in keys)
    return None if h is None or w is None or h.shape != w.shape else (h + w) / 2


def _resize(name: str, table: Tensor, shape: torch.Size) -> Tensor | None:
    """Bring a position table to another grid, or return None if the name or shape is no table's."""
    last = name.rpartition(".")[2]
    if table.ndim != len(shape) or table.shape[-1] != shape[-1]:
        return None
    if last == "pos_embed" and table.ndim == 5:
        grid = table.float().movedim(4, 1)  # (1, C, n, n, n)
        grid = F.interpolate(grid, size=shape[1:4], mode="trilinear", align_corners=False)
        return grid.movedim(1, 4)  # (1, m, m, m, C)
    if last == "pos_embed" and table.ndim == 4:
        grid = table.float().movedim(3, 1)  # (1, C, n, n)
        grid = F.interpolate(grid, size=shape[1:3], mode="bilinear", align_corners=False)
        return grid.movedim(1, 3)  # (1, m, m, C)
    if last == "pos_embed" and table.ndim == 3:  # of the class token, then of a cube
        old, new = (round((length - 1) ** (1 / 3)) for length in (table.shape[1], shape[1]))
        if (1 + old**3, 1 + new**3) != (table.shape[1], shape[1]):
            return None
        grid = table[:, 1:].float().transpose(1, 2).unflatten(2, (old,) * 3)  # (1, C, n, n, n)
        grid = F.interpolate(grid, size=(new,) * 3, mode="trilinear", align_corners=False)
        return torch.cat([table[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1)
    if last in ("rel_pos_d", "rel_pos_h", "rel_pos_w"):
        rows = table.float().T[None]  # (1, head channels, 2T - 1)
        return F.interpolate(rows, size=shape[0], mode="linear", align_corners=False)[0].T
    return None
