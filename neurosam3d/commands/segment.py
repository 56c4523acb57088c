"""`neurosam3d segment IMAGE`: masks of a scan, or of many, by prompts."""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from neurosam3d.commands.network import load_network
from neurosam3d.commands.segment_options import asked_of, parse_options
from neurosam3d.commands.segment_running import Runner
from neurosam3d.files import clear_abandoned
from neurosam3d.inference.batch import NPZ, Batch, list_scans, objects_for, plan_batch
from neurosam3d.inference.named_object import PromptTable
from neurosam3d.inference.scan_files import TARGETS, sidecar_of, suffix_of
from neurosam3d.inference.scan_segmenter import ScanJob

_PICTURE = ".png"


def main(words: Sequence[str]) -> int:
    """Carry out `segment ...`.

    Args:
        words: The command line, the verb first.

    Returns:
        The exit code: 1 if some of many scans failed.

    Raises:
        ValueError: If a file, a prompt or a combination of options is unfit.
        argparse.ArgumentError: If an argument is.
    """
    options = parse_options(words[1:])
    if not options.image.exists():
        raise ValueError(f"there is no scan {options.image}")
    asked = asked_of(options)
    is_file = options.output.name.lower().endswith((*TARGETS, NPZ))
    if options.image.is_dir() and not is_file:
        batch = _plan_many(options, asked)
        clear_abandoned(options.output)
        return _load(options, asked, batch.jobs.values()).run_many(batch, options.output)
    job = _plan_one(options, asked)
    if options.skip_existing and job.output.exists():
        return 0
    clear_abandoned(options.output.parent, below=False)
    _load(options, asked, [job]).run_one(job)
    return 0


def _plan_one(options: Namespace, asked: PromptTable | None) -> ScanJob:
    """Return the one job of a command line.

    Raises:
        ValueError: If image, output and prompts do not go together.
    """
    image, output, picture = options.image, options.output, options.save_picture
    if options.suffix:
        raise ValueError("--suffix is for many scans; that of one is the ending of -o")
    if output.resolve() == image.resolve():
        raise ValueError(f"the result must not replace the scan, got -o {output}")
    if picture is not None and picture.suffix.lower() != _PICTURE:
        raise ValueError(f"--save_picture of one scan ends in {_PICTURE}, got {picture}")
    if image.suffix.lower() == NPZ:
        _check_npz(options, asked)
        return ScanJob(image, output, None)
    suffix_of(output)
    _keep_prompts(options.prompts, asked, [output])
    return ScanJob(image, output, objects_for(asked, image) if asked else None)


def _plan_many(options: Namespace, asked: PromptTable | None) -> Batch:
    """Return the jobs of a folder.

    Raises:
        ValueError: If scans, output and prompts do not go together.
    """
    scans, picture = list_scans(options.image), options.save_picture
    if picture is not None and picture.suffix.lower() == _PICTURE:
        raise ValueError(f"--save_picture of many scans is a folder, got {picture}")
    if asked is not None and "" in asked and not options.prompts:
        raise ValueError("many scans get their prompts from a file: --prompts, or --automatic")
    batch = plan_batch(scans, asked or None, options.output, suffix=options.suffix or ".nii.gz")
    _keep_prompts(options.prompts, asked, [job.output for job in batch.jobs.values()])
    return batch


def _check_npz(options: Namespace, asked: PromptTable | None) -> None:
    if options.output.suffix.lower() != NPZ:
        raise ValueError(f"the result of an {NPZ} case ends in {NPZ}, got {options.output}")
    if asked != {}:
        raise ValueError(f"an {NPZ} case brings its own prompts, got others for {options.image}")
    if options.save_picture is not None or options.separate:
        raise ValueError(f"--save_picture and --separate are not for {NPZ} cases")


def _keep_prompts(prompts: Path | None, asked: PromptTable | None, outputs: Sequence[Path]) -> None:
    """Refuse to replace the prompts of many scans by those of one."""
    if prompts is None or asked is None or "" in asked:
        return
    for output in outputs:
        if output.suffix.lower() != NPZ and sidecar_of(output).resolve() == prompts.resolve():
            raise ValueError(f"{prompts} would be replaced by what is said of {output}; rename one")


def _load(options: Namespace, asked: PromptTable | None, jobs: Iterable[ScanJob]) -> Runner:
    """Load the network.

    Args:
        options: The command line.
        asked: What is asked for; nothing, if it is empty.
        jobs: What is to be done.

    Raises:
        ValueError: If the network needs prompts and there are none, or the other way round.
    """
    network = load_network(
        options.checkpoint,
        name=options.model,
        spacing=options.spacing,
        intensity=options.intensity,
        device=options.device,
        image_size=options.crop_size,
        base=options.base,
        axis=options.axis,
        detail=options.detail,
        style=options.feeding,
    )
    are_npz = {job.image.suffix.lower() == NPZ for job in jobs}
    if network.is_promptable:
        _require_prompts(options, asked, needed=are_npz != {True})
        if options.automatic and network.is_of_slices:
            raise ValueError(f"--automatic needs a network of volumes, got {network.name}")
    elif asked != {} or True in are_npz:
        network.predictor(max_windows=options.max_windows)  # tells that it takes none
    return Runner(network, options)


def _require_prompts(options: Namespace, asked: PromptTable | None, *, needed: bool) -> None:
    """Refuse to let a promptable network segment what nothing points at."""
    if needed and asked == {}:
        missing = "segment needs a prompt: --point, --box, --mask or --prompts"
        if options.image.is_dir():
            missing = "many scans need a file of prompts: --prompts FILE"
        raise ValueError(f"{missing}; --automatic looks for all objects without one")
    if options.smooth is not None:
        raise ValueError("--smooth is for networks without prompts, the checkpoint's needs some")
    if options.mirror:
        raise ValueError("--mirror is for networks without prompts, the checkpoint's needs some")
    if options.window_overlap is not None and not options.automatic:
        raise ValueError("--window_overlap is for --automatic and for networks without prompts")
