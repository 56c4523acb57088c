"""What a sheet shows of a scan: the slices that show its labels best.

Shapes: D H W volume, its canonical axes running to the Right, Anterior and Superior; rows, columns
of a slice as it is drawn, row 0 on top.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neurosam3d.data.case import Case
from neurosam3d.data.sheet_scans import Scan
from neurosam3d.volume import Volume, read_volume, to_canonical


@dataclass(frozen=True)
class Plane:
    """A plane through a canonical volume, drawn as radiologists do.

    The axes across and up are drawn from high to low, so the patient's right, or front, is on the
    left.

    Args:
        cut: The axis it is perpendicular to.
        across: The axis along its columns.
        up: The axis along its rows.
        ends: Where left, right, top and bottom are in the patient.
    """

    cut: int
    across: int
    up: int
    ends: str


PLANES = {
    "axial": Plane(cut=2, across=0, up=1, ends="RLAP"),
    "coronal": Plane(cut=1, across=0, up=2, ends="RLSI"),
    "sagittal": Plane(cut=0, across=1, up=2, ends="APSI"),
}

# Below the first limit, in Hounsfield units, the labelled tissue is mostly air; above the second it
# is mostly bone. Windows are given by their black and white ends.
_LUNG_BELOW, _BONE_ABOVE = -400, 300
LUNG_WINDOW, SOFT_WINDOW, BONE_WINDOW = (-1350.0, 150.0), (-160.0, 240.0), (-450.0, 1050.0)
_AIR = -200  # every CT scan in Hounsfield units has voxels below


@dataclass(frozen=True)
class Slice:
    """One slice as it is drawn.

    Args:
        plane: axial, coronal or sagittal.
        image: Intensities (rows, columns).
        labels: 0 for background, n for the n-th of the tile's classes (rows, columns).
        pixel_mm: Height and width of a pixel.
        window: The intensities drawn black and white.
        is_ct: Whether they are Hounsfield units.
    """

    plane: str
    image: np.ndarray
    labels: np.ndarray
    pixel_mm: tuple[float, float]
    window: tuple[float, float]
    is_ct: bool


@dataclass(frozen=True)
class Tile:
    """One scan of a sheet.

    Args:
        scan: Which one.
        slices: One per plane; none if it cannot be read.
        classes: What the values 1, 2, ... of the slices' labels stand for.
        problem: Why it cannot be read, in one sentence.
    """

    scan: Scan
    slices: tuple[Slice, ...] = ()
    classes: tuple[str, ...] = ()
    problem: str = ""


def read_tile(scan: Scan, planes: Sequence[str]) -> Tile:
    """Read a scan and cut out the slices to draw; what cannot be read becomes a problem.

    Where labels overlap, the smaller object is on top.

    Args:
        scan: What to read.
        planes: Keys of `PLANES`.
    """
    cases = sorted(scan.cases, key=lambda case: case.volume_mm3, reverse=True)
    try:
        image = read_volume(cases[0].image)
        labels = torch.zeros(image.shape, dtype=torch.int16)
        for number, case in enumerate(cases, start=1):
            mask = read_volume(case.label)
            if not mask.grid.same_as(image.grid):
                raise ValueError(f"{case.label} does not lie on the grid of {case.image}")
            labels.masked_fill_(mask.data[0] > 0, number)
    except ValueError as error:
        return Tile(scan, problem=str(error))
    is_ct = _may_be_ct(cases[0]) and float(image.data.min()) < _AIR
    slices = cut_slices(image, Volume(labels[None], image.affine), planes, is_ct=is_ct)
    return Tile(scan, slices, tuple(case.class_name for case in cases))


def cut_slices(
    image: Volume, labels: Volume, planes: Sequence[str], *, is_ct: bool = False
) -> tuple[Slice, ...]:
    """Cut, for each plane, the slice that shows the labels best, in radiological orientation.

    Every label counts by how much of its own largest slice is seen, so that a small object is not
    lost beside a large one.

    Args:
        image: Intensities (1, D, H, W), axes in any order.
        labels: Whole numbers (1, D, H, W) on the same grid, 0 for background.
        planes: Keys of `PLANES`.
        is_ct: Whether the intensities are Hounsfield units.
    """
    image, labels = to_canonical(image), to_canonical(labels)
    return tuple(_cut(image, labels, plane, is_ct) for plane in planes)


def choose_window(image: np.ndarray, mask: np.ndarray, *, is_ct: bool) -> tuple[float, float]:
    """Return the intensities to draw black and white.

    Args:
        image: Intensities (rows, columns).
        mask: Which of them are labelled; they decide between the windows of CT.
        is_ct: Whether they are Hounsfield units; others are windowed by their percentiles.
    """
    if not is_ct:
        low, high = np.percentile(image, (0.5, 99.5)).tolist()
        return low, high if high > low else low + 1
    middle = np.median(image[mask]) if mask.any() else 0.0
    if middle < _LUNG_BELOW:
        return LUNG_WINDOW
    return BONE_WINDOW if middle > _BONE_ABOVE else SOFT_WINDOW


def _cut(image: Volume, labels: Volume, plane: str, is_ct: bool) -> Slice:
    view, spacing = PLANES[plane], image.spacing
    index = _best_slice(labels.data[0].numpy(), view.cut)
    pixels, numbers = (
        # (D, H, W) -> (across, up) -> (rows, columns), both turned to run from high to low
        volume.data[0].numpy().take(index, view.cut).T[::-1, ::-1]
        for volume in (image, labels)
    )
    window = choose_window(pixels, numbers > 0, is_ct=is_ct)
    floor = _AIR if is_ct else window[0] + 0.1 * (window[1] - window[0])
    shown = _surroundings((pixels > floor) | (numbers > 0))
    return Slice(
        plane=plane,
        image=pixels[shown].astype(np.float32),
        labels=numbers[shown].copy(),
        pixel_mm=(spacing[view.up], spacing[view.across]),
        window=window,
        is_ct=is_ct,
    )


def _surroundings(seen: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of what is seen (rows, columns), and some more."""
    slices = []
    for axis, size in enumerate(seen.shape):
        found = np.flatnonzero(seen.any(axis=1 - axis))
        margin = 2 + size // 40
        first, last = (found[0], found[-1]) if len(found) else (0, size - 1)
        slices.append(slice(max(first - margin, 0), last + margin + 1))
    return slices[0], slices[1]


def _may_be_ct(case: Case) -> bool:
    """Whether what is known of a scan, for example "CT", "CBCT" or nothing, leaves room for CT."""
    said = case.extra.get("modality") or "unknown"
    words = said if isinstance(said, str) else " ".join(said)
    return re.search(r"\b(cb)?ct|unknown", words, re.IGNORECASE) is not None


def _best_slice(labels: np.ndarray, axis: int) -> int:
    """Find the slice on which the labels together are seen best; without labels, the middle."""
    num_values = int(labels.max()) + 1
    areas = np.stack(
        [
            np.bincount(labels.take(index, axis).ravel(), minlength=num_values)
            for index in range(labels.shape[axis])
        ]
    )[:, 1:]  # (slices, labels)
    scores = (areas / np.maximum(areas.max(axis=0), 1)).sum(axis=1)
    # Of equals the middle one: an end of a tube is no better than its middle, but less typical.
    best = np.flatnonzero(scores >= scores.max() - 1e-9)
    return int(best[len(best) // 2])
