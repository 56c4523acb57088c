"""`neurosam3d compare A.json B.json ...`: methods in one table, with paired differences."""

from argparse import Namespace
from collections.abc import Sequence
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
from neurosam3d.evaluation.report import read_results

DESCRIPTION = """\
Compare methods that were judged on the same objects: their means with 95% intervals, and how each
differs from the first, object by object, with wins, losses and Wilcoxon's signed-rank test. Objects
that not all methods have are left out, and told, and so is where their protocols differ.
"""
EPILOG = """\
examples:
  neurosam3d compare baseline.json mine.json
  neurosam3d compare a.json b.json c.json --names SAM-Med3D large tuned --clicks 1 5
  neurosam3d compare a.json b.csv --reference b --metric dice --out comparison.html
"""


def main(words: Sequence[str]) -> None:
    """Carry out `compare ...`.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file holds no results, or the results cannot be compared.
        argparse.ArgumentError: If an argument is unfit.
    """
    options = _parser().parse_args(words[1:])
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


def _parser() -> VerbParser:
    parser = VerbParser("compare", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="results: .json, .csv or classic .py"
    )
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
        help="write the comparison, too, as .md, .html, .json or .csv",
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
