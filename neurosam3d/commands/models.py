"""`neurosam3d models`: the networks, what they cost, what they read, where weights are."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.table import Table

from neurosam3d.checkpoint_formats import FORMATS, formats_of
from neurosam3d.commands.verb import VerbParser, plain_console
from neurosam3d.models.catalogue import BaselineEntry, Entry, catalogue

DESCRIPTION = """\
List the networks, those that take prompts and those that take none: parameters, operations and
memory for one image, the checkpoints that they read, public weights and their licence.
"""
EPILOG = """\
examples:
  neurosam3d models
  neurosam3d models vit_b_ori dinov2 unetr
  neurosam3d models --json
  neurosam3d models --markdown     the tables of README.md
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
BASELINE_HEADINGS = (
    "name",
    "network\nwithout prompts",
    "params,\nmillion",
    "GFLOPs",
    "MiB,\nforward",
    "GiB,\nstep",
)
BASELINE_MARKDOWN_HEADINGS = (
    "name",
    "network without prompts",
    "parameters, million",
    "GFLOPs",
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
ONE_DECODER_NOTE = """\
Networks with one decoder are counted likewise, for one crop of side {sides}. A click is all that
follows the encoder; a training step has 30 clicks at once, is counted without its loss, and leaves
SAM's weights as they are.
"""
SLICES_NOTE = """\
Networks of slices are counted likewise, for one slice of side {sides}.
A click of SAMed, which takes no prompts, is all that follows the encoder; a training step has one
click, is counted without its loss, and leaves SAM's encoder as it is in SAMed and SAM-Med2D.
"""
NOTES = {"sam3d": NOTE, "adapter3d": ONE_DECODER_NOTE, "sam2d": SLICES_NOTE}
BASELINE_NOTE = """\
Networks without prompts are counted likewise, for one crop of {size} voxels, one
channel and two classes; their training step without its loss.
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
    form.add_argument("--markdown", action="store_true", help="print Markdown tables")
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


def markdown_table(entries: Sequence[Entry | BaselineEntry]) -> str:
    """Return the networks and their public weights as Markdown tables with their explanation."""
    promptable, baselines = _part(entries)
    texts = []
    for group in promptable:
        rows = [(f"`{name}`", *cells) for name, *cells in map(_cells, group)]
        texts += [_markdown(MARKDOWN_HEADINGS, rows, group), _note(group)]
    if baselines:
        rows = [(f"`{e.name}`", _linked(e), *_baseline_cells(e)[2:]) for e in baselines]
        texts += [_markdown(BASELINE_MARKDOWN_HEADINGS, rows, baselines), _baseline_note(baselines)]
    return "\n".join(texts)


def _markdown(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    entries: Iterable[Entry | BaselineEntry],
) -> str:
    """Lay out a table whose last column is for public weights and those before it for numbers."""
    lines = [headings, ["---", "---", *["--:"] * (len(headings) - 3), "---"]]
    for row, entry in zip(rows, entries, strict=True):
        weights = entry.weights
        lines.append(
            [*row, f"[{weights.title}]({weights.url}), {weights.licence}" if weights else ""]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _linked(entry: BaselineEntry) -> str:
    """Name a network and link the paper, if it is on arXiv."""
    if entry.paper[0].isdigit():
        return f"[{entry.title}](https://arxiv.org/abs/{entry.paper})"
    return f"{entry.title}, {entry.paper}"


def _part(
    entries: Iterable[Entry | BaselineEntry],
) -> tuple[list[list[Entry]], list[BaselineEntry]]:
    """Part families of networks with image encoders from the others."""
    entries = list(entries)
    encoding = [entry for entry in entries if isinstance(entry, Entry)]
    groups = [[entry for entry in encoding if entry.family == family] for family in NOTES]
    baselines = [entry for entry in entries if isinstance(entry, BaselineEntry)]
    return [group for group in groups if group], baselines


def _choose(names: Sequence[str]) -> list[Entry | BaselineEntry]:
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


def _baseline_cells(entry: BaselineEntry) -> list[str]:
    """Return a row under `BASELINE_HEADINGS`."""
    costs = entry.costs
    return [
        entry.name,
        entry.title,
        f"{costs.parameters / 1e6:.0f}",
        f"{costs.gflops:.0f}",
        f"{costs.forward_mib:.0f}",
        f"{costs.step_mib / 1024:.1f}",
    ]


def _note(entries: Sequence[Entry]) -> str:
    """Say how the figures of a family's networks came about."""
    names: dict[int, list[str]] = {}
    for entry in entries:
        names.setdefault(entry.costs.image_size, []).append(entry.name)
    most, *others = sorted(names, key=lambda side: -len(names[side]))
    exceptions = "; ".join(f"{side} for {', '.join(names[side])}" for side in others)
    sides = f"{most} ({exceptions})" if others else f"{most}"
    return NOTES[entries[0].family].format(sides=sides)


def _baseline_note(entries: Sequence[BaselineEntry]) -> str:
    """Say for which crop the figures are; it is the same for all."""
    return BASELINE_NOTE.format(size=" x ".join(map(str, entries[0].costs.crop_size)))


def _show(entries: Sequence[Entry | BaselineEntry]) -> None:
    console = plain_console()
    promptable, baselines = _part(entries)
    for group in promptable:
        console.print(_table(HEADINGS, map(_cells, group)))
        console.print(f"\n{' '.join(_note(group).split())}\n")
    if baselines:
        console.print(_table(BASELINE_HEADINGS, map(_baseline_cells, baselines)))
        console.print(f"\n{' '.join(_baseline_note(baselines).split())}\n")
    if published := [entry for entry in entries if entry.weights is not None]:
        console.print("public weights")
        console.print(_weights_table(published))
        console.print()
    common = [known.name for known in FORMATS if not known.networks]
    console.print(f"Every network reads: {', '.join(common)}.")
    for entry in entries:
        if own := [name for name in formats_of(entry.name) if name not in common]:
            console.print(f"{entry.name} reads, too: {', '.join(own)}.")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Lay out a table of two columns of text and others of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _weights_table(entries: Iterable[Entry | BaselineEntry]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for entry in entries:
        weights = entry.weights
        if weights is not None:
            remark = f"; {weights.remark}" if weights.remark else ""
            about = f"{weights.title}, {weights.licence}: {weights.part}{remark}"
            table.add_row(f"  {entry.name}", f"{about}\n{weights.url}")
    return table
