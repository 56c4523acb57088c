"""`neurosam3d convert IN OUT`: weights from one kind of checkpoint into another."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neurosam3d.checkpoint_formats import LORA_FACTORS, Checkpoint, read_checkpoint, shorten
from neurosam3d.checkpoint_lora import merged_weights
from neurosam3d.checkpoint_sam2d import published_part
from neurosam3d.checkpoint_writing import (
    KEY_OF_LAYOUT,
    LAYOUTS,
    Layout,
    layout_of,
    write_checkpoint,
)
from neurosam3d.checkpoints import (
    LoadReport,
    match_weights,
    outline_network,
    read_base,
    require_fit,
)
from neurosam3d.commands.verb import VerbParser, file_size, plain_console
from neurosam3d.models import BASELINES, SAM2D, SAMED, list_models
from neurosam3d.recognise import Identity, identify, stored_values

DESCRIPTION = """\
Write the weights of a checkpoint as another kind of file. They are not changed: a way there and
back gives the same bits. What training left beside them (the optimizer and so on) is left out.

IN may be any file that `neurosam3d inspect` recognises. The kind of OUT follows from its ending:

  .pth          as SAM-Med3D's programs read it (model_state_dict); of networks without prompts, as
                those of 3DSAM-adapter read the networks they compare with (network_dict); of
                networks of slices, as their own read it: SAM and MedSAM the state dict alone,
                SAM-Med2D below model, SAMed LoRA, prompt encoder and mask decoder, without SAM
  .pt           the state dict alone
  .tar          of 3DSAM-adapter, as its own programs read it (.pth.tar)
  .safetensors  weights, and what to build, how to feed it, source and licence as metadata
"""
EPILOG = """\
examples:
  neurosam3d convert ckpt/sam_med3d.pth sam_med3d.safetensors --licence Apache-2.0
  neurosam3d convert work_dir/liver/checkpoints/last.ckpt liver.pth
  neurosam3d convert last.ckpt liver_lora.safetensors --lora     only what LoRA has learned
  neurosam3d convert last.ckpt liver.pth --merge                 a plain network with it inside
  neurosam3d convert epoch_159.pth samed.safetensors --base sam_vit_b.pth      two files in one
