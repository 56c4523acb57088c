"""What a network without prompts says about a scan: a label map, and how logits become one.

Shapes: K classes, the background first; D H W the scan's own axes, d h w those of the working grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.working_scan import WorkingScan, repeat_outermost
from neurosam3d.intensity import padding_value
from neurosam3d.volume import Grid, Spacing, Volume, restore

MOST_CLASSES = 255  # that eight bits can tell from the background
_EVERYWHERE = np.ones(3, dtype=bool)


@dataclass(frozen=True, eq=False)
class LabelMapAnswer:
    """What a network says about a whole scan.

    Args:
        labels: uint8 (D, H, W): 0 background, k the k-th class.
        classes: Their names, in the order of their values.
        grid: The scan's.
        seconds: Time by step: `prepare`, `segment`, `restore`.
        num_windows: Windows that the network segmented.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    grid: Grid
    seconds: Mapping[str, float]
    num_windows: int

    def mask(self, class_name: str) -> np.ndarray:
        """Return the voxels of a class, boolean (D, H, W).

        Raises:
            ValueError: If the network does not know it.
        """
        if class_name not in self.classes:
            known = ", ".join(self.classes)
            raise ValueError(f"the network knows the classes {known}, got {class_name}")
        return self.labels == 1 + self.classes.index(class_name)


def check_feeding(classes: Sequence[str], *, spacing: Spacing | None, intensity: str) -> None:
    """Refuse at once what every scan would be refused for later.

    Args:
        classes: Names of the classes but the background.
        spacing: Voxel size of the working grid in millimetres; None for the scan's own.
        intensity: Preset of the intensities.

    Raises:
        ValueError: If one of them is not allowed.
    """
    if not 1 <= len(set(classes)) == len(classes) <= MOST_CLASSES:
        raise ValueError(
            f"classes must be 1 to {MOST_CLASSES} different names, got {', '.join(classes)}"
        )
    padding_value(intensity)
    if spacing is not None:
        Grid((1, 1, 1), np.eye(4)).with_spacing(spacing)


def require_all_named(classes: Sequence[str], number: int) -> None:
    """Refuse names that are not one for each class that a network tells from the background.

    Raises:
        ValueError: If they are not so many.
    """
    if len(classes) != number:
        raise ValueError(
            f"classes must name all {number} that the network tells apart, got {', '.join(classes)}"
        )


def label_scan(logits: Tensor, scan: WorkingScan) -> np.ndarray:
    """Return the class with the highest logit (K, d, h, w) on the scan's own grid (D, H, W).

    Of equal ones it is the first. Logits rather than labels are interpolated, for smooth borders,
    and class by class: all at once they would fill the memory.
    """
    affine, grid = scan.grid().affine, scan.volume.grid
    if not scan.is_interpolated:  # voxels are only copied, and bytes faster
        return restore_labels(logits.argmax(0).to(torch.uint8), scan)

    def on_scan(one: Tensor) -> Tensor:
        known = Volume(one[None], affine)
        enlarged = repeat_outermost(known, at_start=_EVERYWHERE, at_stop=_EVERYWHERE)
        return restore(enlarged, grid).data[0]

    background, *others = logits
    best = on_scan(background)
    labels = torch.zeros(grid.shape, dtype=torch.uint8)
    for value, one in enumerate(others, start=1):
        found = on_scan(one)
        labels[found > best] = value
        torch.maximum(best, found, out=best)
    return labels.numpy()


def restore_labels(labels: Tensor, scan: WorkingScan) -> np.ndarray:
    """Bring a label map (d, h, w) to the scan's own grid (D, H, W), each voxel from the nearest."""
    known = Volume(labels[None], scan.grid().affine)
    if scan.is_interpolated:
        known = repeat_outermost(known, at_start=_EVERYWHERE, at_stop=_EVERYWHERE)
    return restore(known, scan.volume.grid, mode="nearest").data[0].numpy()
