"""`neurosam3d summary FILE ...`: what result files hold, by anatomical group, data set and class.

`sum_result.py` at the top of a checkout is the same command.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from neurosam3d.commands.verb import VerbParser, plain_console
from neurosam3d.evaluation.groups import Groups, read_groups, shipped_groups
from neurosam3d.evaluation.report import merge_results, read_results, summarise, write_results
from neurosam3d.evaluation.report_text import headline, meaning
from neurosam3d.evaluation.results import Results
from neurosam3d.evaluation.summary_tables import overall_table, split_tables

DESCRIPTION = """\
Show the results of an evaluation from any of its files: .json, .csv, or the classic .py, which is
parsed and never run. Parts of a split evaluation, whose names end in _s{N}i{I}, are put together.
"""
EPILOG = """\
examples:
  python sum_result.py union_out_dice.json
  python sum_result.py union_out_dice_s2i0.py union_out_dice_s2i1.py
  python sum_result.py run_s4i*.json --out run.json       all parts as one evaluation
  python sum_result.py run.json --groups mine.yaml        other anatomical groups
"""

_PART = re.compile(r"_s\d+i\d+$")


def main(words: Sequence[str]) -> None:
    """Carry out `summary ...`.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file holds no results, or files to put together do not belong together.
        argparse.ArgumentError: If an argument is unfit.
    """
    options = _parser().parse_args(words[1:])
    groups = shipped_groups() if options.groups is None else read_groups(options.groups)
    console = plain_console()
    for paths in [options.files] if options.out else _evaluations(options.files):
        results = _read(paths, groups, regroup=options.groups is not None)
        _show(console, ", ".join(map(str, paths)), results, groups)
        if options.out:
            written = write_results(
                options.out, results.cases, protocol=results.protocol, groups=groups
            )
            console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)


def _parser() -> VerbParser:
    parser = VerbParser("summary", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="results: .json, .csv or classic .py"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="put all files together as one evaluation, and write it as .json, .csv, .md and .html "
        "of this name, and as .py if it ends so",
    )
    parser.add_argument(
        "--groups",
        metavar="FILE",
        type=Path,
        help="YAML with anatomical groups of classes; by default SAM-Med3D's",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a mistake")
    return parser


def _evaluations(paths: Sequence[Path]) -> list[list[Path]]:
    """Put the parts of a split evaluation together; any other file is one by itself."""
    found: dict[tuple[Path, bool], list[Path]] = {}
    for path in paths:
        stem = _PART.sub("", path.stem)
        found.setdefault((path.with_stem(stem), stem != path.stem), []).append(path)
    return list(found.values())


def _read(paths: Sequence[Path], groups: Groups, *, regroup: bool) -> Results:
    results = merge_results([read_results(path) for path in paths])
    cases = [replace(case, group="") for case in results.cases] if regroup else results.cases
    return Results(results.protocol, groups.assign(cases))


def _show(console: Console, title: str, results: Results, groups: Groups) -> None:
    summary = summarise(results.cases, groups=groups)
    console.print(title, soft_wrap=True, style="bold")
    console.print(meaning(results.protocol))
    for table in (*split_tables(summary, is_brief=True), overall_table(summary["by_clicks"])):
        console.print(table.terminal())
    console.print(headline(summary, results.cases))
    if missing := results.protocol.get("missing_parts"):
        console.print(f"missing parts, counted from 0: {', '.join(map(str, missing))}")
