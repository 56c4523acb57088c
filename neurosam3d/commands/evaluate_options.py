"""The options of `neurosam3d evaluate`, from flags and from a flat YAML file."""

from argparse import ArgumentError, BooleanOptionalAction, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from neurosam3d.commands.evaluate_network import add_network, add_slices
from neurosam3d.commands.flat_config import config_words, find_config, mapping_words
from neurosam3d.commands.verb import VerbParser
from neurosam3d.data.tree import DEFAULT_ROOT, SETS
from neurosam3d.evaluation.adapter3d_protocol import NAME as ADAPTER3D
from neurosam3d.evaluation.automatic_evaluation import NAME as AUTOMATIC
from neurosam3d.evaluation.challenge_evaluation import NAME as CVPR25
from neurosam3d.evaluation.legacy_figures import LEGACY_FIGURES
from neurosam3d.evaluation.protocol import NAMES, POINT_METHODS
from neurosam3d.evaluation.slice_protocols import NAMES as SLICES_ONLY
from neurosam3d.evaluation.slice_protocols import ORACLE_SLICES, PROMPTS
from neurosam3d.slice_feeding import FT2D
from neurosam3d.volume import Spacing

DESCRIPTION = """\
Judge a network as a user would meet it: click on an object of a whole scan, look at the mask, click
where it is wrong, and so on. Scores are measured on the scan's own grid, in millimetres, after
every click.

protocols:
  prompt_roi  the network gets the clicks and nothing else: its window lies around the first click
              and grows where the object goes on. What a user gets; the figure to report.
  oracle_roi  SAM-Med3D's: one window around the truth, and clicks inside it. An upper bound.
  adapter3d   3DSAM-adapter's: --num_prompts voxels of the object, drawn at random, all at once. The
              window lies in their middle; --max_windows 1 leaves it at that, as published.
  automatic   for networks without prompts: the classes that they find, once, without a click.
  oracle_slices, box_per_slice, box_3d, propagate
              for SAM, SAM-Med2D and MedSAM, networks of slices: --num_clicks clicks on every slice
              of the object; its box on every slice; its box in space; one --prompt on the slice
              where it is largest. The first two are upper bounds.
  cvpr25      the CVPR25 challenge's on its .npz cases: a box, then five clicks on every class.
"""
EPILOG = """\
examples:
  neurosam3d evaluate -cp ckpt/sam_med3d.pth -tdp data_fixed/medical_preprocessed --datasets AMOS
  neurosam3d evaluate -cp best.ckpt -tdp scans/images --labels scans/labels --save_name liver.json
  neurosam3d evaluate --config evaluate.yaml --protocol prompt_roi oracle_roi
  neurosam3d evaluate --protocol adapter3d --num_prompts 1 3 10 -cp best.ckpt -tdp data_fixed/kits
  neurosam3d evaluate --protocol automatic --overlap 0.7 -cp unetr.ckpt -tdp data_fixed/kits
  neurosam3d evaluate --protocol automatic --legacy samed -cp samed.ckpt -tdp data_fixed/synapse
  neurosam3d evaluate --protocol automatic --base sam_vit_b.pth -cp epoch_159.pth -tdp scans
  neurosam3d evaluate --protocol propagate --prompt click -cp sam_vit_b.pth -tdp scans
  neurosam3d evaluate --protocol box_per_slice --box_margin 20 -mt medsam_vit_b -cp medsam.pth \\
      --intensity 'clip -160 240' -tdp scans
  neurosam3d evaluate --protocol cvpr25 -cp best.ckpt -tdp 3D_val_npz --labels 3D_val_gt
  neurosam3d evaluate ... --split_num 4 --split_idx 0      one part of four; see val.sh

--config holds the same options by their long names; flags win over it. A killed run goes on when it
is started again. The exit code is 0 if all went well, 1 if a file could not be read, and 2 if the
command was not understood.
"""


def parse_options(words: Sequence[str]) -> Namespace:
    """Read the command line and the file that it names; flags win.

    Raises:
        ValueError: If the file is missing or unfit, or two options contradict each other.
        argparse.ArgumentError: If an option is.
    """
    parser = _parser()
    options = parser.parse_args(words)
    if options.config is not None:
        stored = config_words(find_config(options.config, verb="evaluate"), parser)
        options = parser.parse_args([*stored, *words])
    return _without_classic_words(options)


def _without_classic_words(options: Namespace) -> Namespace:
    """Say by our own options what `--dim 2` and `--ft2d` say."""
    if options.ft2d:
        if options.dim != 2:
            raise ValueError("--ft2d is for --dim 2, which was not given")
        if options.feeding not in (None, FT2D):
            raise ValueError(f"--ft2d is the feeding {FT2D}, got {options.feeding}")
        options.feeding = FT2D
    if options.dim == 2:
        if options.protocol not in (["prompt_roi"], [ORACLE_SLICES]):
            raise ValueError(
                f"--dim 2 is the protocol {ORACLE_SLICES}, got {' '.join(options.protocol)}"
            )
        options.protocol = [ORACLE_SLICES]
    return options


def options_from(values: Mapping[str, Any], *, place: str) -> Namespace:
    """Read options from values under their long names.

    Args:
        values: The values; the others have their defaults.
        place: Where they are from, for errors.

    Raises:
        ValueError: If a name is unknown or a value unfit.
    """
    parser = _parser()
    try:
        return _without_classic_words(parser.parse_args(mapping_words(values, parser, place=place)))
    except ArgumentError as error:
        raise ValueError(f"{place}: {error}") from error


def _parser() -> VerbParser:
    parser = VerbParser("evaluate", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--config", metavar="FILE", help="flat YAML with these options by their long names"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a mistake")
    _add_data(parser)
    _add_protocol(parser)
    add_network(parser)
    add_slices(parser)
    _add_output(parser)
    return parser


