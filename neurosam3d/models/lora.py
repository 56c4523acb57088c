"""Low-rank adaptation (LoRA, arXiv:2106.09685): fine-tune a small addition to frozen weights.

A linear layer W becomes W + s B A with A (r, in) and B (out, r); only A and B learn. Of the fused
query-key-value layer of an attention, single parts can be adapted, by default queries and values
as SAMed does (arXiv:2304.13785, section 3.2).

The adapted layer keeps the names `weight` and `bias`, so checkpoints of the plain network load into
it; its own parameters are `lora_a` and `lora_b`.

Shapes: K adapted parts of the output, P parts in all (3 of a qkv layer, else 1), r rank.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QKV = "qkv"  # last part of the name of a layer that computes queries, keys and values at once


@dataclass(frozen=True)
class LoraConfig:
    """Which layers are adapted, and how.

    Attributes:
        rank: Rank r of the additions.
        alpha: The additions are scaled by s = alpha / rank; None for s = 1.
        targets: Ends of the names of the linear layers to adapt, for example "attn.qkv", "proj".
        parts: Of a layer named qkv: which of q, k and v.

    Raises:
        ValueError: If a value is not allowed.
    """

    rank: int = 4
    alpha: float | None = None
    targets: tuple[str, ...] = ("attn.qkv",)
    parts: str = "qv"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"the rank of LoRA is at least 1, got {self.rank}")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"alpha of LoRA is positive, got {self.alpha}")
        if not self.targets:
            raise ValueError("LoRA needs at least one layer name among its targets, got none")
        if not self.parts or not re.fullmatch("q?k?v?", self.parts):
            raise ValueError(
                f"the parts that LoRA adapts are of q, k, v in order, got {self.parts!r}"
            )

    @property
    def scale(self) -> float:
        """Factor s on the additions."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for checkpoints."""
        return {**asdict(self), "targets": list(self.targets)}


class LoraLinear(nn.Linear):
    """A linear layer with a low-rank addition to some equal parts of its output.

    It starts as the layer it replaces, whose parameters it takes over: B is zero.

    Args:
        base: The layer to adapt.
        rank: Rank r of the addition to each part.
        scale: Factor s on the addition.
        parts: Indices of the adapted parts.
        num_parts: Number P of parts that the output consists of.

    Raises:
        ValueError: If the output does not divide into the parts.
    """

    def __init__(
        self,
        base: nn.Linear,
        *,
        rank: int,
        scale: float = 1.0,
        parts: Sequence[int] = (0,),
        num_parts: int = 1,
    ) -> None:
        if base.out_features % num_parts:
            raise ValueError(
                f"{base.out_features} outputs must divide into {num_parts} equal parts"
            )
        has_bias = base.bias is not None
        super().__init__(base.in_features, base.out_features, bias=has_bias, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale = scale
        self.parts = tuple(parts)
        self.num_parts = num_parts
        self.merged = False
        size, num_adapted = base.out_features // num_parts, len(self.parts)
        like = base.weight.detach()  # device and type of the new parameters
        self.lora_a = nn.Parameter(like.new_empty(num_adapted, rank, base.in_features))
        self.lora_b = nn.Parameter(like.new_zeros(num_adapted, size, rank))
        for factor in self.lora_a:
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))  # as nn.Linear starts its weight

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        y = F.linear(x, self.weight, self.bias)
        if self.merged:
            return y
        return y + self.scale * F.linear(F.linear(x, self.lora_a.flatten(0, 1)), self._expanded_b())

    def _expanded_b(self) -> Tensor:
        """Return B with rows of zeros for the other parts, (out, K * r)."""
        num_adapted, size, rank = self.lora_b.shape
        b = self.lora_b.new_zeros(self.num_parts, size, num_adapted, rank)
        for index, part in enumerate(self.parts):
            b[part, :, index] = self.lora_b[index]
        return b.reshape(self.out_features, -1)

    @torch.no_grad()
    def addition(self) -> Tensor:
        """Return s B A, (out, in)."""
        return self.scale * (self._expanded_b() @ self.lora_a.flatten(0, 1))

    @torch.no_grad()
    def merge(self) -> None:
        """Add the addition to the weight, so that the layer costs what a plain one does."""
        if not self.merged:
            self.weight += self.addition()
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take the addition out of the weight again, exact to rounding."""
        if self.merged:
            self.weight -= self.addition()
            self.merged = False

    def train(self, mode: bool = True) -> "LoraLinear":
        """Set the mode; a merged layer cannot learn and is unmerged to train."""
        if mode:
            self.unmerge()
        return super().train(mode)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.merged:  # state dicts have one form only
            destination[f"{prefix}weight"] = self.weight.detach() - self.addition()


def add_lora(model: nn.Module, config: LoraConfig) -> list[str]:
    """Adapt the targeted linear layers of a network, in place. Nothing is frozen here.

    Args:
        model: The network, or a part of it.
        config: Which layers, and how.

    Returns:
        The names of the adapted layers.

    Raises:
        ValueError: If the network is adapted already, or a target names no linear layer of it.
    """
    if next(lora_layers(model), None) is not None:
        raise ValueError("the network has LoRA layers already")
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    found = [name for name in layers if _is_target(name, config.targets)]
    idle = [end for end in config.targets if not any(_is_target(name, (end,)) for name in layers)]
    if idle:
        known = sorted({".".join(name.split(".")[-2:]) for name in layers})
        raise ValueError(f"no linear layer is named {idle[0]!r}; there are {', '.join(known)}")
    for name in found:
        parent, _, leaf = name.rpartition(".")
        fused = leaf == QKV
        adapted = LoraLinear(
            layers[name],
            rank=config.rank,
            scale=config.scale,
            parts=[QKV.index(letter) for letter in config.parts] if fused else [0],
            num_parts=3 if fused else 1,
        )
        setattr(model.get_submodule(parent), leaf, adapted.train(layers[name].training))
    return found


def remove_lora(model: nn.Module) -> None:
    """Turn adapted layers into plain ones with the additions in their weights, in place."""
    for name, layer in list(lora_layers(model)):
        layer.merge()
        plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, "meta")
        plain.weight, plain.bias = layer.weight, layer.bias
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, plain.train(layer.training))


def merge_lora(model: nn.Module) -> None:
    """Merge every adapted layer, for inference."""
    for _, layer in lora_layers(model):
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Undo `merge_lora`."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers with their names."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the additions alone: every `lora_a` and `lora_b` under its name in the network."""
    return {
        f"{name}.{factor}": getattr(layer, factor).detach()
        for name, layer in lora_layers(model)
        for factor in ("lora_a", "lora_b")
    }


def _is_target(name: str, targets: Sequence[str]) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in targets)
