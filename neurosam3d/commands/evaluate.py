"""`neurosam3d evaluate`: judge a network click by click on whole scans.

`validation.py` and `test.py` at the top of a checkout are the same command.
"""

import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from neurosam3d.commands.evaluate_options import parse_options, parse_spacing
from neurosam3d.commands.evaluation_protocol import (
    describe_data,
    describe_masks,
    describe_protocol,
    make_slice_protocol,
    scoring_of,
)
from neurosam3d.commands.evaluation_scans import list_scans
from neurosam3d.commands.network import Network, load_network
from neurosam3d.commands.verb import plain_console
from neurosam3d.data.prepare.progress import ConsoleHandler, console
from neurosam3d.evaluation.adapter3d_protocol import NAME as ADAPTER3D
from neurosam3d.evaluation.adapter3d_protocol import Adapter3DProtocol
from neurosam3d.evaluation.automatic_evaluation import NAME as AUTOMATIC
from neurosam3d.evaluation.automatic_evaluation import AutomaticEvaluator
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.challenge_evaluation import NAME as CVPR25
from neurosam3d.evaluation.challenge_evaluation import ChallengeEvaluator, list_npz
from neurosam3d.evaluation.cvpr25 import NUM_CLICKS
from neurosam3d.evaluation.groups import read_groups
from neurosam3d.evaluation.legacy_figures import legacy_figures, published_table
from neurosam3d.evaluation.protocol import ClickProtocol, InteractiveProtocol
from neurosam3d.evaluation.report import results_table
from neurosam3d.evaluation.run import Evaluator, Outcome, name_result, run_evaluation, take_part
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.session_files import SessionFiles
from neurosam3d.evaluation.slice_protocols import BOX_3D, BOX_PER_SLICE
from neurosam3d.evaluation.slice_protocols import NAMES as SLICES_ONLY
from neurosam3d.files import clear_abandoned
from neurosam3d.inference.cvpr25 import segment_cvpr25
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.slice_segmenter import Unprompted

logger = logging.getLogger(__name__)

MOST_SHOWN = 10  # objects that were left out, on the terminal
# What a protocol leaves no choice of.
FIXED: dict[str, dict[str, object]] = {
    CVPR25: {
        "num_clicks": NUM_CLICKS,
        "repeats": 1,
        "point_method": "default",
        "threshold": 0.0,
        "classes": [],
        "datasets": [],
        "skip_existing_pred": False,
        "legacy": None,
    },
    AUTOMATIC: {"repeats": 1, "skip_existing_pred": False},
    **{name: {"repeats": 1} for name in (BOX_PER_SLICE, BOX_3D)},
}


def main(words: Sequence[str]) -> int:
    """Carry out `evaluate ...` and return the exit code.

    Args:
        words: The command line, the verb first.

    Raises:
        ValueError: If a file, a folder or a combination of options is unfit.
        argparse.ArgumentError: If an argument is.
    """
    options = parse_options(words[1:])
    names = list(dict.fromkeys(options.protocol))
    with shown_log():
        scans = list_asked(options, names)
        part = take_part(scans, index=options.split_idx, number=options.split_num)
        network = load_asked(options)
        return max([_evaluate(name, part, network, options, len(names) > 1) for name in names])


def list_asked(options: Namespace, names: Sequence[str]) -> list[Scan]:
    """List the scans that the options ask for, to be judged by the protocols of these names.

    Raises:
        ValueError: If there is none, or a protocol has no place for an option.
    """
    if CVPR25 in names and len(names) > 1:
        raise ValueError(f"{CVPR25} has data of its own and stands alone, got {', '.join(names)}")
    for name in names:
        _check_fixed(options, name)
    if CVPR25 in names:
        return list_npz(options.test_data_path, truths=options.labels, set_name=options.data_type)
    return list_scans(
        options.test_data_path,
        labels=options.labels,
        set_name=options.data_type,
        datasets=options.datasets,
        channel=options.channel,
    )


def _check_fixed(options: Namespace, protocol: str) -> None:
    """Refuse what a protocol has no place for."""
    for name, only in FIXED.get(protocol, {}).items():
        if (given := getattr(options, name)) != only:
            raise ValueError(f"{protocol} leaves no choice of {name}, got {given}")


def load_asked(options: Namespace) -> Network | None:
    """Load the network; to score masks that are there already, none is needed.

    Raises:
        ValueError: If it is missing or does not load.
    """
    if options.checkpoint_path is None:
        if not options.skip_existing_pred:
            raise ValueError("evaluate needs a network to judge: -cp, --checkpoint_path")
        return None
    network = load_network(
        options.checkpoint_path,
        name=options.model_type,
        spacing=parse_spacing(options.spacing),
        intensity=options.intensity,
        device=options.device,
        image_size=options.crop_size,
        classes=options.classes,
        base=options.base,
        axis=options.axis,
        detail=options.detail,
        style=options.feeding,
    )
    logger.info("%s", network)
    return network


