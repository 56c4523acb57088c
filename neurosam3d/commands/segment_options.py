"""The command line of `segment`: prompts in groups, one group per object."""

import argparse
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from neurosam3d.commands.network import Native
from neurosam3d.commands.segment_prompts import (
    group_prompts,
    join_negative,
    parse_box,
    parse_numbers,
    parse_point,
)
from neurosam3d.commands.verb import VerbParser, intensity_name
from neurosam3d.inference.label_map import OVERLAPS
from neurosam3d.inference.named_object import PromptTable
from neurosam3d.inference.prompt_file import read_prompts
from neurosam3d.inference.scan_files import TARGETS
from neurosam3d.models import list_models
from neurosam3d.slice_feeding import FEEDINGS
from neurosam3d.slices import AXES
from neurosam3d.volume import Spacing

DESCRIPTION = """\
Segment a scan by prompts: clicks, boxes or rough masks. No ground truth is needed.

IMAGE is a NIfTI, NRRD, MetaImage or MGZ file, or a folder with one DICOM series. OUT has its grid
and its place in space. Coordinates are voxel indices in the file's own axis order, counted from 0;
with --world RAS+ millimetres, as 3D Slicer and FSLeyes show them.

--object NAME begins an object; the prompts after it are its own. Prompts before the first one
belong to an object without a name. Several objects make one label map, with the values 1, 2, ... in
their order, and OUT with the ending .json says which is which. That file can be given to --prompts.

With -o X.dcm and a DICOM folder the result is a DICOM-SEG file of the same patient.

IMAGE may also be a folder of scans, with --prompts and a folder for -o; and an .npz case of the
CVPR25 challenge, or a folder of them, with an .npz file or folder for -o.

SAM, SAM-Med2D and MedSAM see slices (--axis): a click or a mask on some of them is followed through
the others, a box is the same on every slice that it meets. MedSAM has to be named, as its files are
like SAM's: --model medsam_vit_b.

A network that was trained without prompts gets none: it segments the classes that it knows.
"""
EPILOG = """\
examples:
  neurosam3d segment ct.nii.gz --point 120,85,40 --checkpoint best.ckpt -o liver.nii.gz
  neurosam3d segment ct.nii.gz --world --point=-62.5,18,-240 --checkpoint best.ckpt -o liver.nii.gz
  neurosam3d segment ct.nii.gz --object liver --point 120,85,40 --point 90,60,40,0 \\
      --object spleen --box 30,60,35,70,110,52 --checkpoint best.ckpt -o organs.nii.gz \\
      --save_picture organs.png
  neurosam3d segment series/ --object liver --point 120,85,40 --checkpoint best.ckpt -o liver.dcm
  neurosam3d segment ct.nii.gz --automatic --checkpoint best.ckpt -o all.nii.gz
  neurosam3d segment scans/ --checkpoint nnunet.ckpt --mirror -o masks/
  neurosam3d segment ct.nii.gz --base sam_vit_b.pth --checkpoint epoch_159.pth -o organs.nii.gz
  neurosam3d segment ct.nii.gz --box 60,70,31,95,110,44 --checkpoint medsam_vit_b.pth \\
      --model medsam_vit_b --intensity 'clip -160 240' -o mask.nii.gz
  neurosam3d segment scans/ --prompts clicks.csv --checkpoint best.ckpt -o masks/ --skip_existing

prompts as JSON, of one scan or many:
  {"objects": [{"name": "liver", "points": [[120, 85, 40], [90, 60, 40]], "labels": [1, 0]},
               {"name": "spleen", "box": [[30, 60, 35], [70, 110, 52]]}]}
  {"world": true, "images": {"case1.nii.gz": [{"name": "liver", "points": [[-62.5, 18, -240]]}]}}

prompts as CSV, a row for each point, box (i1, j1, k1: its other corner) or mask; the columns
x, y, z in place of i, j, k are millimetres; columns that are not needed may be left out:
  image,object,i,j,k,label,i1,j1,k1,mask
  case1.nii.gz,liver,120,85,40,1,,,,
  case1.nii.gz,liver,90,60,40,0,,,,
  case1.nii.gz,spleen,30,60,35,,70,110,52,
  case2.nii.gz,liver,,,,,,,,rough/case2.nii.gz
"""

