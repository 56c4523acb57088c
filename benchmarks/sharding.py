"""Measure what plain and sharded data parallelism take on the CPU: ``python -m
benchmarks.sharding``.

Two processes each train a network on an image of its own: one round, AdamW. Reported are the peak
of a process's memory and the seconds of a step, of which the first is left out. Processes of a CPU
build everything before they split it; the peak includes that.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from benchmarks.networks import ball
from neurosam3d.models import Sam3D, build_model
from neurosam3d.training.callbacks import peak_memory_gib
from neurosam3d.training.losses import MaskLoss
from neurosam3d.training.sharding import shard

WAYS = ("ddp", "sharded")
NUM_PROCESSES = 2


class OneRound(torch.nn.Module):
    """A network asked once, as a module whose forward pass is the whole of it."""

    def __init__(self, network: Sam3D) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits for an image and a click in its middle."""
        side = self.network.mask_size
        middle = torch.full((1, 1, 3), self.network.image_size // 2)
        points = (middle, torch.ones(1, 1, dtype=torch.long))
        return self.network(image, points=points, masks=torch.zeros(1, 1, side, side, side))


def train(rank: int, way: str, name: str, image_size: int, steps: int, folder: str) -> None:
    """Train in one of the processes and write down what it took."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=NUM_PROCESSES
    )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_model(name, image_size=image_size)
    assert isinstance(network, Sam3D)
    network.freeze_unreachable(boxes=False, mask_always_given=True, multimask=False, iou=False)
    model: torch.nn.Module = OneRound(network)
    if way == "sharded":
        names = ("data_parallel", "tensor_parallel")
        shard(network.children(), init_device_mesh("cpu", (NUM_PROCESSES, 1), mesh_dim_names=names))
    else:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    image, truth = torch.randn(1, 1, *(image_size,) * 3), ball(image_size)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        MaskLoss()(model(image), truth).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    taken = {
        "peak_gib": round(peak_memory_gib(torch.device("cpu")), 2),
        "step_seconds": round(min(seconds[1:]), 2),
    }
    Path(folder, str(rank)).write_text(json.dumps(taken), encoding="utf-8")
    distributed.destroy_process_group()


def main() -> None:
    """Print one line of JSON per way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_h", help="network to train")
    parser.add_argument("--image-size", type=int, default=64, help="side of the image in voxels")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="what to compare")
    options = parser.parse_args()
    for way in options.ways:
        with tempfile.TemporaryDirectory() as folder:
            arguments = (way, options.model, options.image_size, options.steps, folder)
            multiprocessing.spawn(train, arguments, nprocs=NUM_PROCESSES)
            worst = [json.loads(Path(folder, str(r)).read_text()) for r in range(NUM_PROCESSES)]
        taken = max(worst, key=lambda one: one["peak_gib"])
        json.dump({"way": way, "model": options.model, **taken}, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
