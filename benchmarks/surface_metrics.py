"""Benchmark the metrics against the `surface-distance` package: ``python -m
benchmarks.surface_metrics``.

Both compute Dice, surface Dice, HD95 and average surface distances of pairs of masks, in turns in
one run. The pairs: an organ and a good prediction of it; one that lies beside it by 8 voxels; the
good one with one voxel in a hundred flipped in both masks; a lesion of 1,600 voxels.
"""

import argparse
import json
import os
import sys

import numpy as np
import surface_distance
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks.measure import interleaved_minima
from neurosam3d.evaluation.metrics import score_masks

SPACING = (1.5, 0.75, 0.75)
TOLERANCE_MM = 2.0


def make_pairs(side: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw predictions and truths (side, side, side) by name."""
    axis = np.arange(side) / side - 0.5
    from_centre = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    organ = 0.36 + 0.04 * smooth_noise(side, scale=side / 10, seed=1) - from_centre
    truth = organ > 0
    prediction = organ + 0.008 * smooth_noise(side, scale=side / 40, seed=2) > 0
    generator = np.random.default_rng(3)
    flipped = generator.random((2, side, side, side)) < 0.01
    z, y, x = (axis - c for c in (0.1, -0.2, 0.15))
    lesion = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < (7.3 / side) ** 2
    return {
        "organ": (prediction, truth),
        "displaced": (np.roll(truth, (5, 6, 3), axis=(0, 1, 2)), truth),
        "noisy": (prediction ^ flipped[0], truth ^ flipped[1]),
        "lesion": (np.roll(lesion, (1, 2, -1), axis=(0, 1, 2)), lesion),
    }


def smooth_noise(side: int, *, scale: float, seed: int) -> np.ndarray:
    """Draw noise of variance 1 (side, side, side) that changes over `scale` voxels."""
    noise = np.random.default_rng(seed).standard_normal((side,) * 3, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, scale)
    return smooth / smooth.std()


def score_by_package(prediction: np.ndarray, truth: np.ndarray) -> list[float]:
    """Compute Dice, surface Dice, HD95 and ASSD with the package."""
    found = surface_distance.compute_surface_distances(truth, prediction, SPACING)
    means = surface_distance.compute_average_surface_distance(found)
    areas = [found[f"surfel_areas_{name}"].sum() for name in ("gt", "pred")]
    return [
        float(surface_distance.compute_dice_coefficient(truth, prediction)),
        float(surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
        float(surface_distance.compute_robust_hausdorff(found, 95)),
        float(np.dot(means, areas) / np.sum(areas)),
    ]


def score_by_us(prediction: np.ndarray, truth: np.ndarray) -> list[float]:
    """Compute the same with this package."""
    found = score_masks(prediction, truth, spacing=SPACING, tolerance_mm=TOLERANCE_MM)
    return [found.dice, found.surface_dice, found.hausdorff95, found.assd]


def measure_pair(
    prediction: np.ndarray, truth: np.ndarray, *, repeats: int
) -> dict[str, float | list[float]]:
    """Time both on one pair and compare what they say."""
    seconds = interleaved_minima(
        {
            "package": lambda: score_by_package(prediction, truth),
            "ours": lambda: score_by_us(prediction, truth),
        },
        repeats=repeats,
    )
    expected, scores = score_by_package(prediction, truth), score_by_us(prediction, truth)
    return {
        "scores": [round(score, 4) for score in scores],
        "package_seconds": round(seconds["package"], 4),
        "seconds": round(seconds["ours"], 4),
        "times_faster": round(seconds["package"] / seconds["ours"], 1),
        "largest_difference": float(np.abs(np.subtract(scores, expected)).max()),
    }


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256, help="side of the volume in voxels")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; minima are reported")
    options = parser.parse_args()
    table = Table(title=f"{options.side}³ voxels, {os.cpu_count()} cores")
    for heading in ("pair", "surface-distance, s", "ours, s", "times faster", "difference"):
        table.add_column(heading, justify="right")
    result: dict[str, object] = {"side": options.side, "cores": os.cpu_count()}
    for name, pair in make_pairs(options.side).items():
        found = measure_pair(*pair, repeats=options.repeats)
        columns = ("package_seconds", "seconds", "times_faster", "largest_difference")
        table.add_row(name, *(f"{found[column]:.3g}" for column in columns))
        result[name] = found
    Console().print(table)
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