# Arguments of the automatic generator: what they are called here, their type and their help.
AUTOMATIC: dict[str, tuple[str, Callable[[str], float], str]] = {
    "points_per_side": ("points_per_side", int, "points along each side of a window"),
    "points_per_batch": ("points_per_batch", int, "points decoded at once"),
    "window_overlap": (
        "overlap",
        float,
        "share of a window that the next one covers too; also of networks without prompts",
    ),
    "stability_threshold": ("stability_threshold", float, "least stability of a mask, 0 to 1"),
    "stability_offset": ("stability_offset", float, "by how much it shifts the threshold"),
    "iou_threshold": ("iou_threshold", float, "least IoU that the network itself estimates"),
    "box_nms": ("box_nms", float, "largest IoU of two boxes"),
    "mask_nms": ("mask_nms", float, "largest IoU of two masks"),
    "max_contained": ("max_contained", float, "largest share of a mask inside a better one"),
    "min_volume_mm3": ("min_volume_mm3", float, "smaller objects are dropped"),
    "min_region_mm3": ("min_region_mm3", float, "smaller holes are filled, islands dropped"),
}


def parse_options(words: Sequence[str]) -> Namespace:
    """Read the command line without the verb.

    Raises:
        argparse.ArgumentError: If an argument is unknown, missing or unfit.
    """
    return _parser().parse_args(join_negative(words))


def asked_of(options: Namespace) -> PromptTable | None:
    """Return what to segment: objects by scan, under "" those of the command line.

    Returns:
        None with --automatic: all that there is. An empty table if nothing is asked for, as npz
        cases bring their own prompts.

    Raises:
        ValueError: If options contradict each other, or the prompts are unfit.
    """
    given = [flag for flag in AUTOMATIC if getattr(options, flag) is not None]
    asks_nothing = not (options.said or options.prompts or options.automatic)
    if asks_nothing and "window_overlap" in given:
        given.remove("window_overlap")  # networks without prompts have it, too
    given += ["no_grow"] if options.no_grow else []
    if given and not options.automatic:
        raise ValueError(f"--{given[0]} is for --automatic, which was not given")
    objects = group_prompts(options.said or (), world=options.world)
    ways = {
        "prompts": bool(objects),
        "--prompts": options.prompts,
        "--automatic": options.automatic,
    }
    chosen = [way for way, is_chosen in ways.items() if is_chosen]
    if len(chosen) > 1:
        raise ValueError(f"{chosen[0]} and {chosen[1]} cannot be combined")
    if options.world and not objects:
        raise ValueError("--world is for --point and --box; a file of prompts says it itself")
    if options.automatic:
        if options.overlap:
            raise ValueError(
                "--overlap is for prompts; with --automatic smaller objects are on top"
            )
        return None
    return read_prompts(options.prompts) if options.prompts else {"": objects} if objects else {}


def _parser() -> VerbParser:
    parser = VerbParser("segment", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="scan, or folder of scans")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        required=True,
        help=f"result: {', '.join(TARGETS)}",
    )
    parser.add_argument("--checkpoint", metavar="C", type=Path, required=True, help="weights")
    _add_prompts(parser.add_argument_group("what to segment"))
    _add_results(parser.add_argument_group("results"))
    _add_feeding(parser.add_argument_group("network"))
    automatic = parser.add_argument_group("--automatic")
    for flag, (_, kind, text) in AUTOMATIC.items():
        automatic.add_argument(f"--{flag}", metavar="N", type=kind, help=text)
    automatic.add_argument(
        "--no_grow", action="store_true", help="drop masks that end at a window's border"
    )
    return parser


