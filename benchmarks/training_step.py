"""Benchmark one training step of SAM-Med3D: ``python -m benchmarks.training_step``.

A step encodes a crop, plays a session of clicks with a loss each, and goes backward; the optimizer
is left out. Random crop, one ball as the object. Times are multiples of one matrix product.
"""

import argparse
import json
import sys

import torch

from benchmarks.encoder import seeded_model
from benchmarks.measure import interleaved_minima
from neurosam3d.training.callbacks import peak_memory_gib
from neurosam3d.training.early_gradient import take_gradient
from neurosam3d.training.interaction import Interaction
from neurosam3d.training.losses import MaskLoss


def ball(side: int) -> torch.Tensor:
    """Return a ball of a quarter of the side in the middle of a cube, (1, 1, S, S, S) bool."""
    axis = torch.arange(side) - side / 2
    d, h, w = torch.meshgrid(axis, axis, axis, indexing="ij")
    return (d**2 + h**2 + w**2 < (side / 4) ** 2)[None, None]


def benchmark_step(
    name: str, *, image_size: int, mask_stride: int, num_clicks: int, repeats: int
) -> dict[str, float]:
    """Time a step forward and backward, and read the process's peak memory."""
    model = seeded_model(name, image_size=image_size, mask_stride=mask_stride).train()
    model.freeze_unreachable(boxes=False, mask_always_given=True, multimask=False, iou=False)
    interaction, mask_loss = Interaction(num_clicks), MaskLoss()
    image = torch.randn(1, 1, image_size, image_size, image_size)
    truth = ball(image_size)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        answers = interaction.run(
            model,
            model.image_encoder(image),
            truth,
            largest=truth,
            generator=torch.Generator().manual_seed(0),
        )
        losses = [
            take_gradient(mask_loss(answer.logits, truth), answer.low_res_logits)
            for answer in answers
        ]
        torch.stack(losses).mean().backward()

    seconds = interleaved_minima({"step": step}, repeats=repeats)
    return {
        "gemm_seconds": round(seconds["gemm"], 4),
        "step_gemms": round(seconds["step"] / seconds["gemm"], 1),
        "peak_process_gib": round(peak_memory_gib(torch.device("cpu")), 2),
    }


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_b_ori", help="network to measure")
    parser.add_argument("--image-size", type=int, default=128, help="side of the input in voxels")
    parser.add_argument("--mask-stride", type=int, default=4, help="4: SAM-Med3D, 1: NeuroSAM3D")
    parser.add_argument("--clicks", type=int, default=11, help="rounds of a session")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; minima are reported")
    options = parser.parse_args()
    result = benchmark_step(
        options.model,
        image_size=options.image_size,
        mask_stride=options.mask_stride,
        num_clicks=options.clicks,
        repeats=options.repeats,
    )
    json.dump({**vars(options), "threads": torch.get_num_threads(), **result}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
