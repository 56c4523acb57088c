"""The known kinds of checkpoint files: how to tell them, where their weights are, what these are
called.

A kind is told by what a file holds, never by its name. Formats are pure functions from dicts to
dicts; `read_checkpoint` applies them to a file.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from neurosam3d.checkpoint_adapter3d import SPARE, network_name, published_entries
from neurosam3d.checkpoint_io import METADATA, Content, read_content
from neurosam3d.checkpoint_sam2d import MARK, network_entries, published_content
from neurosam3d.models import SAM2D, SAMED
from neurosam3d.models.sam2d_recognise import holds_sam2d

Shapes = Mapping[str, tuple[int, ...]]

DINOV2 = "image_encoder.model."
SWIN = "swinViT."
LORA_FACTORS = (".lora_a", ".lora_b")
_IN_CHUNK = re.compile(r"^(image_encoder\.model\.blocks)\.\d+\.(\d+)\.")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        name: What reports call it.
        recognise: Tells from a file's content whether it is of this kind.
        extract: Takes the state dict, under the file's names, out of the content.
        rename: Turns a file's name into the network's.
        part: Pattern of the network's names that such a file is about.
        part_title: What messages call that part.
        lacks: Patterns of the network's names for additions to it that such a file never has.
        arrange: Turns weights under the network's names back into the file's.
        networks: Names of the networks whose weights come in this format; empty for all.
        spare: Patterns of the file's names for what no network needs.
        is_flat: All tensors of the file are weights, in whatever form `extract` returns them.
    """

    name: str
    recognise: Callable[[Content], bool]
    extract: Callable[[Content], Content]
    rename: Callable[[str], str]
    part: str = "*"
    part_title: str = "the network"
    lacks: tuple[str, ...] = ()
    arrange: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    networks: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    is_flat: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether such a file never fills a whole network."""
        return self.part != "*"

    def covers(self, name: str) -> bool:
        """Tell whether a weight of the network belongs to the part."""
        is_lacking = any(fnmatchcase(name, pattern) for pattern in self.lacks)
        return fnmatchcase(name, self.part) and not is_lacking

    def spares(self, key: str) -> str | None:
        """Return the pattern of what no network needs that a file's name falls under, if any."""
        return next((pattern for pattern in self.spare if fnmatchcase(key, pattern)), None)


def _without_wrappers(name: str) -> str:
    """Drop what Lightning modules, data parallelism and compilation put before a name."""
    return re.sub(r"^((model|network|module|_orig_mod)\.)+", "", name)