def _add_prompts(group: "argparse._ArgumentGroup") -> None:
    def add(flag: str, metavar: str, kind: Callable[[str], object], text: str) -> None:
        # All go to one list: their order says which object they belong to.
        group.add_argument(
            flag, metavar=metavar, type=kind, action="append", dest="said", help=text
        )

    add("--point", "i,j,k[,label]", parse_point, "a click: label 1 (default) inside, 0 outside")
    add("--box", "i0,j0,k0,i1,j1,k1", parse_box, "lowest and highest corner, both included")
    add("--mask", "F", Path, "file of a rough mask or of logits")
    add("--object", "NAME", str, "begin an object")
    group.add_argument("--world", action="store_true", help="coordinates are RAS+ millimetres")
    group.add_argument("--prompts", metavar="FILE", type=Path, help="JSON or CSV, see below")
    group.add_argument("--automatic", action="store_true", help="look for all objects, no prompts")


def _add_results(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--overlap",
        choices=OVERLAPS,
        help="whose a voxel is that several objects claim: that of the highest logit (default), "
        "the first or the last",
    )
    group.add_argument("--separate", action="store_true", help="write a file per object, too")
    group.add_argument(
        "--save_picture", metavar="F.png", type=Path, help="draw it (of many scans: a folder)"
    )
    group.add_argument(
        "--suffix", choices=TARGETS, help="of the results of many scans (default: .nii.gz)"
    )
    group.add_argument(
        "--skip_existing", action="store_true", help="leave out scans whose result is there"
    )


def _add_feeding(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--model", metavar="NAME", choices=list_models(), help="where the file does not say"
    )
    group.add_argument(
        "--base",
        metavar="FILE",
        type=Path,
        help="weights that those of --checkpoint are added to, where they are no whole network: "
        "SAM's beside SAMed's",
    )
    group.add_argument(
        "--crop_size",
        metavar="N",
        type=int,
        help="side of the network's window or slice in its pixels (default: as trained)",
    )
    group.add_argument(
        "--spacing",
        metavar="MM",
        type=_spacing,
        help="1.5, or 1,1,3, or native (default: as trained)",
    )
    group.add_argument(
        "--intensity",
        metavar="PRESET",
        type=intensity_name,
        help="a preset, or an expression such as 'clip -54 247' (default: as trained)",
    )
    group.add_argument(
        "--mirror",
        action="store_true",
        help="of a network without prompts: average over the eight ways to mirror a window",
    )
    group.add_argument(
        "--axis",
        choices=AXES,
        help="of a network of slices: what they are stacked along (default: as trained)",
    )
    group.add_argument(
        "--feeding",
        choices=FEEDINGS,
        help="of SAM, SAM-Med2D and MedSAM: how they are fed (default: as trained)",
    )
    group.add_argument(
        "--detail",
        metavar="N",
        type=int,
        help="of a network of slices: reduce them to N x N pixels first, 0 for not at all "
        "(default: as trained; published SAMed: 224)",
    )
    group.add_argument(
        "--smooth",
        action=argparse.BooleanOptionalAction,
        help="of a network of slices without prompts: bring logits back to their pixels, not the "
        "labels of the nearest ones as published (default: on)",
    )
    group.add_argument("--channel", metavar="N", type=int, help="of a scan with several, from 0")
    group.add_argument("--device", help="cpu, cuda, cuda:1 ...; the first GPU if there is one")
    group.add_argument(
        "--max_windows", metavar="N", type=int, default=27, help="per object (default: 27)"
    )


def _spacing(text: str) -> Spacing | Native:
    if text == "native":
        return "native"
    numbers = parse_numbers(text)
    if len(numbers) not in (1, 3) or min(numbers) <= 0:
        raise argparse.ArgumentTypeError(
            f"must be native, or one or three lengths in mm, got {text!r}"
        )
    d, h, w = numbers * (3 // len(numbers))
    return d, h, w
