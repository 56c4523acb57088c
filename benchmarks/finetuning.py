"""Benchmark ways of fine-tuning: ``python -m benchmarks.finetuning``.

Each way trains a few steps in a process of its own, with AdamW, on a random crop with one ball as
the object: encode, a session of clicks with a loss each, backward, update. Times are multiples of
one matrix product; memory is the peak of the process.
"""

import argparse
import json
import subprocess
import sys
from typing import get_args

import torch

from benchmarks.measure import interleaved_minima
from benchmarks.networks import ball, training_step
from neurosam3d.models import build_model
from neurosam3d.training.callbacks import peak_memory_gib
from neurosam3d.training.finetune import Finetuning, limit_learning
from neurosam3d.training.optim import parameter_groups

WAYS = ("full", "full, blocks recomputed", "last", "lora", "frozen")


def measure_way(
    way: str, *, name: str, image_size: int, num_clicks: int, repeats: int
) -> dict[str, float | str]:
    """Train with one way of fine-tuning; return what it needs."""
    mode: Finetuning = next(each for each in get_args(Finetuning) if way.startswith(each))
    torch.manual_seed(0)
    model = build_model(name, image_size=image_size, checkpoint_blocks="recomputed" in way)
    truth = ball(image_size)
    back_and_forth = training_step(model, torch.randn(truth.shape), truth, num_clicks=num_clicks)
    limit_learning(model.get_submodule("image_encoder"), mode)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-4, weight_decay=0.01))

    def step() -> None:
        back_and_forth()
        optimizer.step()

    seconds = interleaved_minima({"step": step}, repeats=repeats)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "way": way,
        "learning_millions": round(learning / 1e6, 2),
        "all_millions": round(sum(p.numel() for p in model.parameters()) / 1e6, 2),
        "step_seconds": round(seconds["step"], 2),
        "step_gemms": round(seconds["step"] / seconds["gemm"], 1),
        "peak_process_gib": round(peak_memory_gib(torch.device("cpu")), 2),
    }


def main() -> None:
    """Print one line of JSON per way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_b_ori", help="network to measure")
    parser.add_argument("--image-size", type=int, default=128, help="side of the input in voxels")
    parser.add_argument("--clicks", type=int, default=5, help="rounds of a session")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; minima are reported")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="what to measure")
    options = parser.parse_args()
    if len(options.ways) > 1:
        for way in options.ways:  # the peak of memory belongs to a process
            words = [sys.executable, "-m", __spec__.name, *sys.argv[1:], "--ways", way]
            subprocess.run(words, check=True)  # nosec B603  # its own command line
        return
    found = measure_way(
        options.ways[0],
        name=options.model,
        image_size=options.image_size,
        num_clicks=options.clicks,
        repeats=options.repeats,
    )
    json.dump({"model": options.model, "image_size": options.image_size, **found}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
