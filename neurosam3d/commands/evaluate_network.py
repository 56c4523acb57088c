"""The options of `neurosam3d evaluate` that say which network is judged and how it sees scans."""

from argparse import BooleanOptionalAction
from pathlib import Path

from neurosam3d.commands.network import OVERLAP
from neurosam3d.commands.verb import VerbParser, intensity_name
from neurosam3d.models import list_models
from neurosam3d.slice_feeding import FEEDINGS
from neurosam3d.slices import AXES


def add_network(parser: VerbParser) -> None:
    """Add the options of every network."""
    group = parser.add_argument_group("network")
    add = group.add_argument
    add(
        "-cp",
        "--checkpoint_path",
        metavar="FILE",
        type=Path,
        help="weights of any kind that `neurosam3d inspect` recognises",
    )
    add(
        "--base",
        metavar="FILE",
        type=Path,
        help="weights that those are added to, where they are no whole network: SAM's file beside "
        "SAMed's",
    )
    add(
        "-mt",
        "--model_type",
        metavar="NAME",
        choices=list_models(),
        help="network of the weights, where they do not say: one of %(choices)s",
    )
    add(
        "--crop_size",
        "--image_size",
        metavar="N",
        type=int,
        help="side of the network's window, or of its slice, in its pixels; by default that of its "
        "training",
    )
    add(
        "--spacing",
        metavar="MM",
        nargs="+",
        help="voxel size it sees: three lengths in mm, or native for each scan's own; by default "
        "that of its training",
    )
    add(
        "--intensity",
        metavar="PRESET",
        type=intensity_name,
        help="preset of the intensities, or an expression such as 'clip -54 247'; by default that "
        "of its training",
    )
    add(
        "--max_windows",
        metavar="N",
        type=int,
        default=27,
        help="windows per object and round at most, for prompt_roi and adapter3d; default: "
        "%(default)s",
    )
    add(
        "--overlap",
        metavar="SHARE",
        type=float,
        default=OVERLAP,
        help="for automatic: share of a window that the next one covers, too; default: %(default)s",
    )
    add(
        "--mirror",
        action=BooleanOptionalAction,
        default=False,
        help="for automatic: average over the eight ways to mirror a window",
    )
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")


def add_slices(parser: VerbParser) -> None:
    """Add the options of networks of slices alone."""
    group = parser.add_argument_group("network of slices")
    add = group.add_argument
    add(
        "--axis",
        choices=AXES,
        help="what slices are stacked along; by default as in its training",
    )
    add(
        "--feeding",
        choices=FEEDINGS,
        help="of SAM, SAM-Med2D and MedSAM: how they are fed, by default each as it was trained; "
        "slicewise is how SAM-Med3D judged them",
    )
    add(
        "--ft2d",
        action=BooleanOptionalAction,
        default=False,
        help="feed as slicewise_ft2d: SAM-Med2D as SAM-Med3D judged it, which misplaces its masks",
    )
    add(
        "--detail",
        metavar="N",
        type=int,
        help="without prompts: reduce slices to N x N pixels first, 0 for not at all; by "
        "default as in its training (published SAMed: 224)",
    )
    add(
        "--smooth",
        action=BooleanOptionalAction,
        help="without prompts: bring logits back to the slices' pixels, not the "
        "labels of the nearest ones as published; on by default",
    )
