"""From a candidate on the working grid to a clean mask on the scan's grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosam3d.inference.predictor import Predictor
from neurosam3d.inference.proposals import Candidate
from neurosam3d.inference.run_log import RunLog
from neurosam3d.inference.sparse_mask import SparseMask, bounding_slices, clean_mask, share_inside
from neurosam3d.inference.working_scan import WorkingScan


@dataclass(frozen=True, eq=False)
class CompleteMask:
    """A candidate's object on the scan's grid.

    Args:
        candidate: The candidate.
        mask: Its voxels.
        num_windows: Windows that it was put together from.
    """

    candidate: Candidate
    mask: SparseMask
    num_windows: int


def complete(
    candidate: Candidate,
    predictor: Predictor,
    *,
    min_volume_mm3: float,
    min_region_mm3: float,
    log: RunLog,
) -> CompleteMask | None:
    """Ask a candidate's window for it once more and bring the answer to the scan's grid.

    That costs one more decoding on an embedding that is kept, but no logits have to be kept of all
    candidates, and one that is cut grows as after any click.

    Args:
        candidate: The candidate.
        predictor: Has the scan.
        min_volume_mm3: Smaller masks are dropped.
        min_region_mm3: Smaller holes are filled, smaller islands removed.
        log: Where time and reasons are noted.

    Returns:
        The mask; nothing if it is too small, or goes on where no window was allowed or confirmed
        it.
    """
    scan, window = predictor.scan, candidate.window
    centre = np.add(window.start, np.floor_divide(window.shape, 2))
    centre, point = scan.to_scan(np.stack([centre, candidate.point]))
    session = predictor.open_session(roi_center=centre, grow=candidate.is_cut)
    prediction = session.add_point(point, 1)
    box = bounding_slices(prediction.mask)
    log.add_seconds(prediction.seconds)
    if not prediction.is_quiet:
        log.counts["open end"] += 1
        return None
    voxel_mm3 = prediction.grid.voxel_mm3
    clean = clean_mask(prediction.mask[box] > 0, min_voxels=min_region_mm3 / voxel_mm3)
    mask = SparseMask.from_array(clean, [side.start for side in box])
    if not mask.num_voxels or mask.num_voxels * voxel_mm3 < min_volume_mm3:
        log.counts["small"] += 1
        return None
    return CompleteMask(candidate, mask, prediction.num_windows)


def is_part_of_any(
    candidate: Candidate, found: Sequence[CompleteMask], scan: WorkingScan, *, share: float
) -> bool:
    """Tell whether more than a share of a candidate lies in a mask that is complete already."""
    voxels = np.argwhere(candidate.mask.crop()) + candidate.mask.start
    points = scan.to_scan(voxels)
    return any(share_inside(points, one.mask) > share for one in found)
