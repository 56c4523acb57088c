"""The verb `neurosam3d datasets`: what is known, what is prepared, and a look at it."""

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from neurosam3d.data.class_colours import colour_classes
from neurosam3d.data.index import read_index
from neurosam3d.data.overview import DatasetFacts, collect_facts
from neurosam3d.data.overview_table import show_all, show_one
from neurosam3d.data.prepare.catalogue import RECORDS
from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.progress import console, default_workers, run_jobs
from neurosam3d.data.prepare.roots import DEFAULT, VARIABLE, default_roots, read_roots
from neurosam3d.data.sheet import draw_sheet
from neurosam3d.data.sheet_scans import choose_scans
from neurosam3d.data.sheet_tiles import PLANES, read_tile
from neurosam3d.data.tree import DEFAULT_ROOT, Tree

_MAX_CASES = 200  # more would make a picture of more rows than the format of pixels allows

_EPILOG = """\
examples:
  neurosam3d datasets                        every dataset that is known or prepared
  neurosam3d datasets --root /data/raw       and whether its raw folder is there
  neurosam3d datasets AMOS                   one dataset, class by class
  neurosam3d datasets AMOS --picture         its scans and labels, in AMOS.png
  neurosam3d datasets --json                 all of it for a program

The exit code is 0 if all went well, 1 if an index or a scan cannot be read, and 2 if the command
was not understood.
"""


def main(words: Sequence[str]) -> int:
    """Carry out `datasets ...` and return the exit code.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a name, a folder or a combination of options is unfit.
    """
    options = _parser().parse_args(words[1:])
    _check(options)
    roots = read_roots(options.root) or default_roots()

    def find_raw(record: DatasetRecord) -> Path | None:
        folder = roots.find(record.name, record.raw_folder)
        return folder if record.raw_folder and folder and folder.is_dir() else None

    tree = Tree(options.out)
    datasets = collect_facts(tree, records=RECORDS, names=options.names, find_raw=find_raw)
    problems = [problem for facts in datasets for problem in facts.problems]
    if options.picture is not None:
        problems += _draw(tree, datasets[0], options)
    elif options.json:
        content = [facts.to_json() for facts in datasets]
        sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    else:
        _show(datasets, options)
    for problem in problems:
        console.print(f"error: {problem}", markup=False, highlight=False)
    return 1 if problems else 0


def _show(datasets: Sequence[DatasetFacts], options: Namespace) -> None:
    terminal = Console(highlight=False)
    with_raw = options.root is not None or any(facts.raw for facts in datasets)
    if options.names:
        parts = [part for facts in datasets for part in show_one(facts, with_raw=with_raw)]
    else:
        parts = list(show_all(datasets, with_raw=with_raw, width=terminal.width))
    terminal.print(*parts, sep="\n")


def _draw(tree: Tree, facts: DatasetFacts, options: Namespace) -> list[str]:
    """Draw the sheet, print its path, and return what could not be read."""
    scans = choose_scans(
        {suffix: read_index(tree.index(facts.name, suffix)) for suffix in facts.sets},
        options.cases,
    )
    if not scans:
        raise ValueError(
            f"nothing of {facts.name} is prepared in {tree.root}, so there is nothing to draw"
        )
    planes = list(PLANES) if options.planes == "all" else [options.planes]
    read = partial(read_tile, planes=planes)
    jobs = run_jobs(read, scans, workers=options.workers, title=f"read {facts.name}")
    tiles = [tile for _, tile in sorted(jobs, key=lambda job: job[0])]
    readable = [tile for tile in tiles if tile.slices]
    problems = [tile.problem for tile in tiles if tile.problem]
    if not readable:
        raise ValueError(f"no scan of {facts.name} can be drawn: {problems[0]}")
    num_cases = sum(found.num_cases for found in facts.sets.values())
    modality = ", ".join(facts.modality) or "modality unknown"
    draw_sheet(
        options.picture,
        readable,
        title=facts.name,
        subtitle=f"{modality}; {len(readable)} of {num_cases} scans\n{facts.terms}",
        colours=colour_classes(list(facts.classes)),
    )
    sys.stdout.write(f"{options.picture}\n")
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neurosam3d datasets",
        description="Show which datasets are known, what is prepared of them, and draw them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,  # whoever called tells a mistake in one sentence
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="show these in detail (default: a table of all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_ROOT,
        metavar="DIR",
        help="the tree of prepared data (default: %(default)s)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR|FILE.yaml",
        help=f"where the raw folders lie, as for data.py (default: {VARIABLE}, else {DEFAULT})",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="print the facts as JSON")
    kind.add_argument(
        "--picture",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE.png",
        help="draw slices of NAME with their labels (default: NAME.png)",
    )
    picture = parser.add_argument_group("pictures")
    picture.add_argument(
        "--cases", type=int, default=12, metavar="N", help="scans to draw (default: %(default)s)"
    )
    picture.add_argument(
        "--planes", choices=[*PLANES, "all"], default="axial", help="default: %(default)s"
    )
    picture.add_argument(
        "--workers",
        type=int,
        default=default_workers(),
        metavar="N",
        help="number of processes (default here: %(default)s)",
    )
    return parser


def _check(options: Namespace) -> None:
    if options.out != DEFAULT_ROOT and not options.out.is_dir():
        raise ValueError(f"--out must be a folder, got {options.out}")
    if options.root is not None and not options.root.exists():
        raise ValueError(f"--root must be a folder or a YAML file, got {options.root}")
    if not 1 <= options.cases <= _MAX_CASES:
        raise ValueError(f"--cases must be from 1 to {_MAX_CASES}, got {options.cases}")
    if options.workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {options.workers}")
    if options.picture is None:
        return
    if len(options.names) != 1:
        got = ", ".join(options.names) or "none"
        raise ValueError(f"--picture goes with one NAME, written before it, got {got}")
    if options.picture == Path():
        options.picture = Path(f"{options.names[0]}.png")
    if options.picture.suffix.lower() != ".png":
        raise ValueError(f"--picture writes a .png file, got {options.picture}")
