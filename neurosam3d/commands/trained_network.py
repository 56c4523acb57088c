"""What `train.py test` and `predict` need to know of inference: the training room may not ask."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from neurosam3d.inference import Predictor
from neurosam3d.inference.batch import list_scans, plan_batch
from neurosam3d.inference.prompt_file import read_prompts
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.inference.scan_files import Origin
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.scan_segmenter import ScanJob, ScanSegmenter
from neurosam3d.inference.slice_predictor import SlicePredictor
from neurosam3d.inference.slice_segmenter import SliceSegmenter, Unprompted
from neurosam3d.models import Sam2D
from neurosam3d.slices import Axis
from neurosam3d.sliding_window import Weighting
from neurosam3d.volume import Spacing

logger = logging.getLogger(__name__)


def make_predictor(network: nn.Module, *, spacing: Spacing | None, intensity: str) -> Predictor:
    """Return what answers clicks on a scan, where the network is.

    Args:
        network: A network of SAM's seam, or a 3DSAM-adapter with prompts.
        spacing: Voxel size in mm that it was trained with; None for each scan's own.
        intensity: Its preset of the intensities.
    """
    return Predictor(network, spacing, None, intensity)


def make_segmenter(
    network: nn.Module,
    classes: Sequence[str],
    *,
    spacing: Spacing | None,
    intensity: str,
    overlap: float,
    weighting: Weighting,
    mirror: bool,
) -> PromptFreeSegmenter:
    """Return what segments scans by itself, where the network is.

    Args:
        network: A network without prompts.
        classes: Names of what it finds.
        spacing: Voxel size in mm that it was trained with; None for each scan's own.
        intensity: Its preset of the intensities.
        overlap: Share of a window that the next one covers, too.
        weighting: How windows are weighted where they overlap.
        mirror: Average over the eight ways to mirror a window.
    """
    return PromptFreeSegmenter(
        network,
        classes,
        spacing=spacing,
        intensity=intensity,
        overlap=overlap,
        weighting=weighting,
        mirror=mirror,
    )


def make_slice_predictor(
    network: nn.Module, *, spacing: Spacing | None, intensity: str, axis: Axis, feeding: str
) -> SlicePredictor:
    """Return what answers prompts about a scan slice by slice, where the network is.

    Args:
        network: A network of slices that takes prompts.
        spacing: Voxel size in mm that it was trained with; None for each scan's own.
        intensity: Its preset of the intensities.
        axis: What its slices are stacked along.
        feeding: How slices become what it sees.
    """
    assert isinstance(network, Sam2D)  # no other asks for it
    return SlicePredictor(network, feeding=feeding, spacing=spacing, intensity=intensity, axis=axis)


def make_slice_segmenter(
    network: nn.Module,
    classes: Sequence[str],
    *,
    spacing: Spacing | None,
    intensity: str,
    axis: Axis,
    detail: int | None,
    smooth: bool = True,
) -> SliceSegmenter:
    """Return what segments scans slice by slice, where the network is.

    Args:
        network: A network of slices without prompts.
        classes: Names of what it finds.
        spacing: Voxel size in mm that it was trained with; None for each scan's own.
        intensity: Its preset of the intensities.
        axis: What its slices are stacked along.
        detail: Side in pixels to which they are reduced first; None if they are not.
        smooth: Bring logits back to the slice, not labels as published.
    """
    return SliceSegmenter(
        network,
        classes,
        spacing=spacing,
        intensity=intensity,
        axis=axis,
        detail=detail,
        smooth=smooth,
    )


@dataclass(frozen=True)
class PlannedScans:
    """Scans of a folder to be segmented as `neurosam3d segment` does.

    Args:
        jobs: Scans by name.
        origin: What the results say of the network.
    """

    jobs: Mapping[str, ScanJob]
    origin: Origin

    def segment(self, network: ScanPredictor | Unprompted, name: str) -> None:
        """Segment the scan of a name and write what was found.

        Raises:
            ValueError: If it cannot be read or a prompt does not fit it.
        """
        ScanSegmenter(network, self.origin).run(self.jobs[name])


def plan_unprompted(images: Path, output: Path, *, origin: Origin) -> PlannedScans:
    """Find the scans of a folder, for a network that needs no prompts.

    Args:
        images: The folder.
        output: Folder of the results.
        origin: What the results say of the network.

    Raises:
        ValueError: If there is no scan, or two of them would share a result.
    """
    return PlannedScans(plan_batch(list_scans(images), None, output).jobs, origin)


def plan_prompted(images: Path, prompts: Path, output: Path, *, origin: Origin) -> PlannedScans:
    """Find the scans of a folder that a file has prompts for; what does not match is logged.

    Args:
        images: The folder.
        prompts: JSON or CSV, as `neurosam3d segment` takes it.
        output: Folder of the results.
        origin: What the results say of the network.

    Raises:
        ValueError: If a file cannot be read, or no scan has prompts.
    """
    batch = plan_batch(list_scans(images), read_prompts(prompts), output)
    for name in batch.unknown:
        logger.warning("the prompts name %s, which is no scan of %s", name, images)
    if batch.unasked:
        logger.warning("%d scans of %s have no prompts", len(batch.unasked), images)
    if not batch.jobs:
        raise ValueError(f"{prompts} must have prompts for a scan of {images}, got none")
    return PlannedScans(batch.jobs, origin)
