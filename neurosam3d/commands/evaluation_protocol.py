"""What the result of an evaluation says of how it came about."""

import hashlib
from argparse import Namespace
from functools import cache
from pathlib import Path
from typing import Any

from neurosam3d.commands.network import Network
from neurosam3d.evaluation.challenge_evaluation import NAME as CVPR25
from neurosam3d.evaluation.cvpr25 import NUM_CLICKS, TOLERANCE_MM
from neurosam3d.version import __version__


def describe_protocol(name: str, network: Network | None, options: Namespace) -> dict[str, Any]:
    """Say by what an evaluation judges and what it judges.

    Args:
        name: The protocol's name.
        network: What is judged; None for masks that are there already.
        options: The command line.
    """
    if name == CVPR25:
        return {
            "name": name,
            **_describe_network(network, options),
            "num_clicks": NUM_CLICKS,
            "tolerance_mm": TOLERANCE_MM,
        }
    return {
        **describe_masks(name, network, options),
        "num_clicks": options.num_clicks,
        "repeats": options.repeats,
        "tolerance_mm": options.tolerance_mm,
        "threshold_mm3": options.threshold,
    }


def describe_masks(name: str, network: Network | None, options: Namespace) -> dict[str, Any]:
    """Say all that decides what the masks of a round are."""
    return {
        "name": name,
        "click_rule": options.point_method,
        "seed": options.seed,
        **_describe_network(network, options),
    }


def describe_data(options: Namespace) -> dict[str, Any]:
    """Say which scans are judged, and by which version of this package."""
    return {
        "data": str(options.test_data_path),
        "labels": None if options.labels is None else str(options.labels),
        "set": options.data_type,
        "datasets": list(options.datasets),
        "channel": options.channel,
        "neurosam3d": __version__,
    }


def _describe_network(network: Network | None, options: Namespace) -> dict[str, Any]:
    if network is None:
        return {}
    written = network.checkpoint.stat().st_mtime_ns
    return {
        "model": network.name,
        "checkpoint_sha256": _digest(network.checkpoint, written),
        "crop_size": network.model.image_size,
        "spacing": "native" if network.spacing is None else list(network.spacing),
        "intensity": network.intensity,
        "max_windows": options.max_windows,
    }


@cache
def _digest(path: Path, written: int) -> str:
    """Return the SHA-256 of a file as it was written at some time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