"""
NAMELESS: tuple[Layout, ...] = ("bare", "samed")  # they hold weights and nothing else
# Of the networks that SAM-Med3D's programs do not know: what a .pth is.
PTH_LAYOUTS: dict[str, Layout] = {
    **dict.fromkeys(BASELINES, "baseline"),
    **dict.fromkeys(SAM2D, "bare"),
    "sam_med2d_vit_b": "sam_med2d",
    **dict.fromkeys(SAMED, "samed"),
}


def main(words: Sequence[str]) -> None:
    """Carry out `convert ...`.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file, a network or a combination of options is unfit.
        argparse.ArgumentError: If an argument is.
    """
    _convert(_parser().parse_args(words[1:]))


def _parser() -> VerbParser:
    parser = VerbParser("convert", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("source", metavar="IN", type=Path, help="checkpoint to read")
    parser.add_argument("target", metavar="OUT", type=Path, help="checkpoint to write")
    parser.add_argument("--format", choices=LAYOUTS, help="kind of OUT, whatever its ending")
    parser.add_argument(
        "--model",
        metavar="NAME",
        choices=list_models(),
        help="network of the weights, where IN does not say: one of %(choices)s",
    )
    parser.add_argument("--licence", metavar="TEXT", help="licence of the weights, to be kept")
    parser.add_argument(
        "--base",
        metavar="FILE",
        type=Path,
        help="weights that those of IN are added to, where they are no whole network: SAM's beside "
        "SAMed's",
    )
    parser.add_argument(
        "--image_size",
        metavar="N",
        type=int,
        help="with --base: side of the network's images, where IN does not say; default: the "
        "network's own",
    )
    lora = parser.add_mutually_exclusive_group()
    lora.add_argument("--lora", action="store_true", help="write LoRA alone (as .safetensors)")
    lora.add_argument("--merge", action="store_true", help="merge LoRA into the weights")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    return parser


def _convert(options: Namespace) -> None:
    layout = _check_target(options)
    checkpoint = read_checkpoint(options.source)
    identity = identify(checkpoint, options.model)
    base = None if options.base is None else read_base(options.base, checkpoint)
    if options.image_size is not None:
        size = {"image_size": options.image_size}
        identity = replace(identity, options={**identity.options, **size})
    if layout == "sam_med3d" and not options.format:
        layout = PTH_LAYOUTS.get(str(identity.name), layout)
        if layout == "samed" and (options.merge or not checkpoint.lora_names):
            layout = "bare"  # there is nothing to lie beside SAM's weights
    _check_choices(options, checkpoint, layout, identity.name)
    model, report, weights = _match(checkpoint, identity)
    if base is not None:
        weights = _match_base(model, base) | weights
        report.missing[:] = [name for name in report.missing if name not in weights]
    left_out = report.unexpected + checkpoint.beside
    if options.merge:
        weights, identity = merged_weights(model, weights), replace(identity, lora=None)
    elif options.lora:
        left_out.append("the weights that LoRA adds to")
        weights = {name: w for name, w in weights.items() if name.endswith(LORA_FACTORS)}
    if layout == "samed":
        num_weights, weights = len(weights), published_part(weights)
        if len(weights) < num_weights:
            left_out.append("the weights that are SAM's")
    values = _values(options, checkpoint, identity)
    # The layout samed gives its names itself, and two files in one have the network's.
    is_named = layout == "samed" or base is not None
    named = weights if is_named else checkpoint.format.arrange(weights)
    write_checkpoint(options.target, named, layout=layout, values=values)
    lines = [
        f"{options.target}: {layout} of {identity.name}, {len(weights)} tensors, "
        f"{_count_parameters(model, weights):,} parameters, {file_size(options.target)}"
    ]
    if layout in NAMELESS:
        unsaid = ", ".join(f"{key} {value}" for key, value in values.items())
        lines.append(f"no place in a state dict for: {unsaid}")
    if left_out:
        lines.append(f"left out: {shorten(left_out, most=12)}")
    if report.missing:
        lines.append(f"not in IN: {len(report.missing)} tensors, {shorten(report.missing)}")
    plain_console().print("\n".join(lines), soft_wrap=True)


def _check_target(options: Namespace) -> Layout:
    """Return the layout of the file to write, if it may be written."""
    layout: Layout = options.format or layout_of(options.target)
    if options.target.is_dir():
        raise ValueError(f"OUT must be a file, got the folder {options.target}")
    if options.target.exists() and not options.force:
        raise ValueError(f"OUT must be a new file unless --force is given, got {options.target}")
    return layout


def _match(
    checkpoint: Checkpoint, identity: Identity
) -> tuple[nn.Module, LoadReport, dict[str, Tensor]]:
    """Return the network without memory for weights, and those that it would get as they are."""
    model = outline_network(checkpoint, identity)
    report, weights = match_weights(model, checkpoint)
    require_fit(model, checkpoint, report, weights)
    if unfit := report.mismatched + report.resized:
        raise ValueError(
            f"{checkpoint.path} must fit {identity.name} as it is to be converted, "
            f"got other shapes for {shorten(unfit)}"
        )
    return model, report, weights


def _match_base(model: nn.Module, base: Checkpoint) -> dict[str, Tensor]:
    """Return the weights that a network gets from the file beneath, position tables resized."""
    report, weights = match_weights(model, base)
    require_fit(model, base, report, weights)
    return weights


def _check_choices(
    options: Namespace, checkpoint: Checkpoint, layout: Layout, name: str | None
) -> None:
    """Refuse what a file cannot hold, and what there is nothing for."""
    has_lora = bool(checkpoint.lora_names)
    chosen = "--lora" if options.lora else "--merge"
    if (options.lora or options.merge) and not has_lora:
        raise ValueError(f"{chosen} needs a file with LoRA, got {checkpoint.path} without")
    says_scale = layout == "safetensors" or name in SAMED  # whose scale is always 1
    if has_lora and not options.merge and not says_scale:
        raise ValueError(
            f"only safetensors say how LoRA is scaled, got the format {layout}; "
            "--merge makes a plain network of it"
        )
    if options.base is not None and (layout == "samed" or options.lora):
        raise ValueError(
            "--base must have a place in OUT, got one that holds LoRA without what lies beneath; "
            "a .safetensors holds both, any file does with --merge"
        )
    if options.base is None and options.image_size is not None:
        raise ValueError(f"--image_size is for --base, got {options.image_size}")
    if checkpoint.format.is_partial and options.base is None and layout in KEY_OF_LAYOUT:
        raise ValueError(
            f"the format {layout} holds whole networks, got {checkpoint.format.part_title} alone"
        )
    if options.licence and layout in NAMELESS:
        raise ValueError(f"the format {layout} has no place for a licence, got --licence")


def _values(options: Namespace, checkpoint: Checkpoint, identity: Identity) -> dict[str, Any]:
    """Return what the file shall say of its network and of itself."""
    licence = options.licence or stored_values(checkpoint.content).get("licence")
    of_file = {"licence": licence, "source": checkpoint.path.name}
    return {**identity.to_values(), **{key: str(text) for key, text in of_file.items() if text}}


def _count_parameters(model: nn.Module, weights: dict[str, Tensor]) -> int:
    """Count the elements of those weights that are no buffers."""
    return sum(weights[name].numel() for name, _ in model.named_parameters() if name in weights)
