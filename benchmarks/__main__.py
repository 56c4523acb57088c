"""Benchmark the networks for prompts in 3-D: ``python -m benchmarks``, or ``make bench``.

Each row is measured in a process of its own: the image encoder beside its plain reading, a click,
a session of ten clicks from file to file, a training step of eleven clicks without the optimizer,
the same with most activations recomputed. Times are in gemms, multiples of one 2048 x 2048 x
2048 float32 matrix product taken in turns with them; beside them stand the published program's.
With a CUDA device, training and clicks on it follow (see `benchmarks.gpu`).

  --all          the largest networks, too, which take minutes
  --markdown     print the tables as docs/performance.md has them
  --profile      print what the encoder and a click of each network spend their time on, instead
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.measure_network import ITEMS
from benchmarks.networks import MEASURED, PROMPTABLE, SMALL
from benchmarks.report import gpu_table, network_table
from neurosam3d.files import replacing

Row = dict[str, Any]


def measure_rows(networks: list[str], items: list[str], *, repeats: int) -> list[Row]:
    """Measure every item of every network, one process after the other."""
    rows: list[Row] = []
    for network in networks:
        for item in items:
            (found,) = _run("measure_network", network, item, "--repeats", str(repeats))
            rows.append({"network": network, "item": item, **found})
            sys.stderr.write(f"{network}: {item}: {found['gemms']:.3g} gemms\n")
    return rows


def measure_gpu_rows(networks: list[str], *, peak_tflops: float | None) -> list[Row] | None:
    """Measure the networks on the CUDA device; None without one."""
    if not torch.cuda.is_available():
        return None
    options = [] if peak_tflops is None else ["--peak-tflops", str(peak_tflops)]
    return [row for network in networks for row in _run("gpu", network, *options)]


def _run(module: str, *arguments: str) -> list[Row]:
    """Run a module of this package in a process of its own and read its lines of JSON."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # nosec B603  # its own modules
    return [json.loads(line) for line in done.stdout.splitlines()]


def profile(networks: list[str]) -> None:
    """Print the operators that take most of the time, network by network."""
    for network in networks:
        command = [sys.executable, "-m", "benchmarks.profile", network]
        subprocess.run(command, check=True)  # nosec B603  # its own modules


def main() -> None:
    """Measure, print the tables and write everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=PROMPTABLE, help="only these")
    parser.add_argument("--items", nargs="+", choices=ITEMS, default=list(ITEMS), help="only these")
    parser.add_argument("--all", action="store_true", help="the largest networks, too")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; minima are reported")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, if it is not known")
    parser.add_argument("--output", type=Path, default=Path("work_dir/bench/bench.json"))
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--profile", action="store_true", help="print the top operators instead")
    options = parser.parse_args()
    every = [name for name in PROMPTABLE if name not in SMALL]
    networks = options.networks or (every if options.all else list(MEASURED))
    if options.profile:
        profile(networks)
        return
    rows = measure_rows(networks, options.items, repeats=options.repeats)
    gpu_rows = measure_gpu_rows(networks, peak_tflops=options.peak_tflops)
    found = {"torch": torch.__version__, "rows": rows, "gpu_rows": gpu_rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.output) as temporary:
        temporary.write_text(f"{json.dumps(found, indent=2)}\n", encoding="utf-8")
    for table in (network_table(rows), gpu_table(gpu_rows)):
        if options.markdown:
            sys.stdout.write(f"{table.markdown()}\n")
        else:
            Console().print(table.rich())


if __name__ == "__main__":
    main()