def _without_prefix(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _holds_any(value: Any, identities: set[int]) -> bool:
    """Tell whether an object is one of some, or a container that has one of them inside."""
    if isinstance(value, Mapping):
        return any(_holds_any(item, identities) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_any(item, identities) for item in value)
    return id(value) in identities


def _without_metadata(content: Content) -> Content:
    return {name: value for name, value in content.items() if name != METADATA}


def _holds_teacher(content: Content) -> bool:
    wrappers = ("", "module.", "backbone.", "module.backbone.")
    is_bare = any(isinstance(content.get(f"{name}cls_token"), Tensor) for name in wrappers)
    return is_bare or _is_state_dict(content.get("teacher"))


def _teacher_name(name: str) -> str:
    """Place a name in our encoder, but for training's heads; wrappers may stand anywhere in it."""
    if name.startswith(("dino_head.", "ibot_head.")):
        return name
    return DINOV2 + name.replace("module.", "").replace("backbone.", "")


def _holds_swin_encoder(content: Content) -> bool:
    weights = content.get("state_dict", content)
    sign = "layers1.0.blocks.0.attn.qkv.weight"  # behind SWIN in whole networks
    return _is_state_dict(weights) and any(_without_wrappers(str(key)) == sign for key in weights)


def _swin_name(name: str) -> str:
    """Place a name in MONAI's encoder, but for the heads of its self-supervised training."""
    name = re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", _without_wrappers(name))
    return SWIN + name if name.startswith(("patch_embed.", "layers")) else name


def _holds_adapter3d(content: Content) -> bool:
    prompt_encoders = content.get("feature_dict", [])
    parts = [content.get("encoder_dict"), content.get("decoder_dict")]
    is_list = isinstance(prompt_encoders, list)
    return is_list and all(map(_is_state_dict, parts + prompt_encoders))


def _holds_only_lora(content: Content) -> bool:
    names = [name for name, value in content.items() if isinstance(value, Tensor)]
    return bool(names) and all(name.endswith(LORA_FACTORS) for name in names)


def _holds_sam(value: Any) -> bool:
    """Tell a state dict of SAM's image encoder of slices."""
    if not isinstance(value, Mapping):
        return False
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    return holds_sam2d({_without_wrappers(key): tuple(tensors[key].shape) for key in tensors})


def _holds_sam_med2d(content: Content) -> bool:
    weights = content.get("model", {})
    return _holds_sam(weights) and any(".Adapter." in str(key) for key in weights)


ADAPTERS3D = tuple(f"adapter3d_vit_{size}" for size in "blh")
ADDITIONS = ("*.Adapter.*", "*.lora_[ab]")  # to SAM, which its files do not have
COMPARED = ("swin_unetr", "unetr", "3d_uxnet", "nnformer", "unetr++", "transbts")

# The first that recognises a file reads it.
FORMATS = (
    Format(
        "SAM-Med3D checkpoint",
        recognise=lambda content: _is_state_dict(content.get("model_state_dict")),
        extract=lambda content: content["model_state_dict"],
        rename=_without_wrappers,
    ),
    Format(
        "baseline checkpoint",  # of the 3DSAM-adapter's comparison
        recognise=lambda content: _is_state_dict(content.get("network_dict")),
        extract=lambda content: content["network_dict"],
        rename=_without_wrappers,
        networks=COMPARED,
    ),
    Format(
        "Swin encoder",  # model_swinvit.pt
        recognise=_holds_swin_encoder,
        extract=lambda content: content.get("state_dict", _without_metadata(content)),
        rename=_swin_name,
        part=f"{SWIN}*",
        part_title="the Swin encoder",
        arrange=partial(_without_prefix, SWIN),
        networks=("swin_unetr",),
    ),
    Format(
        "Lightning checkpoint",
        recognise=lambda content: _is_state_dict(content.get("state_dict")),
        extract=lambda content: content["state_dict"],
        rename=_without_wrappers,
    ),
    Format(
        "3DINO teacher",
        recognise=_holds_teacher,
        extract=lambda content: content.get("teacher", _without_metadata(content)),
        rename=_teacher_name,
        part="image_encoder.*",
        part_title="the image encoder",
        arrange=partial(_without_prefix, DINOV2),
        networks=("dinov2",),
    ),
    Format(
        "SAMed LoRA",
        recognise=lambda content: isinstance(content.get(MARK), Tensor),
        extract=network_entries,
        rename=_without_wrappers,
        part="*.lora_[ab]",
        part_title="LoRA",
        arrange=published_content,
        networks=tuple(SAMED),
        is_flat=True,
    ),
    Format(
        "SAM-Med2D checkpoint",
        recognise=_holds_sam_med2d,
        extract=lambda content: content["model"],
        rename=_without_wrappers,
        networks=("sam_med2d_vit_b",),
    ),
    Format(
        "MedSAM checkpoint",  # as its training leaves it; published, it is as SAM's
        recognise=lambda content: _holds_sam(content.get("model")),
        extract=lambda content: content["model"],
        rename=_without_wrappers,
        lacks=ADDITIONS,
        networks=(*SAM2D, *SAMED),
    ),
    Format(
        "LoRA alone",
        recognise=_holds_only_lora,
        extract=_without_metadata,
        rename=_without_wrappers,
        part="*.lora_[ab]",
        part_title="LoRA",
    ),
    Format(
        "3DSAM-adapter checkpoint",
        recognise=_holds_adapter3d,
        extract=published_entries,
        rename=network_name,
        networks=ADAPTERS3D,
        spare=SPARE,
    ),
    Format(
        "safetensors",
        recognise=lambda content: METADATA in content and _is_state_dict(content),
        extract=_without_metadata,
        rename=_without_wrappers,
    ),
    Format(
        "SAM checkpoint",
        recognise=_holds_sam,
        extract=lambda content: content,
        rename=_without_wrappers,
        lacks=ADDITIONS,
        networks=(*SAM2D, *SAMED, *ADAPTERS3D),
    ),
    Format(
        "state dict",
        recognise=_is_state_dict,
        extract=lambda content: content,
        rename=_without_wrappers,
    ),
)


@dataclass(frozen=True)
class Checkpoint:
    """A file that was read and recognised.

    Args:
        path: Where it is.
        content: All that it holds.
        format: Its kind.
    """

    path: Path
    content: Content
    format: Format

    @cached_property
    def entries(self) -> Content:
        """What lies where the weights are, under the file's names; not all need be tensors."""
        entries = self.format.extract(self.content)
        return {key: value for key, value in entries.items() if not self.format.spares(key)}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The tensors, under the file's names."""
        return {key: value for key, value in self.entries.items() if isinstance(value, Tensor)}

    @cached_property
    def names(self) -> dict[str, str]:
        """The name in the network of each tensor, by the file's name."""
        return {key: self.format.rename(key) for key in self.weights}

    @cached_property
    def shapes(self) -> Shapes:
        """Shape of each tensor, under the network's names."""
        return {name: tuple(self.weights[key].shape) for key, name in self.names.items()}

    @cached_property
    def lora_names(self) -> list[str]:
        """The factors of LoRA among the tensors, under the network's names."""
        return [name for name in self.shapes if name.endswith(LORA_FACTORS)]

    @property
    def beside(self) -> list[str]:
        """What the file holds beside the weights, a state of the optimizer for example."""
        used = {id(weight) for weight in self.weights.values()}
        others = {
            str(key): value
            for key, value in _without_metadata(self.content).items()
            if not (self.format.is_flat and isinstance(value, Tensor))
        }
        keys = [key for key, value in others.items() if not _holds_any(value, used)]
        spare = {self.format.spares(key): None for key in self.format.extract(self.content)}
        return keys + [pattern for pattern in spare if pattern is not None]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file without running anything in it, and tell its kind.

    Raises:
        ValueError: If it cannot be read, holds Python objects beyond the inert ones, or is of no
            known kind.
    """
    content = read_content(path)
    for candidate in FORMATS:
        if candidate.recognise(content):
            return Checkpoint(path, content, candidate)
    raise ValueError(
        f"{path} is of no known kind ({', '.join(known.name for known in FORMATS)}); "
        f"it holds {shorten([str(key) for key in content]) or 'nothing'}"
    )


def formats_of(network: str) -> list[str]:
    """Return the names of the formats that weights of a network come in."""
    return [known.name for known in FORMATS if not known.networks or network in known.networks]


def without_chunk(name: str) -> str:
    """Drop the group from the name of a DINOv2 block, whose own number tells it alone."""
    return _IN_CHUNK.sub(r"\1.\2.", name)


def shorten(names: Iterable[str], most: int = 4) -> str:
    """List the first names and count the others."""
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
