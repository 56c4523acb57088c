"""Say what a network spends its time on: ``python -m benchmarks.profile NETWORK``."""

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.networks import PROMPTABLE, ball, seeded_model, training_step

NUM_OPERATORS = 8
NUM_CLICKS = 3


def top_operators(function: Callable[[], object]) -> list[tuple[str, float]]:
    """Return the operators that take most of the time by themselves, and their share of it."""
    function()  # warms up
    with profile(activities=[ProfilerActivity.CPU]) as found:
        function()
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [(event.key, event.self_cpu_time_total / total) for event in events[:NUM_OPERATORS]]


def main() -> None:
    """Print a line for the encoder, a click and a training step each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=PROMPTABLE)
    parser.add_argument("--image-size", type=int, help="side of the input, else the network's own")
    options = parser.parse_args()
    model = seeded_model(options.network, image_size=options.image_size)
    truth = ball(model.image_size)
    image = torch.randn(truth.shape)
    points = (torch.zeros(1, 3, 3), torch.ones(1, 3, dtype=torch.long))
    previous = torch.randn(1, 1, *(model.mask_size,) * 3)
    with torch.no_grad():
        embeddings = model.image_encoder(image)

    @torch.no_grad()
    def click() -> Tensor:
        return model.upsample(model.decode(embeddings, points=points, masks=previous)[0])

    @torch.no_grad()
    def encode() -> Tensor:
        return model.image_encoder(image)

    def step() -> Tensor:
        return training_step(model, image, truth, num_clicks=NUM_CLICKS)()

    for item, function in {"encoder": encode, "click": click, "training step": step}.items():
        operators = top_operators(function)
        shares = ", ".join(
            f"{name.removeprefix('aten::')} {share:.0%}" for name, share in operators
        )
        sys.stdout.write(f"{options.network}, {item}: {shares}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
