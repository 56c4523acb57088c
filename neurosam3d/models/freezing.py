"""Which parameters of a network do not learn."""

from collections.abc import Collection

from torch import nn


def freeze(model: nn.Module, beginnings: Collection[str]) -> list[str]:
    """Stop the gradients of all parameters whose names begin so; return their names."""
    frozen = []
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(beginnings)):
            parameter.requires_grad_(False)
            frozen.append(name)
    return frozen


def freeze_all_but(model: nn.Module, parts: Collection[str]) -> list[str]:
    """Stop the gradients of all parameters whose names hold none of the parts; return theirs."""
    names = [name for name, _ in model.named_parameters() if not any(p in name for p in parts)]
    return freeze(model, names)
