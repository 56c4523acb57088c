"""Weights from files: SAM-Med3D's, NeuroSAM3D's and our own Lightning files, bare state dicts.

A file is read without running anything in it (`checkpoint_io`), recognised by its keys (`FORMATS`)
and matched to the network name by name.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurosam3d.checkpoint_io import Content, read_content
from neurosam3d.models import build_model, list_models
from neurosam3d.models.vit3d import VIT3D_CONFIGS

logger = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]
_IN_BLOCK = re.compile(r"image_encoder\.blocks\.(\d+)\.")


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
    """

    format: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [f"{self.format}: {len(self.loaded)} tensors loaded"]
        for kind in ("resized", "missing", "unexpected", "mismatched"):
            if names := getattr(self, kind):
                counts.append(f"{len(names)} {kind} ({_shorten(names)})")
        return ", ".join(counts)


@dataclass(frozen=True)
class Format:
    """A kind of file: how to tell it, where its weights are, what it calls them.

    Args:
        name: What reports call it.
        recognise: Tells from a file's content whether it is of this kind.
        extract: Takes the state dict, under the file's names, out of the content.
        rename: Turns a file's name into the network's.
    """

    name: str
    recognise: Callable[[Content], bool]
    extract: Callable[[Content], Content]
    rename: Callable[[str], str]


def _without_wrappers(name: str) -> str:
    """Drop what Lightning modules, data parallelism and compilation put before a name."""
    return re.sub(r"^((model|network|module|_orig_mod)\.)+", "", name)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


# The first that recognises a file reads it.
FORMATS = (
    Format(
        "SAM-Med3D checkpoint",
        recognise=lambda content: _is_state_dict(content.get("model_state_dict")),
        extract=lambda content: content["model_state_dict"],
        rename=_without_wrappers,
    ),
    Format(
        "Lightning checkpoint",
        recognise=lambda content: _is_state_dict(content.get("state_dict")),
        extract=lambda content: content["state_dict"],
        rename=_without_wrappers,
    ),
    Format(
        "state dict",
        recognise=_is_state_dict,
        extract=lambda content: content,
        rename=_without_wrappers,
    ),
)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> LoadReport:
    """Fill a network from a file.

    Names and shapes that agree are loaded. Position tables of another image size are resized,
    which is logged. The rest is left as it was and reported.

    Args:
        model: The network to fill, in place.
        path: A `.pth`, `.pt`, `.ckpt` or `.safetensors` file.

    Raises:
        ValueError: If the file cannot be read without running code in it or is of no known kind,
            or if it would fill fewer than half of the parameters' elements. The network is then
            unchanged.
    """
    path = Path(path)
    return _fill(model, read_content(path), path)


def load_model(path: str | os.PathLike[str], name: str | None = None) -> nn.Module:
    """Build the network that a file belongs to and fill it.

    Args:
        path: A `.pth`, `.pt`, `.ckpt` or `.safetensors` file.
        name: Which network it is, one of `list_models()`. Otherwise the file's hyper-parameters
            say so, else the shapes of its weights.

    Returns:
        The network in evaluation mode, with the image size, mask stride and box prompts of the
        file.

    Raises:
        ValueError: As `load_weights`; or if the network cannot be told, or its name is unknown.
    """
    path = Path(path)
    content = read_content(path)
    format_ = _recognise_format(content, path)
    shapes = {
        format_.rename(key): tuple(value.shape)
        for key, value in format_.extract(content).items()
        if isinstance(value, Tensor)
    }
    stored_name, stored = _stored_options(content)
    recognised, options = recognise_network(shapes)
    name = name or stored_name or recognised
    if name is None:
        raise ValueError(
            f"cannot tell which network {path} belongs to; name one of {', '.join(list_models())}"
        )
    model = build_model(name, **{**stored, **options})
    logger.info("%s: %s", path, _fill(model, content, path))
    return model.eval()


