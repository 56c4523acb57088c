"""Scans whose image is the truth, for networks that see it, on awkward grids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neurosam3d.evaluation.case_files import Scan, list_folder
from neurosam3d.evaluation.protocol import InteractiveProtocol
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.inference import Predictor
from neurosam3d.volume import Volume, write_volume
from tests.inference.oracle import Oracle, oblique, oracle_predictor

SHAPE = (30, 26, 34)
AFFINES = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LPS, anisotropic": np.diag([-0.8, -1.2, 3.0, 1.0]),
    "permuted, oblique": oblique((2.0, 0.7, 1.1), axes=(2, 0, 1), signs=(1, -1, -1)),
    "thick slices": oblique((0.9, 0.9, 5.0), axes=(0, 1, 2), signs=(-1, 1, 1)),
}


def block(
    low: Sequence[int] = (10, 8, 12),
    shape: Sequence[int] = (6, 8, 5),
    *,
    within: Sequence[int] = SHAPE,
) -> np.ndarray:
    """Return a mask (D, H, W), uint8, of a box of voxels."""
    mask = np.zeros(within, dtype=np.uint8)
    mask[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))] = 1
    return mask


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write voxels (D, H, W) and return the path."""
    affine = AFFINES["LPS, anisotropic"] if affine is None else affine
    write_volume(Volume(torch.from_numpy(array)[None], affine), path)
    return path


def write_pairs(
    root: Path,
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    affine: np.ndarray | None = None,
) -> Path:
    """Write images and label maps by the names of their cases into imagesTs and labelsTs."""
    for case, (image, label) in pairs.items():
        write(root / "imagesTs" / f"{case}.nii.gz", image.astype(np.float32), affine)
        write(root / "labelsTs" / f"{case}.nii.gz", label, affine)
    return root


def toy_scans(root: Path, *, number: int = 7) -> list[Scan]:
    """Write scans with two objects each, of which the second is not quite what the image shows."""
    pairs = {}
    for index in range(number):
        image = block((4 + index, 5, 6), (5, 6, 7)) + block((20, 15, 20), (6, 5, 4 + index))
        label = block((4 + index, 5, 6), (5, 6, 7)) + 2 * block((20, 15, 20 - index % 3), (6, 5, 4))
        pairs[f"case{index}"] = (image, label)
    return list_folder(write_pairs(root, pairs))


def sighted_evaluator(**options: object) -> ScanEvaluator:
    """Return an evaluator of a network that sees in the image where the object is."""

    def load() -> Predictor:
        return oracle_predictor(Oracle())

    protocol = options.pop("protocol", InteractiveProtocol(num_clicks=3, point_method="random"))
    return ScanEvaluator(load, protocol, **options)  # type: ignore[arg-type]


def without_seconds(results: Iterable[CaseResult]) -> list[CaseResult]:
    """Return results without what no two runs share."""
    nothing = {"seconds": None, "encode_seconds": None, "decode_seconds": None}
    return [
        replace(result, rounds=tuple(replace(entry, **nothing) for entry in result.rounds))
        for result in results
    ]
