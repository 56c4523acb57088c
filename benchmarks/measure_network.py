"""Measure one thing of one network in this process: ``python -m benchmarks.measure_network NETWORK
ITEM``; `benchmarks` runs it once per row, because the peak of memory belongs to a process.

Times are multiples of one matrix product, taken in turns with it (see `benchmarks.measure`).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import interleaved_minima, saved_megabytes
from benchmarks.networks import PROMPTABLE, ball, seeded_model, training_step
from benchmarks.plain_readings import plain_encoder
from neurosam3d.inference import Predictor
from neurosam3d.prompts import sample_clicks
from neurosam3d.training.callbacks import peak_memory_gib
from neurosam3d.volume import Volume, write_volume

NUM_CLICKS = 11  # of a training step, as the recipes have it
SESSION_CLICKS = 10
SCAN_SHAPE = (181, 217, 181)  # of a T1 image of 1 mm
Found = dict[str, float]


def measure_encoder(name: str, *, image_size: int | None, repeats: int) -> Found:
    """Time the image encoder and its plain reading, compare what they say, and count the memory
    that the encoder keeps for the backward pass.
    """
    model = seeded_model(name, image_size=image_size)
    image = torch.randn(1, 1, *(model.image_size,) * 3)
    with torch.no_grad():
        embeddings = model.image_encoder(image)
        peak = _peak_mib()  # before the plain reading's
        difference = (embeddings - plain_encoder(model.image_encoder, image)).abs().max()
        seconds = interleaved_minima(
            {
                "ours": lambda: model.image_encoder(image),
                "plain": lambda: plain_encoder(model.image_encoder, image),
            },
            repeats=repeats,
        )
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    kept = saved_megabytes(lambda: model.image_encoder(image), parameters)
    compared = {"peak_mib": peak, "kept_mib": kept, "difference": float(difference)}
    return {**_in_gemms(seconds), **compared}


def measure_click(name: str, *, image_size: int | None, repeats: int) -> Found:
    """Time the answer to three points and a mask, upsampled to the image's side."""
    model = seeded_model(name, image_size=image_size)
    side = model.image_size
    points = (torch.randint(0, side, (1, 3, 3)), torch.ones(1, 3, dtype=torch.long))
    previous = torch.randn(1, 1, *(model.mask_size,) * 3)
    with torch.inference_mode():
        embeddings = model.image_encoder(torch.randn(1, 1, side, side, side))

        def click() -> Tensor:
            return model.upsample(model.decode(embeddings, points=points, masks=previous)[0])

        seconds = interleaved_minima({"ours": click}, repeats=10 * repeats)
    return {**_in_gemms(seconds), "peak_mib": _peak_mib()}


def measure_step(
    name: str, *, image_size: int | None, repeats: int, recompute: bool = False
) -> Found:
    """Time a training step without its optimizer; for ``recompute`` see `seeded_model`."""
    model = seeded_model(name, image_size=image_size, recompute=recompute)
    before, truth = _peak_mib(), ball(model.image_size)
    step = training_step(model, torch.randn(truth.shape), truth, num_clicks=NUM_CLICKS)
    found = _in_gemms(interleaved_minima({"ours": step}, repeats=repeats))
    return {**found, "peak_mib": _peak_mib(), "start_mib": before}


def measure_lean_step(name: str, *, image_size: int | None, repeats: int) -> Found:
    """Time the same with the larger part of the activations recomputed in the backward pass."""
    return measure_step(name, image_size=image_size, repeats=repeats, recompute=True)


def measure_session(name: str, *, image_size: int | None, repeats: int) -> Found:
    """Time a session from file to file: one object of a brain-sized scan, ten clicks."""
    model = seeded_model(name, image_size=image_size)
    predictor = Predictor(model)
    generator = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SCAN_SHAPE), indexing="ij")
    head = sum(axis**2 for axis in axes) < 0.8
    voxels = (head * generator.integers(300, 900, SCAN_SHAPE)).astype(np.int16)
    truth = torch.from_numpy(sum((6 * axis - 0.5) ** 2 for axis in axes) < 1)[None, None]
    with tempfile.TemporaryDirectory() as folder:
        scan, mask = Path(folder, "scan.nii.gz"), Path(folder, "mask.nii.gz")
        write_volume(Volume(torch.from_numpy(voxels)[None], np.diag([-1.0, 1.0, 1.0, 1.0])), scan)
        seconds = interleaved_minima(
            {"ours": lambda: play_session(predictor, scan, truth, mask)}, repeats=repeats
        )
    return {**_in_gemms(seconds), "peak_mib": _peak_mib()}


def play_session(predictor: Predictor, scan: Path, truth: Tensor, mask: Path) -> None:
    """Read a scan, click where the mask is wrong, look again, and write the last mask.

    Args:
        predictor: Answers.
        scan: File of the scan.
        truth: The object on the scan's grid, boolean (1, 1, D, H, W).
        mask: File to write.
    """
    generator = torch.Generator().manual_seed(0)
    predictor.set_image(scan)
    session = predictor.open_session(grow=False)
    found = torch.zeros_like(truth)
    for _ in range(SESSION_CLICKS):
        point, label = sample_clicks(truth, found, method="random", generator=generator)
        prediction = session.add_point(point[0, 0].tolist(), int(label))
        found = torch.from_numpy(prediction.mask > 0)[None, None]
    prediction.save(mask)


ITEMS: Mapping[str, Callable[..., Found]] = {
    "encoder": measure_encoder,
    "click": measure_click,
    "session": measure_session,
    "step": measure_step,
    "step, recomputing": measure_lean_step,
}


def _in_gemms(seconds: Mapping[str, float]) -> Found:
    unit = seconds["gemm"]
    found = {"gemm_seconds": unit, "seconds": seconds["ours"], "gemms": seconds["ours"] / unit}
    if "plain" in seconds:
        found["plain_gemms"] = seconds["plain"] / unit
    return found


def _peak_mib() -> float:
    return 1024 * peak_memory_gib(torch.device("cpu"))


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=PROMPTABLE)
    parser.add_argument("item", choices=ITEMS)
    parser.add_argument("--image-size", type=int, help="side of the input, else the network's own")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; minima are reported")
    options = parser.parse_args()
    found = ITEMS[options.item](
        options.network, image_size=options.image_size, repeats=options.repeats
    )
    json.dump({**found, "threads": torch.get_num_threads()}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
