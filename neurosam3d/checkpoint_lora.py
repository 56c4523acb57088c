"""Low-rank additions (LoRA) in files: a network gets the layers that a file has factors for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from neurosam3d.checkpoint_formats import LORA_FACTORS, Checkpoint, shorten, without_chunk
from neurosam3d.models.lora import QKV, LoraConfig, LoraLinear, add_lora, lora_layers

# What one adapted layer must agree on: shape of A, adapted parts, scale; None if not known.
Signature = tuple[tuple[int, ...], tuple[int, ...] | None, float | None]


def fit_lora(model: nn.Module, checkpoint: Checkpoint, config: LoraConfig | None) -> bool:
    """Make sure that a network has the low-rank additions that a file has factors for.

    A network without any gets them; one that has them must have the same. Files without any fit
    every network.

    Args:
        model: The network, changed in place.
        checkpoint: The file.
        config: What the file says of its additions, if it does.

    Returns:
        Whether layers were added.

    Raises:
        ValueError: If the network has other additions, lacks a layer, or gets none because the file
            does not say how they are scaled.
    """
    wanted = _signatures_of_file(checkpoint, config)
    if not wanted:
        return False
    present = _signatures_of_network(model)
    if not present:
        if networks := checkpoint.format.networks:
            raise ValueError(
                f"{checkpoint.path} needs a network with LoRA ({', '.join(networks)}), "
                "got one without"
            )
        if config is None:
            raise ValueError(
                f"{checkpoint.path} must say how its LoRA is scaled, in hyper-parameters or "
                "metadata, to be added to a network without it"
            )
        add_lora(model, replace(config, targets=tuple(_find_layers(model, wanted, checkpoint))))
        return True
    fits = present.keys() == wanted.keys() and all(
        all(mine in (theirs, None) for mine, theirs in zip(wanted[name], signature, strict=True))
        for name, signature in present.items()
    )
    if not fits:
        raise ValueError(
            f"the LoRA of {checkpoint.path} must be the network's ({_describe(present)}), "
            f"got {_describe(wanted)}"
        )
    return False


def merged_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the plain network, low-rank additions included.

    Args:
        model: The network with its additions and without memory for weights; it takes these.
        weights: Weights and factors under the network's names.

    Raises:
        ValueError: If the weight of an adapted layer is not among them.
    """
    if lacking := [name for name, _ in lora_layers(model) if f"{name}.weight" not in weights]:
        raise ValueError(
            f"LoRA merges into weights of the same file, got none for {shorten(lacking)}"
        )
    model.load_state_dict(weights, strict=False, assign=True)
    merged = {name: value for name, value in weights.items() if not name.endswith(LORA_FACTORS)}
    for name, layer in lora_layers(model):
        merged[f"{name}.weight"] = layer.weight.detach() + layer.addition()
    return merged


def _signatures_of_file(checkpoint: Checkpoint, config: LoraConfig | None) -> dict[str, Signature]:
    signatures = {}
    for factor in checkpoint.lora_names:
        layer, _, leaf = factor.rpartition(".")
        if leaf == "lora_a":
            parts = scale = None
            if config is not None:
                fused = layer.endswith(f".{QKV}")
                parts = tuple(QKV.index(letter) for letter in config.parts) if fused else (0,)
                scale = config.scale
            signatures[without_chunk(layer)] = (checkpoint.shapes[factor], parts, scale)
    return signatures


def _signatures_of_network(model: nn.Module) -> dict[str, Signature]:
    return {
        without_chunk(name): (tuple(layer.lora_a.shape), layer.parts, layer.scale)
        for name, layer in lora_layers(model)
    }


def _find_layers(model: nn.Module, wanted: Iterable[str], checkpoint: Checkpoint) -> list[str]:
    """Return the network's own names of layers, however the blocks are grouped."""
    linear = {
        without_chunk(name): name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(module, LoraLinear)
    }
    if lacking := [name for name in wanted if name not in linear]:
        raise ValueError(
            f"the LoRA of {checkpoint.path} must fit the network's linear layers, "
            f"got {shorten(lacking)}, which it does not have"
        )
    return [linear[name] for name in wanted]


def _describe(signatures: dict[str, Signature]) -> str:
    """Say in words how layers are adapted."""
    (_, rank, _), _, scale = next(iter(signatures.values()))
    text = f"rank {rank}"
    if scale is not None:
        text += f", scale {scale:g}"
    fused = [parts for name, (_, parts, _) in signatures.items() if parts and name.endswith(QKV)]
    if fused:
        text += f", parts {''.join(QKV[part] for part in fused[0])}"
    return f"{text}, on {len(signatures)} layers"