def _evaluate(
    name: str,
    scans: Sequence[Scan],
    network: Network | None,
    options: Namespace,
    several: bool,
) -> int:
    """Judge scans by one protocol, write and show the results, and return the exit code."""
    endings = [name] if several else []
    also = {} if network is None else {"checkpoint": str(network.checkpoint)}
    if options.split_num > 1:
        endings.append(f"s{options.split_num}i{options.split_idx}")
        also |= {"split_idx": options.split_idx, "split_num": options.split_num}
    protocol = describe_protocol(name, network, options=options)
    outcome, paths = run_evaluation(
        scans,
        make_evaluator(name, network, options, several),
        save_name=name_result(options.save_name, *endings),
        protocol={**protocol, **describe_data(options)},
        also=also,
        groups=None if options.groups is None else read_groups(options.groups),
        console=console,
        restart=options.restart,
    )
    _show(outcome, paths, legacy=options.legacy)
    if scans and not outcome.results:
        logger.error("no object of %d scans was judged", len(scans))
    return 1 if outcome.unreadable or (scans and not outcome.results) else 0


def _show(outcome: Outcome, paths: Sequence[Path], *, legacy: str | None) -> None:
    """Print the tables, what was left out, and where the results are."""
    shown = plain_console()
    shown.print(results_table(outcome.results))
    if legacy is not None:
        figures = legacy_figures(outcome.results, left_out=outcome.left_out, name=legacy)
        shown.print(published_table(figures).terminal())
    for entry in outcome.left_out[:MOST_SHOWN]:
        place = f"{entry['case']} {entry['class_name']}"
        shown.print(f"left out: {place}: {entry['reason']}", soft_wrap=True)
    if len(outcome.left_out) > MOST_SHOWN:
        shown.print(f"left out: {len(outcome.left_out) - MOST_SHOWN} more, all listed in the JSON")
    shown.print(f"results: {', '.join(map(str, paths))}", soft_wrap=True)


def make_evaluator(
    name: str, network: Network | None, options: Namespace, several: bool = False
) -> Evaluator:
    """Return what judges a scan.

    Args:
        name: The protocol's name.
        network: What is judged; None for masks that are there already.
        options: The command line.
        several: Whether it is one of several protocols, whose masks have folders of their own.
    """

    @cache
    def load_predictor() -> ScanPredictor:
        if network is None:
            raise ValueError("masks that are missing need a network: -cp, --checkpoint_path")
        if name in SLICES_ONLY and not network.is_of_slices:
            raise ValueError(f"{name} needs a network of slices, got {network.name}")
        return network.predictor(max_windows=options.max_windows)

    folder = options.vis_path
    if folder is not None and several:
        folder = folder / name
    if folder is not None:
        clear_abandoned(folder)
    if name == CVPR25:
        return ChallengeEvaluator(lambda: partial(segment_cvpr25, load_predictor()), folder)
    scoring = scoring_of(name, options)
    if name == AUTOMATIC:
        assert network is not None  # there is nothing to reuse
        segmenter = _segmenter_of(network, options)
        return AutomaticEvaluator(lambda: segmenter, scoring, folder)
    if network is not None:
        load_predictor()  # tells a network without prompts before a scan is read
    files = None
    if folder is not None:
        files = SessionFiles(folder, describe_masks(name, network, options=options))
    return ScanEvaluator(
        load_predictor,
        _click_protocol(name, options, network),
        repeats=options.repeats,
        scoring=scoring,
        files=files,
        reuse=options.skip_existing_pred,
    )


def _segmenter_of(network: Network, options: Namespace) -> Unprompted:
    """Return what segments scans by itself; what its kind of network has no use for stays aside, as
    a plan says it for all of its methods.
    """
    if network.is_of_slices:
        return network.segmenter(smooth=options.smooth)
    return network.segmenter(overlap=options.overlap, mirror=options.mirror)


def _click_protocol(name: str, options: Namespace, network: Network | None) -> ClickProtocol:
    if name == ADAPTER3D:
        return Adapter3DProtocol(options.num_prompts, options.seed)
    if name in SLICES_ONLY:
        axis = (options.axis or "axial") if network is None else network.axis
        return make_slice_protocol(name, options, axis)
    return InteractiveProtocol(name, options.num_clicks, options.point_method, options.seed)


@contextmanager
def shown_log() -> Iterator[None]:
    """Show this package's log lines above the progress bar."""
    package, handler = logging.getLogger("neurosam3d"), ConsoleHandler()
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
