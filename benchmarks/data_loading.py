"""Benchmark what training reads: ``python -m benchmarks.data_loading [crop] [loop] [index]``.

- crop: samples a second of a 256 x 256 x 200 scan, from the store and by torchio from `.nii.gz`.
- loop: the share of a training step of `configs/demo.yaml` that is spent waiting for data.
- index: loading an index of 100,000 entries, and what a worker process is sent of it.

Each prints one line of JSON. Files go to a temporary folder.
"""

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torchio as tio

from neurosam3d.cli import run
from neurosam3d.data.case import Case
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.data.index import read_index
from neurosam3d.data.sampler import SampleKey
from neurosam3d.data.store import VolumeStore, build_store
from neurosam3d.volume import Volume, write_volume

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE = REPOSITORY / "tests/sample"
SHAPE = (256, 256, 200)
SPACING = (1.0, 1.25, 1.5)
CROP = (128, 128, 128)
NUM_ENTRIES = 100_000
STEPS, WARM_UP_STEPS = 60, 12


def write_scan(folder: Path) -> Case:
    """Write a scan like a CT's, rods in noise, and an ellipsoid as its label."""
    generator = torch.Generator().manual_seed(0)
    d, h, w = (torch.arange(n, dtype=torch.float32) for n in SHAPE)
    rods = torch.sin(d / 9)[:, None, None] * torch.cos(h / 7)[None, :, None] + 0 * w
    noise = torch.randn(SHAPE, generator=generator)
    image = (rods * 400 + noise * 20).to(torch.int16)
    distance = ((d - 120) / 60)[:, None, None] ** 2 + ((h - 140) / 45)[None, :, None] ** 2
    label = (distance + ((w - 90) / 50) ** 2 < 1).to(torch.uint8)
    affine = np.diag([*SPACING, 1.0])
    case = Case(folder / "scan.nii.gz", folder / "label.nii.gz", "organ", 9e5, SPACING)
    write_volume(Volume(image[None], affine), case.image)
    write_volume(Volume(label[None], affine), case.label)
    return case


def read_by_torchio(case: Case) -> torch.Tensor:
    """Read a scan and its label and cut a crop around the label."""
    subject = tio.Subject(image=tio.ScalarImage(case.image), label=tio.LabelMap(case.label))
    return tio.CropOrPad(CROP, mask_name="label")(subject).image.data


def from_store(case: Case, folder: Path, *, training: bool) -> Callable[[], object]:
    """Return a function that makes the next sample, as training or as validation wants it.

    Validation crops are placed like torchio's and neither normalised nor augmented.
    """
    dataset = PromptableDataset(
        {"TOY_Tr": [case]},
        img_size=CROP[0],
        spacing=None,
        intensity="sam_med3d" if training else "none",
        transform="neurosam3d",
        training=training,
        cache_dir=folder / "cache",
    )
    assert isinstance(dataset.volumes, VolumeStore)
    build_store(dataset.volumes, workers=1, title="build the store")
    seeds = itertools.count()
    return lambda: dataset[SampleKey(0, next(seeds))]


