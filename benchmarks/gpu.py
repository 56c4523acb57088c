"""Measure one network on a CUDA device: ``python -m benchmarks.gpu NETWORK``.

Training steps of a session with a loss per click, in bfloat16 by autocast, for growing batches,
as they are and compiled; then clicks on one encoded image. Utilisation is that of the model: the
operations which torch counts (nothing is recomputed), divided by the time and by what the device
could do.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.flops import flop_counter
from benchmarks.networks import PROMPTABLE, ball, seeded_model, training_step
from neurosam3d.models import Sam3D
from neurosam3d.models.compiled import compile_network
from neurosam3d.training.callbacks import peak_memory_gib

# 10^12 operations per second of dense bfloat16 matrix products, as the vendor states them.
PEAK_TFLOPS = {"A100": 312.0, "H100": 989.0, "H200": 989.0, "L40S": 362.0, "A40": 149.7}
NUM_CLICKS = 11
Row = dict[str, float | int | str | bool]


def peak_tflops(name: str) -> float | None:
    """Return what a device of that name could do at most, if known."""
    return next((peak for known, peak in PEAK_TFLOPS.items() if known in name), None)


def measure_training(
    name: str,
    *,
    device: str,
    batch: int,
    compiled: bool,
    peak: float | None,
    image_size: int | None = None,
) -> Row:
    """Time training steps.

    Args:
        name: One of `PROMPTABLE`.
        device: Where to run.
        batch: Crops per step.
        compiled: Compile the network first.
        peak: What the device could do, in 10^12 operations per second.
        image_size: Side of the crops, if not the network's own.
    """
    model = seeded_model(name, image_size=image_size).to(device)
    if compiled:
        compile_network(model)
    truth = ball(model.image_size).repeat(batch, 1, 1, 1, 1).to(device)
    step = training_step(
        model, torch.randn(truth.shape, device=device), truth, num_clicks=NUM_CLICKS
    )
    with torch.autocast(device, torch.bfloat16):
        seconds = _seconds_of(step, device)
        memory = peak_memory_gib(torch.device(device))
    row: Row = {
        "network": name,
        "batch": batch,
        "compiled": compiled,
        "samples_per_second": batch / seconds,
        "peak_gib": memory,
    }
    if peak is not None:
        row["utilisation"] = (
            count_step(name, image_size=image_size) * batch / seconds / (1e12 * peak)
        )
    return row


def count_step(name: str, image_size: int | None = None) -> int:
    """Count the operations of a training step of one crop, forward and backward."""
    model = seeded_model(name, image_size=image_size)
    truth = ball(model.image_size)
    step = training_step(model, torch.randn(truth.shape), truth, num_clicks=NUM_CLICKS)
    with flop_counter() as counter:
        step()
    return counter.get_total_flops()


def measure_clicks(name: str, *, device: str, compiled: bool, image_size: int | None = None) -> Row:
    """Time clicks on one encoded image, upsampled to its side, one after the other."""
    model: Sam3D = seeded_model(name, image_size=image_size).to(device)
    if compiled:
        compile_network(model)
    points = (
        torch.zeros(1, 3, 3, device=device),
        torch.ones(1, 3, dtype=torch.long, device=device),
    )
    previous = torch.zeros(1, 1, *(model.mask_size,) * 3, device=device)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        image = torch.randn(1, 1, *(model.image_size,) * 3, device=device)
        embeddings = model.image_encoder(image)

        def click() -> Tensor:
            return model.upsample(model.decode(embeddings, points=points, masks=previous)[0])

        seconds = _seconds_of(click, device, repeats=30)
    return {"network": name, "compiled": compiled, "clicks_per_second": 1 / seconds}


def _seconds_of(function: Callable[[], Tensor], device: str, *, repeats: int = 5) -> float:
    """Return the mean time of a call after two that warm up; the device is waited for."""
    for _ in range(2):
        function().sum().item()
    start = time.perf_counter()
    for _ in range(repeats):
        last = function()
    last.sum().item()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    """Print a line of JSON per measurement, for batches as large as the memory allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=PROMPTABLE)
    parser.add_argument("--peak-tflops", type=float, help="of the device, if it is not known")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 2, 4, 8, 16))
    options = parser.parse_args()
    peak = options.peak_tflops or peak_tflops(torch.cuda.get_device_name())
    for compiled in (False, True):
        _print(measure_clicks(options.network, device="cuda", compiled=compiled))
        for batch in options.batches:
            torch.cuda.reset_peak_memory_stats()
            try:
                row = measure_training(
                    options.network, device="cuda", batch=batch, compiled=compiled, peak=peak
                )
            except torch.OutOfMemoryError:
                break
            _print(row)


def _print(row: Row) -> None:
    json.dump(row, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
