"""`neurosam3d models`: the networks, what they cost, what they read, where weights are."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.table import Table

from neurosam3d.checkpoint_formats import FORMATS, formats_of
from neurosam3d.commands.verb import VerbParser, plain_console
from neurosam3d.models.catalogue import Entry, catalogue

DESCRIPTION = """\
List the networks: image encoder, parameters, operations and memory for one image, the checkpoints
that they read, public weights and their licence.
"""
EPILOG = """\
examples:
  neurosam3d models
  neurosam3d models vit_b_ori dinov2
  neurosam3d models --json
  neurosam3d models --markdown     the table of README.md
"""
HEADINGS = (
    "name",
    "encoder,\nwidth x blocks",
    "params,\nmillion",
    "GFLOPs,\nencoder",
    "GFLOPs,\nclick",
    "MiB,\nforward",
    "GiB,\nstep",
)
MARKDOWN_HEADINGS = (
    "name",
    "encoder, width x blocks",
    "parameters, million",
    "GFLOPs, encoder",
    "GFLOPs, click",
    "MiB, forward pass",
    "GiB, training step",
    "public weights",
)
NOTE = """\
Parameters: in all/in the encoder; other pairs: with mask_stride 4/with 1. Counted by torch, not
measured, for one float32 image of side {sides}. GFLOPs: 10^9 operations of matrix
products, convolutions and attention. Memory is that of tensors beside weights and optimizer: the
most at a time in a forward pass, and what a training step of 11 clicks keeps for its backward pass.
"""


def main(words: Sequence[str]) -> None:
    """Carry out `models ...`.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file, a network or a combination of options is unfit.
        argparse.ArgumentError: If an argument is.
    """
    _list(_parser().parse_args(words[1:]))


def _parser() -> VerbParser:
    parser = VerbParser("models", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("names", metavar="NAME", nargs="*", help="networks to list; all by default")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    return parser


def _list(options: Namespace) -> None:
    entries = _choose(options.names)
    if options.json:
        facts = [{**asdict(entry), "formats": formats_of(entry.name)} for entry in entries]
        sys.stdout.write(f"{json.dumps(facts, indent=2)}\n")
    elif options.markdown:
        sys.stdout.write(markdown_table(entries))
    else:
        _show(entries)


def markdown_table(entries: Sequence[Entry]) -> str:
    """Return the networks and their public weights as a Markdown table with its explanation."""
    rows = [list(MARKDOWN_HEADINGS), ["---", "---", *["--:"] * 5, "---"]]
    for entry in entries:
        weights = entry.weights
        cell = f"[{weights.title}]({weights.url}), {weights.licence}" if weights else ""
        name, *cells = _cells(entry)
        rows.append([f"`{name}`", *cells, cell])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{table}\n{_note(entries)}"


def _choose(names: Sequence[str]) -> list[Entry]:
    known = {entry.name: entry for entry in catalogue()}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown model {unknown[0]!r}; known: {', '.join(known)}")
    return [known[name] for name in names or known]


def _cells(entry: Entry) -> list[str]:
    """Return a row under `HEADINGS`."""
    costs, decoders = entry.costs, entry.costs.decoders.values()
    return [
        entry.name,
        entry.encoder,
        f"{costs.parameters / 1e6:.0f}/{costs.encoder_parameters / 1e6:.0f}",
        f"{costs.encoder_gflops:.0f}",
        "/".join(f"{decoder.click_gflops:.1f}" for decoder in decoders),
        "/".join(f"{decoder.forward_mib:.0f}" for decoder in decoders),
        "/".join(f"{decoder.step_mib / 1024:.1f}" for decoder in decoders),
    ]


def _note(entries: Iterable[Entry]) -> str:
    """Say how the figures came about."""
    names: dict[int, list[str]] = {}
    for entry in entries:
        names.setdefault(entry.costs.image_size, []).append(entry.name)
    most, *others = sorted(names, key=lambda side: -len(names[side]))
    sides = "".join([f"{most}", *(f" ({side} for {', '.join(names[side])})" for side in others)])
    return NOTE.format(sides=sides)


def _show(entries: Sequence[Entry]) -> None:
    console = plain_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        is_text = heading.startswith(("name", "encoder"))
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    for entry in entries:
        table.add_row(*_cells(entry))
    console.print(table)
    console.print(f"\n{' '.join(_note(entries).split())}")
    if published := [entry for entry in entries if entry.weights is not None]:
        console.print("\npublic weights")
        console.print(_weights_table(published))
    common = [known.name for known in FORMATS if not known.networks]
    console.print(f"\nEvery network reads: {', '.join(common)}.")
    for entry in entries:
        if own := [name for name in formats_of(entry.name) if name not in common]:
            console.print(f"{entry.name} reads, too: {', '.join(own)}.")


def _weights_table(entries: Iterable[Entry]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for entry in entries:
        weights = entry.weights
        if weights is not None:
            remark = f"; {weights.remark}" if weights.remark else ""
            about = f"{weights.title}, {weights.licence}: {weights.part}{remark}"
            table.add_row(f"  {entry.name}", f"{about}\n{weights.url}")
    return table
