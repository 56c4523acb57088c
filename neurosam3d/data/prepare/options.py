"""The options of the two preparation commands."""

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from neurosam3d.data.prepare.layouts.layout import DEFAULT_THRESHOLD
from neurosam3d.data.prepare.progress import default_workers
from neurosam3d.data.prepare.published_split import published_splits
from neurosam3d.data.prepare.roots import DEFAULT, VARIABLE
from neurosam3d.data.tree import DEFAULT_ROOT, SETS

_LIST_EPILOG = f"""\
The raw folders are only read. Afterwards, step 2 prepares what was listed:

  python utils/prepare_json_data.py AMOS --root /data/raw
  python data.py -dt Tr --datasets AMOS

Where the raw folders lie is said by --root, else by the environment variable {VARIABLE}, else it
is {DEFAULT}. Each may be a folder, the parent of all raw folders, or a YAML file that names
folders one by one:

  root: /data/raw              the parent of those that are not named
  AMOS: /disks/2/amos22        the raw folder of one dataset
"""

_DATA_EPILOG = f"""\
listed datasets:
  python data.py -dt Tr                                 the training set of every listed dataset
  python data.py -dt Val --datasets AMOS WORD --workers 8
  python data.py -dt Tr --datasets AMOS --root /new/raw
                                                        raw folders that have moved since step 1;
                                                        by default {VARIABLE} says where to

raw folders of known layouts, both steps in one:
  nnU-Net v2, MSD       --raw /data/nnUNet_raw/Dataset007_Liver --name Liver
  masks per class       --raw /data/Totalsegmentator_dataset_v201 --name Total
  KiTS                  --raw /data/kits23/dataset --name Kits
  LiTS                  --raw /data/LITS --name LiTS
  Synapse/BTCV          --raw /data/RawData/Training --name BTCV
  BIDS                  --raw /data/ds000001 --name Brain
                        --raw /data/ds000001 --name Brain --labels atlas.tsv --threshold 0.3
  FreeSurfer            --raw $SUBJECTS_DIR --name Aseg
                        --raw $SUBJECTS_DIR --name Aseg --labels FreeSurferColorLUT.txt
  DICOM                 --raw /data/dicom --name Lung   series with DICOM-SEG or RTSTRUCT files
  anything else         --raw /data/study --layout study.yaml

study.yaml (a name in braces is a part of a file name: "{{ext}}" its suffix, "{{class}}" in a label
the class; images that end in "/" are folders of DICOM series):
  name: Lesions
  modality: MRI
  labels: {{1: lesion}}          or a file as for --labels, beside this
                                 one or in the raw folder
  sources:
    Tr:
      - images: "{{patient}}/{{sequence}}.nii.gz"
        label: "{{patient}}/truth.nii.gz"
        case: "{{patient}}_{{sequence}}"
        patient: "{{patient}}"
        exclude: [truth]

afterwards:
  python data.py --split val=0.2 --name Liver --group patients.csv
  python data.py --split adapter3d/kits --name KiTS --fold 0
  python data.py --check

The exit code is 0 if all went well, 1 if anything was skipped, failed or found wrong, and 2 if the
command was not understood. Run a command again to go on where it stopped: what is whole and made
from the same raw data is kept.
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
        metavar="DIR|FILE.yaml",
        help=f"where the raw folders lie (default: {VARIABLE}, else {DEFAULT}); see below",
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
        type=_split,
        metavar="val=SHARE|PUBLISHED",
        help="move a share of the patients of <NAME>_Tr to <NAME>_Val, e.g. val=0.2, or divide it "
        f"into <NAME>_Tr, _Val and _Ts as was published: {', '.join(published_splits())}; doing it "
        "again divides the same patients anew",
    )
    mode.add_argument("--check", action="store_true", help="verify every file of the tree")
    _add_prepare_options(parser)
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="the dataset for --raw, --split, --check (for --layout, by default the file's name)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="decides which patients --split moves (%(default)s)"
    )
    parser.add_argument(
        "--fold", type=int, metavar="N", help="of a published split, from 0 (default: 0)"
    )
    parser.add_argument(
        "--group",
        type=Path,
        metavar="FILE.csv",
        help="columns case, patient: with -dt the patients enter the index, where they go before "
        "those that the raw data tell; with --split cases of one patient stay together",
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
        metavar="DIR|FILE.yaml",
        help="where the raw folders lie, if they have moved since step 1",
    )
    parser.add_argument(
        "--raw", type=Path, metavar="DIR", help="do both steps for this raw folder; see below"
    )
    parser.add_argument(
        "--layout",
        type=Path,
        metavar="FILE.yaml",
        help="how the files of --raw lie, where no known layout fits; see below",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="the label table of --raw: .json (value and name either way round), .tsv (columns "
        "index, name) or text (value name ..., such as FreeSurferColorLUT.txt, AAL, ITK-SNAP); it "
        "goes before the tables in the folder",
    )
    parser.add_argument(
        "--channel",
        type=_channel,
        default=0,
        metavar="N",
        help="which channel of multi-channel images --raw uses (%(default)s)",
    )
    parser.add_argument(
        "--threshold",
        type=_fraction,
        metavar="T",
        help="voxels of fractional labels that are at least this much belong to the class: of "
        f"BIDS _probseg and DICOM-SEG files ({DEFAULT_THRESHOLD} if not given), and, if given, of "
        "masks per class and of --layout",
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="go on with the next dataset after one that is missing or has broken cases; the "
        "exit code is still 1. Within a dataset broken cases never stop the others. With a "
        "published split: cases may be missing, and those that it does not name stay in training",
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
    for name in ("layout", "labels", "channel", "threshold"):
        if getattr(options, name) and not options.raw:
            parser.error(f"--{name} goes with --raw")
    is_published = isinstance(options.split, str)
    if options.fold is not None and not is_published:
        parser.error("--fold goes with a published split")
    if options.group and is_published:
        parser.error("--group goes with a share: a published split says where each case belongs")
    if options.group and options.check:
        parser.error("--group goes with -dt and --split")
    needs_name = (options.raw and not options.layout) or options.split is not None
    if options.name is None and needs_name:
        parser.error("--name NAME is needed")
    if options.name and prepares and not options.raw:
        parser.error("with -dt, --name goes with --raw; listed datasets are named by --datasets")


def _split(text: str) -> float | str:
    """Read a share for validation, or the name of a published split."""
    if text in published_splits():
        return text
    key, _, value = text.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if key != "val" or not 0 < share < 1:
        raise argparse.ArgumentTypeError(
            f"one of {', '.join(published_splits())}, or val=SHARE with a share between 0 and 1, "
            f"got {text!r}"
        )
    return share


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of 1 or more, got {text!r}")
    return int(text)


def _channel(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number of 0 or more, got {text!r}")
    return int(text)


def _fraction(text: str) -> float:
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise argparse.ArgumentTypeError(f"a fraction above 0 and up to 1, got {text!r}")
    return fraction
