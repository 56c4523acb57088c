"""What the result of an evaluation says of how it came about."""

import hashlib
from argparse import Namespace
from functools import cache
from pathlib import Path
from typing import Any

from neurosam3d.commands.network import Network
from neurosam3d.evaluation import adapter3d_protocol
from neurosam3d.evaluation.adapter3d_protocol import NAME as ADAPTER3D
from neurosam3d.evaluation.automatic_evaluation import NAME as AUTOMATIC
from neurosam3d.evaluation.challenge_evaluation import NAME as CVPR25
from neurosam3d.evaluation.cvpr25 import NUM_CLICKS, TOLERANCE_MM
from neurosam3d.evaluation.object_scoring import Scoring
from neurosam3d.version import __version__


def scoring_of(name: str, options: Namespace) -> Scoring:
    """Return how a protocol scores masks, and which objects count.

    Raises:
        ValueError: If an option is out of range.
    """
    tolerance_mm = options.tolerance_mm
    if tolerance_mm is None:
        is_adapters = name in (ADAPTER3D, AUTOMATIC)
        tolerance_mm = adapter3d_protocol.TOLERANCE_MM if is_adapters else Scoring.tolerance_mm
    return Scoring(tolerance_mm, options.threshold, tuple(options.classes))


def describe_protocol(name: str, network: Network | None, *, options: Namespace) -> dict[str, Any]:
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
    said = describe_masks(name, network, options=options)
    if name == ADAPTER3D:
        said["num_prompts"] = sorted(set(options.num_prompts))
    elif name != AUTOMATIC:
        said["num_clicks"] = options.num_clicks
    scoring = scoring_of(name, options)
    return {
        **said,
        "repeats": options.repeats,
        "tolerance_mm": scoring.tolerance_mm,
        "threshold_mm3": scoring.threshold_mm3,
        "classes": list(scoring.classes),
    }


def describe_masks(name: str, network: Network | None, *, options: Namespace) -> dict[str, Any]:
    """Say all that decides what the masks of a round are."""
    described = {"name": name, **_describe_network(network, options)}
    if name == AUTOMATIC:
        return described
    rule = "uniform, with replacement" if name == ADAPTER3D else options.point_method
    return {**described, "click_rule": rule, "seed": options.seed}


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
    windows = {"max_windows": options.max_windows}
    if not network.is_promptable:
        windows = {"overlap": options.overlap, "mirror": options.mirror}
    return {
        "model": network.name,
        "checkpoint_sha256": _digest(network.checkpoint, written),
        "crop_size": network.crop_size,
        "spacing": "native" if network.spacing is None else list(network.spacing),
        "intensity": network.intensity,
        **windows,
    }


@cache
def _digest(path: Path, written: int) -> str:
    """Return the SHA-256 of a file as it was written at some time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
