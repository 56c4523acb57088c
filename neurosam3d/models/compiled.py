"""Compile a network in place (`torch.compile`): same names, same weights, same calls."""

import os
import shutil

from torch import nn

PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
COMPILERS = ("g++", "clang++")


def compile_network(
    network: nn.Module, *, backend: str = "inductor", fullgraph: bool = False
) -> None:
    """Let a network compile itself when it is first called.

    Of a network with SAM's parts, which are called one by one, each is compiled. The number of
    points changes from round to round; after the second number, one compilation serves all.

    Args:
        network: The network; its state dict stays as it is.
        backend: Name of a backend of `torch.compile`.
        fullgraph: Refuse to leave compiled code between the start and the end of a part.

    Raises:
        ValueError: If the backend writes C++ and there is no compiler, or if the network recomputes
            its blocks, at which the compiler of PyTorch 2.13 ends the process.
    """
    if any(getattr(module, "checkpoint_blocks", False) for module in network.modules()):
        raise ValueError("a network that recomputes its blocks cannot be compiled, got one")
    if backend == "inductor":
        _require_compiler()
    parts = [getattr(network, name) for name in PARTS if hasattr(network, name)] or [network]
    for part in parts:
        part.compile(backend=backend, fullgraph=fullgraph)


def _require_compiler() -> None:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in wanted):
        raise ValueError(
            f"to compile a network, PyTorch needs a C++ compiler ({', '.join(wanted)}), got none"
        )