def _add_data(parser: VerbParser) -> None:
    group = parser.add_argument_group("scans")
    add = group.add_argument
    add(
        "-tdp",
        "--test_data_path",
        metavar="DIR",
        type=Path,
        default=DEFAULT_ROOT,
        help="a prepared tree, or a folder with imagesTs and labelsTs, images and labels, or "
        "<class>/<dataset>/imagesTs and labelsTs; default: %(default)s",
    )
    add(
        "--labels",
        metavar="DIR",
        type=Path,
        help="labels of the images in --test_data_path, file by file of the same name; for cvpr25 "
        "the cases' truth, where they have no gts themselves",
    )
    add(
        "-dt",
        "--data_type",
        choices=SETS,
        default="Ts",
        help="which set: training, validation or test (default)",
    )
    add(
        "--datasets",
        metavar="NAME",
        nargs="+",
        default=[],
        help="data sets of a prepared tree; all that have the set by default",
    )
    add(
        "--classes",
        metavar="NAME",
        nargs="+",
        default=[],
        help="judge objects of these classes only; they also name, in the order of its values, "
        "what a network without prompts segments, where its file does not",
    )
    add(
        "--channel",
        metavar="N",
        type=int,
        default=0,
        help="channel of images with several, counted from 0 (default)",
    )
    add(
        "--threshold",
        metavar="MM3",
        type=float,
        default=0.0,
        help="judge objects larger than this only, in mm^3; default: %(default)g",
    )
    add("--split_num", metavar="N", type=int, default=1, help="divide the scans into N parts")
    add(
        "--split_idx",
        metavar="I",
        type=int,
        default=0,
        help="which part to judge, counted from 0: every N-th scan; its results carry _s{N}i{I} "
        "in their names, and sum_result.py puts them together",
    )


def _add_protocol(parser: VerbParser) -> None:
    group = parser.add_argument_group("protocol")
    add = group.add_argument
    add(
        "--protocol",
        metavar="NAME",
        nargs="+",
        choices=(*NAMES, ADAPTER3D, AUTOMATIC, *SLICES_ONLY, CVPR25),
        default=["prompt_roi"],
        help="one or more of %(choices)s; each of several has its own result, named after it; "
        "default: prompt_roi",
    )
    add(
        "--dim",
        type=int,
        choices=(2, 3),
        help="2 is another word for --protocol oracle_slices, as the published program has it",
    )
    add(
        "-nc",
        "--num_clicks",
        metavar="N",
        type=int,
        default=5,
        help="clicks per object; every round is reported; default: %(default)s",
    )
    add(
        "--num_prompts",
        metavar="N",
        nargs="+",
        type=int,
        default=[1],
        help="for adapter3d, numbers of clicks, each of them a round; fewer are the first of more; "
        "default: 1",
    )
    add(
        "-pm",
        "--point_method",
        choices=POINT_METHODS,
        default="default",
        help="where clicks fall: ritm, deep inside the larger error; random, anywhere in the "
        "error; largest, first in the object's largest component, then random; default, two by "
        "ritm, then random, as SAM-Med3D was judged",
    )
    add(
        "--prompt",
        choices=PROMPTS,
        default="box",
        help="for propagate: a click or a box; default: %(default)s",
    )
    add(
        "--box_margin",
        metavar="N",
        type=float,
        default=0.0,
        help="for boxes of slice protocols: pixels of the network's image by which they are "
        "enlarged at each side; MedSAM was judged with 20; default: 0",
    )
    add("--seed", metavar="N", type=int, default=2023, help="of the clicks; default: %(default)s")
    add(
        "--repeats",
        metavar="N",
        type=int,
        default=1,
        help="play everything N times, with the seeds --seed, --seed + 1, ...",
    )
    add(
        "--tolerance_mm",
        metavar="MM",
        type=float,
        help="of the surface Dice (NSD), in mm; default: 1, for adapter3d and automatic 5, as "
        "3DSAM-adapter was judged",
    )
    add(
        "--legacy",
        choices=LEGACY_FIGURES,
        help="beside ours, report Dice and HD95 as this program does; samed: in voxels, HD95 of a "
        "missed object is 0, and for automatic classes count that a scan does not have",
    )


def _add_output(parser: VerbParser) -> None:
    group = parser.add_argument_group("output")
    add = group.add_argument
    add(
        "--save_name",
        metavar="FILE",
        type=Path,
        default=Path("union_out_dice.py"),
        help="results are written as .json, .csv, .md and .html of this name, and as .py if it "
        "ends so; default: %(default)s",
    )
    add(
        "-vp",
        "--vis_path",
        metavar="DIR",
        type=Path,
        help="write masks and clicks of every round below this folder, as NIfTI on the scans' "
        "grids; by default none are written",
    )
    add(
        "--skip_existing_pred",
        action=BooleanOptionalAction,
        default=False,
        help="score masks that are in --vis_path already without asking the network",
    )
    add(
        "--groups",
        metavar="FILE",
        type=Path,
        help="YAML with anatomical groups of classes; by default SAM-Med3D's",
    )
    add(
        "--restart",
        action=BooleanOptionalAction,
        default=False,
        help="begin anew instead of going on with an unfinished run of this name",
    )


def parse_spacing(words: Sequence[str] | None) -> Spacing | Literal["native"] | None:
    """Return the voxel size that was asked for, None if none was.

    Raises:
        ValueError: If the words are neither three lengths nor "native".
    """
    if words is None:
        return None
    if list(words) == ["native"]:
        return "native"
    try:
        d, h, w = map(float, words)
    except ValueError:
        raise ValueError(
            f"--spacing must be three lengths in mm or native, got {' '.join(words)}"
        ) from None
    return d, h, w
