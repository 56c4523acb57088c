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
from neurosam3d.evaluation.protocol import ClickProtocol
from neurosam3d.evaluation.result_files import plain_numbers
from neurosam3d.evaluation.slice_protocols import (
    BOX_3D,
    BOX_PER_SLICE,
    ORACLE_SLICES,
    PROPAGATE,
    OracleSlices,
    Propagation,
    SliceBoxes,
)
from neurosam3d.slices import Axis
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
    return Scoring(tolerance_mm, options.threshold, tuple(options.classes), options.legacy)


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
    elif name not in (AUTOMATIC, BOX_PER_SLICE, BOX_3D, PROPAGATE):
        said["num_clicks"] = options.num_clicks
    scoring = scoring_of(name, options)
    return {
        **said,
        "repeats": options.repeats,
        "tolerance_mm": scoring.tolerance_mm,
        "threshold_mm3": scoring.threshold_mm3,
        "classes": list(scoring.classes),
        **({"legacy_figures": scoring.legacy} if scoring.legacy else {}),
    }


def describe_masks(name: str, network: Network | None, *, options: Namespace) -> dict[str, Any]:
    """Say all that decides what the masks of a round are."""
    described = {"name": name, **_describe_network(network, options)}
    if name == AUTOMATIC:
        return described
    if name in (BOX_PER_SLICE, BOX_3D):
        return {**described, "box_margin": options.box_margin}
    if name == PROPAGATE:
        of_box = {"box_margin": options.box_margin} if options.prompt == "box" else {}
        return {**described, "prompt": options.prompt, **of_box, "seed": options.seed}
    rule = "uniform, with replacement" if name == ADAPTER3D else options.point_method
    return {**described, "click_rule": rule, "seed": options.seed}


def make_slice_protocol(name: str, options: Namespace, axis: Axis) -> ClickProtocol:
    """Return one of the protocols for networks of slices.

    Args:
        name: Its name.
        options: The command line.
        axis: What the slices are stacked along.

    Raises:
        ValueError: If an option is out of range.
    """
    if name == ORACLE_SLICES:
        return OracleSlices(options.num_clicks, options.point_method, options.seed, axis)
    if name == PROPAGATE:
        return Propagation(options.prompt, options.box_margin, options.seed, axis)
    return SliceBoxes(name, options.box_margin, axis)


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
    base = {} if network.base is None else {"base_sha256": _digest_of(network.base)}
    feeding = network.feeding
    if feeding["spacing"] is None:
        feeding["spacing"] = "native"
    return {
        "model": network.name,
        "checkpoint_sha256": _digest_of(network.checkpoint),
        **base,
        "crop_size": network.crop_size,
        **plain_numbers(feeding),
        **_describe_looking(network, options),
    }


def _describe_looking(network: Network, options: Namespace) -> dict[str, Any]:
    """Say how a network goes through a scan."""
    if network.is_of_slices:
        return {} if network.is_promptable else {"smooth": options.smooth is not False}
    if network.is_promptable:
        return {"max_windows": options.max_windows}
    return {"overlap": options.overlap, "mirror": options.mirror}


def _digest_of(path: Path) -> str:
    """Return the SHA-256 of a file as it is now."""
    return _digest(path, path.stat().st_mtime_ns)


@cache
def _digest(path: Path, written: int) -> str:
    """Return the SHA-256 of a file as it was written at some time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
