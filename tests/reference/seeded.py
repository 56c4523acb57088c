"""Weights and inputs that depend on names alone, as the stored reference outputs were made with."""

import zlib

import numpy as np
import torch


def seeded_array(name: str, shape: tuple[int, ...], salt: str = "golden") -> np.ndarray:
    """Draw a standard normal float32 array from a generator seeded by ``salt/name``."""
    generator = np.random.default_rng(zlib.crc32(f"{salt}/{name}".encode()))
    return generator.standard_normal(shape, dtype=np.float32)


def seed_weights(module: torch.nn.Module, salt: str = "golden") -> torch.nn.Module:
    """Fill a module by the names of its entries and return it in eval mode.

    Matrices and kernels are scaled by 1/sqrt(fan in), one-dimensional weights and variances lie
    around 1, all other vectors around 0. Whole numbers stay as they are.
    """
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            values = seeded_array(name, tuple(tensor.shape), salt)
            if tensor.ndim >= 2:
                fan_in = np.prod(tensor.shape[1:], dtype=np.float64)
                values = values / np.sqrt(fan_in).astype(np.float32)
            elif name.endswith("running_var"):
                values = 1 + 0.1 * np.abs(values)
            elif name.endswith("weight"):
                values = 1 + 0.1 * values
            else:
                values = 0.02 * values
            tensor.copy_(torch.as_tensor(values))
    return module.eval()
