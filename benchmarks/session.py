"""Benchmark a session from file to file: ``python -m benchmarks.session``.

A scan is read, an object clicked at in one window, round by round, and its mask written. Times are
multiples of one matrix product (see `benchmarks.measure`).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import gemm_seconds
from neurosam3d.inference import Predictor
from neurosam3d.models import build_model
from neurosam3d.volume import Volume, write_volume


def benchmark_session(
    model_name: str, *, shape: tuple[int, int, int], num_clicks: int
) -> dict[str, float]:
    """Time the parts of a session on a noisy CT of 0.8 x 0.8 x 1.5 mm."""
    generator = np.random.default_rng(0)
    voxels = generator.integers(-1000, 1000, shape, dtype=np.int16)
    torch.manual_seed(0)
    predictor = Predictor(build_model(model_name))
    unit = min(gemm_seconds() for _ in range(5))
    with tempfile.TemporaryDirectory() as folder:
        scan, mask = Path(folder, "scan.nii.gz"), Path(folder, "mask.nii.gz")
        affine = np.diag([-0.8, -0.8, 1.5, 1.0])
        write_volume(Volume(torch.from_numpy(voxels)[None], affine), scan)
        start = time.perf_counter()
        predictor.set_image(scan)
        read = time.perf_counter()
        session = predictor.open_session(grow=False)
        clicks, parts = [], []
        for number in range(num_clicks):
            before = time.perf_counter()
            point = np.array(shape) // 2 + number
            prediction = session.add_point(point, 1 - number % 2)
            assert prediction.mask.shape == shape
            clicks.append(time.perf_counter() - before)
            parts.append(prediction.seconds)
        finished = time.perf_counter()
        prediction.save(mask)
        written = time.perf_counter()
    seconds = {
        "file_to_file": written - start,
        "reading": read - start,
        "first_click": clicks[0],
        "encoding": parts[0]["encode"],
        "further_click": min(clicks[1:]),
        "decoding": min(part["decode"] for part in parts[1:]),
        "restoring": min(part["restore"] for part in parts[1:]),
        "writing": written - finished,
    }
    in_gemms = {f"{name}_gemms": round(value / unit, 2) for name, value in seconds.items()}
    return {"gemm_seconds": round(unit, 4), **in_gemms}


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_b_ori")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--clicks", type=int, default=10)
    arguments = parser.parse_args()
    d, h, w = arguments.shape
    result = benchmark_session(arguments.model, shape=(d, h, w), num_clicks=arguments.clicks)
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
