"""The network of slices of a run, and the recipe that it learns by."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import nn

from neurosam3d.models import SAM2D, SAMED, build_model, list_overrides
from neurosam3d.training.slice_classes import ClassRecipe
from neurosam3d.training.slice_prompts import BoxPrompts, IterativePrompts
from neurosam3d.training.slice_recipe import SliceRecipe

RecipeName = Literal["samed", "sam_med2d", "medsam"]


def build_slice_network(
    model_type: str, *, img_size: int, classes: Sequence[str], asked: Mapping[str, Any]
) -> nn.Module:
    """Build a network of slices.

    Args:
        model_type: A name of `SAMED` or `SAM2D`.
        img_size: Side of its image in pixels.
        classes: Names of the classes beside the background.
        asked: Overrides; a network need not know one that is None, its own choice, or False.

    Raises:
        ValueError: If the network is another, there are no classes, or it does not know what is
            asked of it.
    """
    if model_type not in SAMED and model_type not in SAM2D:
        raise ValueError(
            f"model_type must be one of {', '.join([*SAMED, *SAM2D])}, got {model_type!r}; "
            "networks of volumes are of task promptable or supervised"
        )
    if not classes:
        raise ValueError("classes names what is segmented, got none")
    known = list_overrides(model_type)
    overrides = {n: v for n, v in asked.items() if v or (v is not None and n in known)}
    if model_type in SAMED:
        overrides["num_classes"] = len(classes)
    return build_model(model_type, image_size=img_size, **overrides)


def pick_recipe(model_type: str, options: Mapping[str, Any]) -> SliceRecipe:
    """Return how a network learns.

    Args:
        model_type: The network.
        options: Arguments of the LightningModule; without a `recipe` it is the one that the
            network was published with, for SAM that of MedSAM.

    Raises:
        ValueError: If the recipe is unknown, slices are not fed as it needs them, or a number is
            not allowed.
    """
    name = options["recipe"] or _published_recipe(model_type)
    if name not in get_args(RecipeName):
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(get_args(RecipeName))}")
    if (name == "samed") != (options["feeding"] == "samed"):
        wanted = "samed" if name == "samed" else "sam, sam_med2d or medsam"
        raise ValueError(f"recipe {name} needs data.feeding {wanted}, got {options['feeding']!r}")
    classes = tuple(options["classes"])
    if name == "samed":
        weights = {key: options[key] for key in ("dice_weight", "ce_weight")}
        return ClassRecipe(classes, **weights)
    if name == "medsam":
        return BoxPrompts(classes, box_margin=options["box_margin"])
    return IterativePrompts(
        classes,
        objects_per_slice=options["objects_per_slice"],
        num_corrections=options["num_corrections"],
        num_points=tuple(options["num_points"]),
        box_jitter=options["box_jitter"],
    )


def _published_recipe(model_type: str) -> RecipeName:
    if model_type in SAMED:
        return "samed"
    return "sam_med2d" if model_type.startswith("sam_med2d") else "medsam"
