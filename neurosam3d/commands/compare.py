"""`neurosam3d compare`: methods in one table, from their results or, with a plan, judged first."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neurosam3d.commands.verb import VerbParser, plain_console
from neurosam3d.evaluation.comparison import METRICS, compare_methods
from neurosam3d.evaluation.comparison_report import (
    average_tables,
    check_suffix,
    difference_tables,
    notes,
    write_comparison,
)
from neurosam3d.evaluation.method_report import method_notes, narrow_tables
from neurosam3d.evaluation.report import read_results

DESCRIPTION = """\
Compare methods that were judged on the same objects: their means with 95% intervals, and how each
differs from the first, object by object, with wins, losses and Wilcoxon's signed-rank test. Objects
that not all methods have are left out, and told, and so is where their protocols differ.

With --plan, judge the methods of a YAML file first, all on the same cases, as `neurosam3d evaluate`
does; then write a table with a row per method and number of clicks, its differences to the first
method, and a picture of typical cases. A killed plan goes on when it is started again, and what is
finished is not judged again.
"""
EPILOG = """\
examples:
  neurosam3d compare baseline.json mine.json
  neurosam3d compare a.json b.json c.json --names SAM-Med3D large tuned --clicks 1 5
  neurosam3d compare a.json b.csv --reference b --metric dice --out comparison.html
  neurosam3d compare --plan methods.yaml                 see configs/compare/methods.yaml
  neurosam3d compare --plan methods.yaml --out results/paper
"""


def main(words: Sequence[str]) -> int:
    """Carry out `compare ...` and return the exit code.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file is unfit, or the results cannot be compared.
        argparse.ArgumentError: If an argument is unfit.
    """
    options = _parser().parse_args(words[1:])
    if options.plan is not None:
        return _carry_out(options)
    if not options.files:
        raise ValueError("compare needs files with results, or --plan and a plan")
    if options.restart:
        raise ValueError("--restart is of --plan; results that are there already are only read")
    _compare(options)
    return 0


def _compare(options: Namespace) -> None:
    """Compare results that are there already."""
    for path in options.out:
        check_suffix(path)
    names = _name_methods(options)
    comparison = compare_methods(
        {name: read_results(path) for name, path in zip(names, options.files, strict=True)},
        reference=options.reference,
        metrics=options.metric,
        clicks=options.clicks,
    )
    console = plain_console()
    for table in (*average_tables(comparison), *difference_tables(comparison)):
        console.print(table.terminal())
    for note in notes(comparison):
        console.print(note)
    for path in options.out:
        write_comparison(path, comparison)
        console.print(f"written: {path}", soft_wrap=True)


def _carry_out(options: Namespace) -> int:
    """Judge the methods of a plan and show their table; 1 if a file could not be read."""
    # Networks take seconds to import, which results that are there already need not wait for.
    from neurosam3d.commands.compare_plan import read_plan
    from neurosam3d.commands.compare_running import run_plan
    from neurosam3d.commands.evaluate import shown_log

    for name in ("files", "names", "reference", "clicks"):
        if getattr(options, name):
            raise ValueError(f"a plan says all of the comparison, so {name} has no place beside it")
    if len(options.out) > 1:
        raise ValueError(f"--out of a plan is one folder, got {len(options.out)}")
    plan = read_plan(options.plan)
    if options.out:
        plan = replace(plan, out=options.out[0])
    with shown_log():
        outcome = run_plan(plan, restart=options.restart)
    console = plain_console()
    for table in narrow_tables(outcome.table):
        console.print(table.terminal())
    for note in method_notes(outcome.table):
        console.print(note)
    console.print(f"written: {', '.join(map(str, outcome.paths))}", soft_wrap=True)
    return 0 if outcome.is_whole else 1


def _parser() -> VerbParser:
    parser = VerbParser("compare", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", type=Path, help="results: .json, .csv or classic .py"
    )
    parser.add_argument(
        "--plan", metavar="FILE", type=Path, help="YAML that names methods to judge and compare"
    )
    parser.add_argument("--restart", action="store_true", help="judge all methods of the plan anew")
    parser.add_argument(
        "--names", metavar="NAME", nargs="+", help="what the methods are called; default: the files"
    )
    parser.add_argument(
        "--reference", metavar="NAME", help="compare with this method; default: the first"
    )
    parser.add_argument(
        "--clicks",
        metavar="N",
        nargs="+",
        type=int,
        default=[],
        help="numbers of clicks; default: all that every method has",
    )
    parser.add_argument(
        "--metric",
        nargs="+",
        choices=METRICS,
        default=list(METRICS),
        help="what to compare; default: all",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[],
        help="write the comparison, too, as .md, .html, .json or .csv; of a plan, the folder",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a mistake")
    return parser


def _name_methods(options: Namespace) -> list[str]:
    """Return a name per file, as given or after the files.

    Raises:
        ValueError: If the names given are not one per file and all different.
    """
    files: list[Path] = options.files
    if options.names is None:
        stems = [path.stem for path in files]
        names = stems if len(set(stems)) == len(stems) else list(map(str, files))
    else:
        names = options.names
    if len(names) != len(files) or len(set(names)) < len(names):
        raise ValueError(
            f"{len(files)} methods need as many different names, got {', '.join(names)}"
        )
    return names
