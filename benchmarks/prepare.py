"""Benchmark the preparation of a case: ``python -m benchmarks.prepare``.

A generated CT of 256 x 256 x 200 voxels with 15 organs in one label file is prepared in two ways,
in turns: by `prepare_case`, and class by class, as the pipeline of SAM-Med3D's successors is
described: every class reads the label file, takes its value out, fits it to the image and saves
it; the first one also loads the image as float32 and saves it. Another candidate is a second run
over what is there already.

``--cases 50 200`` prepares so many cases instead, with two worker processes, and prints the peak
memory of both kinds of process: volumes must not add up. (A worker's heap takes some twenty cases
to find its size; the parent keeps the index entries.)
"""

import argparse
import json
import logging
import resource
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import nibabel
import numpy as np
import torch
import torchio

from benchmarks.measure import interleaved_minima
from neurosam3d.data.prepare.convert import CaseJob, prepare_case
from neurosam3d.data.prepare.listing import Listing, write_listing
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.data.prepare.run import prepare_set
from neurosam3d.data.tree import Tree

SHAPE = (256, 256, 200)
SPACING_MM = (0.8, 0.8, 1.5)
NUM_CLASSES = 15

Result = TypeVar("Result")


def write_scan(folder: Path) -> None:
    """Write image.nii.gz and label.nii.gz: a body in air, and organs as ellipsoids in it."""
    generator = np.random.default_rng(0)
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE]
    position = np.stack(np.meshgrid(*axes, indexing="ij"))  # (3, D, H, W)

    def ellipsoid(centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
        offset = (position - centre[:, None, None, None]) / radius[:, None, None, None]
        return (offset**2).sum(axis=0) < 1

    body = ellipsoid(np.zeros(3), np.array([0.9, 0.7, 2.0]))
    image = np.where(body, 40, -1000) + generator.normal(0, 15, SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    for value in range(1, NUM_CLASSES + 1):
        centre = generator.uniform((-0.6, -0.4, -0.7), (0.6, 0.4, 0.7))
        organ = ellipsoid(centre, generator.uniform(0.08, 0.3, 3))
        labels[organ] = value
        image[organ] += 5 * value
    affine = np.diag([*SPACING_MM, 1.0])
    for name, data in (("image", image.astype(np.int16)), ("label", labels)):
        nibabel.save(nibabel.Nifti1Image(data, affine), folder / f"{name}.nii.gz")


def prepare_plainly(folder: Path, out: Path) -> list[float]:
    """Prepare the scan class by class, each for itself; return the volumes for the index."""
    out.mkdir()
    volumes = []
    for value in range(1, NUM_CLASSES + 1):
        image = torchio.ScalarImage(folder / "image.nii.gz")
        if not (out / "image.nii.gz").exists():
            channel = image.data[:1].float()
            torchio.ScalarImage(tensor=channel, affine=image.affine).save(out / "image.nii.gz")
        label = torchio.LabelMap(folder / "label.nii.gz")
        if not np.allclose(label.spacing, image.spacing):
            label = torchio.Resample(image.spacing)(label)
        mask = torchio.LabelMap(tensor=(label.data == value).to(torch.uint8), affine=label.affine)
        mask = torchio.CropOrPad(image.spatial_shape)(mask)
        mask.save(out / f"{value}.nii.gz")
        volumes.append(float(mask.data.sum()) * float(np.prod(mask.spacing)))
    return volumes


def make_items(folder: Path, case: str) -> tuple[RawItem, ...]:
    """Return every class of the scan as a case of some name."""
    image, label = folder / "image.nii.gz", folder / "label.nii.gz"
    classes = range(1, NUM_CLASSES + 1)
    return tuple(RawItem(image, label, (value,), f"organ{value}", case) for value in classes)


def measure_seconds(*, repeats: int) -> dict[str, float]:
    """Time both ways, and a second run; each in one thread, as workers have it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder, numbers = Path(temporary), count()
        write_scan(folder)

        def job(name: str) -> CaseJob:
            return CaseJob(Tree(folder), name, "Tr", make_items(folder, "c1"), ("CT",))

        done = prepare_case(job("done")).record
        again = replace(job("done"), known=done)
        seconds = interleaved_minima(
            {
                "plain": lambda: prepare_plainly(folder, folder / f"plain{next(numbers)}"),
                "ours": lambda: prepare_case(job(f"ours{next(numbers)}")),
                "again": lambda: prepare_case(again),
            },
            repeats=repeats,
        )
    return {
        "gemm_seconds": round(seconds["gemm"], 4),
        "plain_seconds": round(seconds["plain"], 3),
        "ours_seconds": round(seconds["ours"], 3),
        "again_seconds": round(seconds["again"], 3),
        "times_faster": round(seconds["plain"] / seconds["ours"], 1),
    }


def measure_peaks(folder: Path, num_cases: int) -> dict[str, float]:
    """Prepare a set and return the peak memory of this process and of the largest worker."""
    logging.disable()
    tree = Tree(folder / f"cases{num_cases}")
    items = tuple(item for i in range(num_cases) for item in make_items(folder, f"c{i:04}"))
    listing = Listing("Scans", ("CT",), {}, {"Tr": items})
    write_listing(tree, listing, raw=folder / "raw")
    prepare_set(tree, listing, "Tr", workers=2)
    peaks = {
        "parent_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    }
    return {name: round(kib / 1024, 1) for name, kib in peaks.items()}


def in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function where nothing has used memory before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="rounds; minima are reported")
    parser.add_argument(
        "--cases",
        type=int,
        nargs="+",
        metavar="N",
        help="measure peak memory for these numbers of cases instead",
    )
    options = parser.parse_args()
    result: dict[str, object] = {"shape": SHAPE, "classes": NUM_CLASSES}
    if options.cases:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            in_new_process(write_scan, folder)
            peaks = {n: in_new_process(measure_peaks, folder, n) for n in options.cases}
        result["peaks_by_cases"] = peaks
    else:
        result |= measure_seconds(repeats=options.repeats)
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
