"""`neurosam3d inspect FILE`: what a checkpoint is, and what of it would load."""

import json
import math
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from neurosam3d.checkpoint_formats import Checkpoint, read_checkpoint, shorten
from neurosam3d.checkpoint_io import METADATA
from neurosam3d.checkpoints import match_weights, outline_network, require_fit
from neurosam3d.commands.verb import VerbParser, file_size, plain_console
from neurosam3d.models import BASELINES, list_models
from neurosam3d.recognise import Identity, identify, stored_values

DESCRIPTION = """\
Tell what a checkpoint is: its kind, its network, what it says of itself, and which weights would
load into that network. Nothing in the file is run, and no network is held in memory.
"""
EPILOG = """\
examples:
  neurosam3d inspect ckpt/sam_med3d.pth
  neurosam3d inspect teacher.pth --model dinov2
  neurosam3d inspect work_dir/liver/checkpoints/last.ckpt --json
"""
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
FATES = ("loaded", "resized", "derived", "missing", "unexpected", "mismatched")


def main(words: Sequence[str]) -> None:
    """Carry out `inspect ...`.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file, a network or a combination of options is unfit.
        argparse.ArgumentError: If an argument is.
    """
    _inspect(_parser().parse_args(words[1:]))


def _parser() -> VerbParser:
    parser = VerbParser("inspect", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("file", metavar="FILE", type=Path, help="checkpoint to look into")
    parser.add_argument(
        "--model",
        metavar="NAME",
        choices=list_models(),
        help="network to compare with instead of the one recognised: one of %(choices)s",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every name in full")
    return parser


def _inspect(options: Namespace) -> None:
    facts = describe_file(options.file, options.model)
    if options.json:
        sys.stdout.write(f"{json.dumps(facts, indent=2)}\n")
    else:
        _show(facts)


def describe_file(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return what is to be known of a checkpoint, as values that JSON can hold.

    Args:
        path: The file.
        name: The network to compare with; by default the one that the file belongs to.

    Raises:
        ValueError: If the file cannot be read without running code in it or is of no known kind.
    """
    checkpoint = read_checkpoint(path)
    identity = identify(checkpoint, name)
    rest = "network" if identity.name in BASELINES else "other"
    says = stored_values(checkpoint.content) or checkpoint.content.get(METADATA, {})
    return _plain(
        {
            "file": path,
            "size": file_size(path),
            "format": checkpoint.format.name,
            "network": asdict(identity),
            "parts": _count_parts(checkpoint, rest),
            "beside": checkpoint.beside,
            "says": says,
            "fit": _compare(checkpoint, identity),
        }
    )


def _count_parts(checkpoint: Checkpoint, rest: str) -> dict[str, dict[str, Any]]:
    """Count tensors and their elements per part of the network, and what is of none as the rest."""
    parts: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"tensors": 0, "elements": 0, "types": set()}
    )
    for key, name in checkpoint.names.items():
        first, tensor = name.partition(".")[0], checkpoint.weights[key]
        part = "LoRA" if name in checkpoint.lora_names else first if first in PARTS else rest
        parts[part]["tensors"] += 1
        parts[part]["elements"] += tensor.numel()
        parts[part]["types"].add(str(tensor.dtype).removeprefix("torch."))
    return {part: {**counts, "types": sorted(counts["types"])} for part, counts in parts.items()}


def _compare(checkpoint: Checkpoint, identity: Identity) -> dict[str, Any] | None:
    """Tell what would become of every weight; None if it is not known which network is meant."""
    if identity.name is None:
        return None
    report, problem = None, None
    try:
        model = outline_network(checkpoint, identity)
        report, fitting = match_weights(model, checkpoint)
        require_fit(model, checkpoint, report, fitting)
    except ValueError as error:
        problem = str(error)
    fates = {} if report is None else {fate: getattr(report, fate) for fate in FATES}
    return {**fates, "about": checkpoint.format.part_title, "problem": problem}


def _plain(value: Any) -> Any:
    """Turn what a file may hold into what JSON may hold; other objects into their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    is_plain = value is None or isinstance(value, bool | int | str)
    is_finite = isinstance(value, float) and math.isfinite(value)
    return value if is_plain or is_finite else str(value)


def _show(facts: Mapping[str, Any]) -> None:
    """Print the facts as tables."""
    console = plain_console()
    network, fit = facts["network"], facts["fit"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("file", f"{facts['file']} ({facts['size']})")
    table.add_row("format", facts["format"])
    name = network["name"] or f"unknown; --model compares with one of {', '.join(list_models())}"
    table.add_row("network", name)
    for title, values in (
        ("options", network["options"]),
        ("LoRA", network["lora"]),
        ("fed with", network["feeding"]),
        ("it says", facts["says"]),
    ):
        if values:
            table.add_row(title, ", ".join(f"{key} {_text(v)}" for key, v in values.items()))
    if facts["beside"]:
        table.add_row("beside", shorten(facts["beside"], most=12))
    console.print(table)
    console.print(_parts_table(facts["parts"]))
    if fit is not None:
        console.print(_fit_table(fit, network["name"]))
        console.print(_verdict(fit, network["name"]), soft_wrap=True)


def _verdict(fit: Mapping[str, Any], name: str) -> str:
    if fit["problem"]:
        return f"It does not load: {fit['problem']}."
    return f"It loads into {name}, to fill {fit['about']}."


def _parts_table(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="in the file", title_justify="left")
    for heading in ("part", "tensors", "elements", "types"):
        table.add_column(heading, justify="right" if heading in ("tensors", "elements") else "left")
    for part, counts in parts.items():
        numbers = f"{counts['tensors']}", f"{counts['elements']:,}"
        table.add_row(part, *numbers, ", ".join(counts["types"]))
    return table


def _fit_table(fit: Mapping[str, Any], name: str) -> Table:
    table = Table(title=f"into {name}", title_justify="left")
    table.add_column("fate")
    table.add_column("tensors", justify="right")
    table.add_column("first names", overflow="fold")
    for fate in FATES:
        if fate in fit:
            table.add_row(fate, f"{len(fit[fate])}", shorten(fit[fate], most=3))
    return table


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
