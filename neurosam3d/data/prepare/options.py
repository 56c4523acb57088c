"""The options of the two preparation commands."""

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from neurosam3d.data.prepare.progress import default_workers
from neurosam3d.data.tree import DEFAULT_ROOT, SETS

RAW_ROOT = Path("data_raw")

_LIST_EPILOG = """\
The raw folders are only read. Afterwards, step 2 prepares what was listed:

  python utils/prepare_json_data.py AMOS --root /data/raw
  python data.py -dt Tr --datasets AMOS
"""

_DATA_EPILOG = """\
examples:
  python data.py -dt Tr                                 the training set of every listed dataset
  python data.py -dt Val --datasets AMOS WORD --workers 8
  python data.py -dt Tr --raw /data/nnUNet_raw/Dataset007_Liver --name Liver
                                                        an nnU-Net v2, MSD or mask-per-class folder
  python data.py --split val=0.2 --name Liver --group patients.csv
  python data.py --check

The exit code is 0 if all went well, 1 if anything was skipped, failed or found wrong, and 2 if the
command was not understood. Run a command again to go on where it stopped: files that are whole and
newer than the raw data and its list are kept.
"""


def parse_data_options(arguments: Sequence[str] | None) -> Namespace:
    """Parse the options of step 2; exits with code 2 if they do not go together."""
    parser = _data_parser()
    options = parser.parse_args(arguments)
    _refuse_mixed_options(parser, options)
    return options


def list_parser() -> argparse.ArgumentParser:
    """Build the parser of step 1."""
    parser = argparse.ArgumentParser(
        prog="prepare_json_data.py",
        description="Step 1 of the preparation: write <out>/<NAME>/dataset.json, the list of a "
        "dataset's raw images and labels.",
        epilog=_LIST_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="datasets to list (default: those whose raw folder is there)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=RAW_ROOT,
        metavar="DIR",
        help="parent of the raw folders (default: %(default)s)",
    )
    _add_out(parser)
    return parser


def _data_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="data.py",
        description="Step 2 of the preparation: write the tree of prepared data and the indexes "
        "that training reads. Also splits off a validation set, and checks a tree.",
        epilog=_DATA_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("-dt", "--data_type", choices=SETS, help="prepare this set")
    mode.add_argument(
        "--split",
        type=_share,
        metavar="val=SHARE",
        help="move a share of the patients of <NAME>_Tr to <NAME>_Val, e.g. val=0.2; doing it "
        "again divides the same patients anew",
    )
    mode.add_argument("--check", action="store_true", help="verify every file of the tree")
    _add_prepare_options(parser)
    parser.add_argument("--name", metavar="NAME", help="the dataset for --raw, --split, --check")
    parser.add_argument(
        "--seed", type=int, default=0, help="decides which patients --split moves (%(default)s)"
    )
    parser.add_argument(
        "--group",
        type=Path,
        metavar="FILE.csv",
        help="columns case, patient: which cases --split must keep together",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=default_workers(),
        metavar="N",
        help="number of processes (default here: %(default)s)",
    )
    _add_out(parser)
    return parser


def _add_prepare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        help="listed datasets to prepare (default: those of DATASET_LIST in "
        "utils/prepare_data.py that step 1 has listed)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="parent of the raw folders, if they have moved since step 1",
    )
    parser.add_argument(
        "--raw",
        type=Path,
        metavar="DIR",
        help="do both steps for this nnU-Net v2, MSD or mask-per-class folder",
    )
    parser.add_argument(
        "--channel",
        type=int,
        default=0,
        metavar="N",
        help="which channel of multi-channel images --raw uses (%(default)s)",
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="go on with the next dataset after one that is missing or has broken cases; the "
        "exit code is still 1. Within a dataset broken cases never stop the others",
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_ROOT,
        metavar="DIR",
        help="the tree of prepared data (default: %(default)s)",
    )


def _refuse_mixed_options(parser: argparse.ArgumentParser, options: Namespace) -> None:
    """Refuse options that the chosen mode would silently ignore."""
    prepares = options.data_type is not None
    if not prepares and (options.raw or options.datasets or options.root):
        parser.error("--raw, --datasets and --root go with -dt")
    if options.raw and (options.datasets or options.root):
        parser.error("--raw goes without --datasets and --root")
    if options.group and options.split is None:
        parser.error("--group goes with --split")
    if options.channel and not options.raw:
        parser.error("--channel goes with --raw")
    if options.name is None and (options.raw or options.split is not None):
        parser.error("--name NAME is needed")
    if options.name and prepares and not options.raw:
        parser.error("with -dt, --name goes with --raw; listed datasets are named by --datasets")


def _share(text: str) -> float:
    key, _, value = text.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if key != "val" or not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"val=SHARE with a share between 0 and 1, got {text!r}")
    return share


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of 1 or more, got {text!r}")
    return int(text)
