"""Checkpoint files that other programs read, too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor

from neurosam3d import checkpoint_adapter3d, checkpoint_sam2d
from neurosam3d.files import replacing
from neurosam3d.recognise import encode_metadata

Layout = Literal["sam_med3d", "bare", "safetensors", "adapter3d", "baseline", "sam_med2d", "samed"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
KEY_OF_LAYOUT: dict[Layout, str] = {  # under which the state dict is
    "sam_med3d": "model_state_dict",
    "baseline": "network_dict",
    "sam_med2d": "model",
}
LAYOUT_OF_SUFFIX: dict[str, Layout] = {
    ".pth": "sam_med3d",
    ".pt": "bare",
    ".safetensors": "safetensors",
    ".tar": "adapter3d",
}


def write_checkpoint(
    path: Path, weights: Mapping[str, Tensor], *, layout: Layout, values: Mapping[str, Any]
) -> None:
    """Write weights so that the file is there as a whole or not at all.

    No file holds more than tensors, numbers and texts, so all of them load without running code.

    Args:
        path: The file to write or replace.
        weights: Tensors under the names that the file shall have for them; types are kept.
        layout: sam_med3d: `model_state_dict` beside `args`, as SAM-Med3D's programs read it. bare:
            the state dict, with no place for anything else. safetensors: tensors and metadata.
            adapter3d: as 3DSAM-adapter's programs read it, beside `args`. baseline: `network_dict`
            beside `args`, as its programs read the networks that it is compared with. sam_med2d:
            `model` beside `args`, as SAM-Med2D's programs read it. samed: what SAMed's programs
            read beside SAM's checkpoint, with no place for anything else.
        values: What to say of the network, as `Identity.to_values` gives it, and of the file.

    Raises:
        ValueError: If the weights are not of a network that the layout is for.
    """
    compact = _compact(weights)
    with replacing(path) as unfinished:
        if layout == "safetensors":
            unfinished.touch()
            mode = unfinished.stat().st_mode  # safetensors lets nobody else read its files
            safetensors.torch.save_file(compact, unfinished, metadata=encode_metadata(values))
            unfinished.chmod(mode)
            return
        content = _arrange(compact, layout, values)
        with unfinished.open("wb") as file:  # by itself, torch refuses names without an ending
            torch.save(content, file)


def _arrange(
    weights: dict[str, Tensor], layout: Layout, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that a pickled file of a layout holds."""
    if layout == "bare":
        return weights
    if layout == "samed":
        return dict(checkpoint_sam2d.published_content(weights))
    if layout == "adapter3d":
        parts = checkpoint_adapter3d.published_content(weights)
    else:
        parts = {KEY_OF_LAYOUT[layout]: weights}
    return {"epoch": 0, **parts, "args": dict(values)}


def layout_of(path: Path) -> Layout:
    """Return the layout that goes with a file's ending.

    Raises:
        ValueError: If none does.
    """
    if path.suffix not in LAYOUT_OF_SUFFIX:
        known = ", ".join(LAYOUT_OF_SUFFIX)
        raise ValueError(f"the ending of a checkpoint must be one of {known}, got '{path.name}'")
    return LAYOUT_OF_SUFFIX[path.suffix]


def _compact(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor memory of its own and no more than it needs; files would keep the rest."""
    compact: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in weights.items():
        storage = value.untyped_storage()
        is_own = storage.data_ptr() not in taken and storage.nbytes() == value.nbytes
        taken.add(storage.data_ptr())
        if not (is_own and value.is_contiguous()):
            value = value.clone(memory_format=torch.contiguous_format)
        compact[name] = value.detach()
    return compact