def recognise_network(shapes: Shapes) -> tuple[str | None, dict[str, Any]]:
    """Tell a network from the names and shapes of its weights.

    Args:
        shapes: Shape of every weight, under the network's names.

    Returns:
        Its name in `list_models()`, or None if it is none of them, and what the weights say of its
        options: `image_size`, `mask_stride`, `box_prompts`.
    """
    options: dict[str, Any] = {}
    if "prompt_encoder.point_embeddings.0.weight" in shapes:
        options["box_prompts"] = "prompt_encoder.point_embeddings.2.weight" in shapes
    if "mask_decoder.output_upscaling.0.weight" in shapes:
        options["mask_stride"] = 1 if "mask_decoder.output_upscaling.9.weight" in shapes else 4
    positions = shapes.get("image_encoder.pos_embed", ())
    patches = shapes.get("image_encoder.patch_embed.proj.weight", ())
    if len(positions) != 5 or len(patches) != 5:
        return None, options
    options["image_size"] = positions[1] * patches[2]
    blocks = {found[1] for found in map(_IN_BLOCK.match, shapes) if found}
    head_dim = shapes.get("image_encoder.blocks.0.attn.rel_pos_d", (0,))[-1]
    for name, config in VIT3D_CONFIGS.items():
        size = (config.dim, config.depth, config.dim // config.num_heads)
        if size == (positions[4], len(blocks), head_dim):
            return name, options
    return None, options


def _recognise_format(content: Content, path: Path) -> Format:
    for candidate in FORMATS:
        if candidate.recognise(content):
            return candidate
    raise ValueError(
        f"{path} is of no known kind ({', '.join(known.name for known in FORMATS)}); "
        f"it holds {_shorten([str(key) for key in content]) or 'nothing'}"
    )


def _stored_options(content: Content) -> tuple[str | None, dict[str, Any]]:
    """Return what a file's hyper-parameters say: the network's name, and options to build it."""
    stored = content.get("hyper_parameters", content.get("args", {}))
    values = stored if isinstance(stored, Mapping) else getattr(stored, "__dict__", {})
    options = {
        "image_size": values.get("img_size"),
        "mask_stride": values.get("mask_stride"),
        "box_prompts": values.get("box_prompts"),
        "published_quirks": values.get("published_quirks"),
    }
    name = values.get("model_type")
    known = {option: value for option, value in options.items() if isinstance(value, int)}
    return name if isinstance(name, str) else None, known


def _fill(model: nn.Module, content: Content, path: Path) -> LoadReport:
    """Match a file's weights to the network's and load them, or raise before changing anything."""
    format_ = _recognise_format(content, path)
    weights = format_.extract(content)
    found = {format_.rename(key): key for key in weights if isinstance(weights[key], Tensor)}
    state, filled = model.state_dict(), {}
    report = LoadReport(format_.name)
    for name, current in state.items():
        if name not in found:
            report.missing.append(name)
            continue
        value = weights[found[name]]
        fitting = value if value.shape == current.shape else _resize(name, value, current.shape)
        if fitting is None:
            report.mismatched.append(name)
            continue
        filled[name] = fitting
        report.loaded.append(name)
        if fitting is not value:
            report.resized.append(name)
    used = {found[name] for name in state if name in found}
    report.unexpected.extend(key for key in weights if key not in used)
    _require_half(model, filled, report, path)
    if report.resized:
        logger.warning("%s: resized to the image size: %s", path, _shorten(report.resized))
    model.load_state_dict(filled, strict=False)
    return report


def _resize(name: str, table: Tensor, shape: torch.Size) -> Tensor | None:
    """Bring a position table to another grid, or return None if the name or shape is no table's."""
    last = name.rpartition(".")[2]
    if table.ndim != len(shape) or table.shape[-1] != shape[-1]:
        return None
    if last == "pos_embed" and table.ndim == 5:
        grid = table.float().movedim(4, 1)  # (1, C, n, n, n)
        grid = F.interpolate(grid, size=shape[1:4], mode="trilinear", align_corners=False)
        return grid.movedim(1, 4)  # (1, m, m, m, C)
    if last in ("rel_pos_d", "rel_pos_h", "rel_pos_w"):
        rows = table.float().T[None]  # (1, head channels, 2T - 1)
        return F.interpolate(rows, size=shape[0], mode="linear", align_corners=False)[0].T
    return None


def _require_half(
    model: nn.Module, filled: Mapping[str, Tensor], report: LoadReport, path: Path
) -> None:
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    share = sum(sizes[name] for name in filled if name in sizes) / sum(sizes.values())
    if share < 0.5:
        raise ValueError(
            f"{path} must fill at least half of the network's parameter elements, "
            f"got {share:.1%} ({report})"
        )


def _shorten(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