def interleaved_medians(
    candidates: dict[str, Callable[[], object]], *, repeats: int
) -> dict[str, float]:
    """Time each candidate in turns and return the median seconds; a first round is not counted.

    Unlike a minimum it does not pick the samples that happen to be augmented by a mere flip.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats + 1):
        for name, function in candidates.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times[1:])) for name, times in seconds.items()}


def benchmark_crop(folder: Path, *, repeats: int) -> dict[str, float]:
    """Compare the ways to a crop and its label in one process; the system has cached all files."""
    torch.set_num_threads(1)  # as in a worker process
    case = write_scan(folder)
    candidates = {
        "torchio": lambda: read_by_torchio(case),
        "store": from_store(case, folder, training=False),
        "training": from_store(case, folder, training=True),
    }
    medians = interleaved_medians(candidates, repeats=repeats)
    rates = {name: 1 / seconds for name, seconds in medians.items()}
    return {
        **{f"{name}_per_second": round(rate, 1) for name, rate in rates.items()},
        "store_over_torchio": round(rates["store"] / rates["torchio"], 1),
        "training_over_torchio": round(rates["training"] / rates["torchio"], 1),
    }


def prepare_demo(folder: Path) -> None:
    """Prepare the sample scans as `make demo` does."""
    sarcoma = SAMPLE / "Dataset901_SoftTissueSarcoma"
    name = ["--name", "SoftTissueSarcoma"]
    for words in (
        ["utils/prepare_json_data.py", "AMOS", "--root", SAMPLE],
        ["data.py", "-dt", "Tr", "--datasets", "AMOS"],
        ["data.py", "-dt", "Tr", "--raw", sarcoma, *name],
        ["data.py", "--split", "val=0.3", "--group", sarcoma / "patients.csv", *name],
    ):
        arguments = [sys.executable, *words, "--out", folder]
        subprocess.run(arguments, cwd=REPOSITORY, check=True)  # nosec B603  # written above


def benchmark_loop(folder: Path) -> dict[str, float]:
    """Train as demo.yaml says and compare the waits for a batch with the steps."""
    prepare_demo(folder)
    settings = {
        "data.data_dir": folder,
        "model.work_dir": folder,
        "trainer.max_steps": STEPS,
        "trainer.limit_val_batches": 0,
        "trainer.profiler": json.dumps(
            {
                "class_path": "lightning.pytorch.profilers.SimpleProfiler",
                "init_args": {"dirpath": str(folder), "filename": "profile"},
            }
        ),
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.callbacks": "[]",
    }
    words = [f"--{name}={value}" for name, value in settings.items()]
    trainer: Any = run(["fit", "--config=demo.yaml", *words]).trainer
    durations = trainer.profiler.recorded_durations
    waits = durations["[_TrainingEpochLoop].train_dataloader_next"][WARM_UP_STEPS:STEPS]
    steps = durations["run_training_batch"][WARM_UP_STEPS:]
    return {
        "step_seconds": round(float(np.median(steps)), 3),
        "wait_seconds": round(float(np.median(waits)), 4),
        "longest_wait_seconds": round(max(waits), 3),
        "share_waiting": round(sum(waits) / (sum(waits) + sum(steps)), 4),
    }


def write_large_index(path: Path) -> None:
    """Write an index of many entries: images of 15 classes each, with digests."""

    def entry(number: int) -> dict[str, object]:
        image, class_number = divmod(number, 15)
        case, class_name = f"scan{image:05d}", f"organ_{class_number}"
        digests = [hashlib.sha256(f"{kind}{number}".encode()).hexdigest() for kind in range(3)]
        return {
            "image": f"Large/imagesTr/{case}.nii.gz",
            "label": f"Large/labelsTr/{class_name}/{case}.nii.gz",
            "class": class_name,
            "volume": 100.5 + number,
            "spacing": [0.75, 0.75, 2.5],
            "patient": case,
            "dataset": "Large",
            "case": case,
            "modality": ["CT"],
            **dict(zip(("image_sha256", "label_sha256", "content"), digests, strict=True)),
        }

    path.write_text(json.dumps([entry(number) for number in range(NUM_ENTRIES)], indent=1))


def benchmark_index(folder: Path, *, repeats: int) -> dict[str, float]:
    """Load a large index and pickle it as for a worker process."""
    path = folder / "Large_Tr.json"
    write_large_index(path)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        table = read_index(path)
        seconds.append(time.perf_counter() - start)
    return {
        "entries": len(table),
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "load_seconds": round(min(seconds), 2),
        "longest_load_seconds": round(max(seconds), 2),
        "memory_mib": round(table.nbytes / 2**20, 1),
        "bytes_sent_to_a_worker": len(ForkingPickler.dumps(table)),
    }


def main() -> None:
    """Print a line of JSON for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("crop", "loop", "index")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; all")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of `crop` and `index`")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(parts)}")
    for part in options.parts or parts:
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if part == "loop":
                result = benchmark_loop(folder)
            else:
                benchmark = benchmark_crop if part == "crop" else benchmark_index
                result = benchmark(folder, repeats=options.repeats)
        json.dump({"part": part, "threads": torch.get_num_threads(), **result}, sys.stdout)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
