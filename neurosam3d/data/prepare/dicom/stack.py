"""Where the frames of a DICOM-SEG file lie: on parallel planes, in any order and with gaps.

Shapes: F frames; I J K columns, rows and planes of the stack.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosam3d.data.prepare.problems import CaseError, Kind
from neurosam3d.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ONE_PLANE_MM = 0.01  # frames closer than this lie in one plane
_OFF_PLANE = 0.1  # share of the distance between planes by which a frame may miss its plane
_SAME = 1e-4  # directions and voxel sizes of all frames agree to this


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes at equal distances.

    Args:
        planes: (F,) number of each frame's plane along K, from 0 up.
        affine: (4, 4) matrix from index (i, j, k) to RAS+ millimetres.
    """

    planes: np.ndarray
    affine: np.ndarray

    def affine_from(self, plane: int) -> np.ndarray:
        """Return the affine of the stack that begins at a plane."""
        affine = self.affine.copy()
        affine[:3, 3] += plane * affine[:3, 2]
        return affine


def groups_of_frames(dataset: "Dataset", sequence: str) -> list["Dataset"]:
    """Return what a functional group says of every frame, by itself or for all.

    Raises:
        AttributeError: If a frame has no such group.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = dataset.PerFrameFunctionalGroupsSequence
    return [getattr(frame if sequence in frame else shared, sequence)[0] for frame in frames]


def find_stack(dataset: "Dataset", grid: Grid, *, path: Path) -> Stack:
    """Work out from the positions of the frames which planes they lie on.

    The distance between planes is what the file says, else the image's, else the smallest between
    two frames: the first of these of which all distances are multiples. So slices of the image
    that have no frame stay free.

    Args:
        dataset: The file.
        grid: The image's grid.
        path: The file's path, for messages.

    Raises:
        CaseError: If the frames have no position or do not lie on such planes.
    """
    try:
        places = groups_of_frames(dataset, "PlanePositionSequence")
        turns = groups_of_frames(dataset, "PlaneOrientationSequence")
        measures = groups_of_frames(dataset, "PixelMeasuresSequence")
        positions = np.array([p.ImagePositionPatient for p in places], dtype=np.float64)  # (F, 3)
        turn = _common([t.ImageOrientationPatient for t in turns])
        spacing = _common([m.PixelSpacing for m in measures])
    except AttributeError as error:
        raise CaseError(
            f"the frames of {path} have no position in the patient", Kind.BAD_LABEL
        ) from error
    if turn is None or spacing is None:
        raise CaseError(f"the frames of {path} differ in direction or spacing", Kind.BAD_LABEL)
    normal = np.cross(turn[:3], turn[3:])
    away = positions @ normal
    said = abs(float(measures[0].get("SpacingBetweenSlices") or 0))
    steps = [said, _step_along(grid, normal), _smallest_gap(away)]
    planes, step = _number_planes(away - away.min(), steps)
    lowest = positions[planes.argmin()]
    shift = normal * step
    if planes.max() > 0:  # a tilted gantry shifts the planes along themselves, too
        shift = (positions[planes.argmax()] - lowest) / planes.max()
    misses = np.linalg.norm(positions - lowest - planes[:, None] * shift, axis=1)
    if step == 0 or misses.max() > _OFF_PLANE * step:
        raise CaseError(f"the frames of {path} lie at uneven distances", Kind.BAD_LABEL)
    affine = np.eye(4)
    affine[:3, 0] = turn[:3] * spacing[1]  # DICOM names the distance between rows first
    affine[:3, 1] = turn[3:] * spacing[0]
    affine[:3, 2], affine[:3, 3] = shift, lowest
    return Stack(planes, _LPS_TO_RAS @ affine)


def _common(values: list[list[float]]) -> np.ndarray | None:
    """Return what all frames share, None if they differ."""
    array = np.array(values, dtype=np.float64)  # (F, N)
    return array[0] if bool((np.ptp(array, axis=0) <= _SAME).all()) else None


def _step_along(grid: Grid, normal: np.ndarray) -> float:
    """Return the distance between the slices of a grid whose slices have a normal (LPS), else 0."""
    across = np.sort(np.abs(grid.affine[:3, :3].T @ _LPS_TO_RAS[:3, :3] @ normal))
    return float(across[2]) if across[:2].sum() <= _OFF_PLANE * across[2] else 0.0


def _smallest_gap(away: np.ndarray) -> float:
    """Return the smallest distance between two planes; 1 mm for a single plane."""
    gaps = np.diff(np.sort(away))
    gaps = gaps[gaps > _ONE_PLANE_MM]
    return float(gaps.min()) if len(gaps) else 1.0


def _number_planes(away: np.ndarray, steps: list[float]) -> tuple[np.ndarray, float]:
    """Number the planes at distances (F,) from the first; with a step of 0 if there is no fit."""
    num_planes = 1 + np.count_nonzero(np.diff(np.sort(away)) > _ONE_PLANE_MM)
    for step in steps:
        if step > 0:
            planes = np.rint(away / step).astype(int)
            fits = np.abs(away - planes * step).max() <= _OFF_PLANE * step
            if fits and len(np.unique(planes)) == num_planes:
                return planes, step
    return np.zeros(len(away), dtype=int), 0.0
