"""`neurosam3d evaluate`: judge a network click by click on whole scans.

`validation.py` and `test.py` at the top of a checkout are the same command.
"""

import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

from neurosam3d.commands.evaluate_options import parse_options, parse_spacing
from neurosam3d.commands.evaluation_protocol import (
    describe_data,
    describe_masks,
    describe_protocol,
)
from neurosam3d.commands.evaluation_scans import list_scans
from neurosam3d.commands.network import Network, load_network
from neurosam3d.commands.verb import plain_console
from neurosam3d.data.prepare.progress import ConsoleHandler, console
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.challenge_evaluation import NAME as CVPR25
from neurosam3d.evaluation.challenge_evaluation import ChallengeEvaluator, list_npz
from neurosam3d.evaluation.cvpr25 import NUM_CLICKS
from neurosam3d.evaluation.groups import read_groups
from neurosam3d.evaluation.protocol import InteractiveProtocol
from neurosam3d.evaluation.report import results_table
from neurosam3d.evaluation.run import Evaluator, name_result, run_evaluation, take_part
from neurosam3d.evaluation.scan_evaluation import ScanEvaluator
from neurosam3d.evaluation.session_files import SessionFiles
from neurosam3d.inference import Predictor
from neurosam3d.inference.cvpr25 import segment_cvpr25

logger = logging.getLogger(__name__)


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
    with _shown_log():
        scans = _list(options, names)
        part = take_part(scans, index=options.split_idx, number=options.split_num)
        network = _load(options)
        return max([_evaluate(name, part, network, options, len(names) > 1) for name in names])


def _list(options: Namespace, names: Sequence[str]) -> list[Scan]:
    """List the scans that the options ask for."""
    if CVPR25 in names:
        _check_challenge(options, names)
        return list_npz(options.test_data_path, truths=options.labels, set_name=options.data_type)
    return list_scans(
        options.test_data_path,
        labels=options.labels,
        set_name=options.data_type,
        datasets=options.datasets,
        channel=options.channel,
    )


def _check_challenge(options: Namespace, names: Sequence[str]) -> None:
    """Refuse what the challenge's protocol has no place for."""
    if len(names) > 1:
        raise ValueError(f"{CVPR25} has data of its own and stands alone, got {', '.join(names)}")
    for name, only in (
        ("num_clicks", NUM_CLICKS),
        ("repeats", 1),
        ("point_method", "default"),
        ("threshold", 0.0),
        ("datasets", []),
        ("skip_existing_pred", False),
    ):
        if (given := getattr(options, name)) != only:
            raise ValueError(f"{CVPR25} leaves no choice of {name}, got {given}")


def _load(options: Namespace) -> Network | None:
    """Load the network; to score masks that are there already, none is needed."""
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
    protocol = describe_protocol(name, network, options)
    outcome, paths = run_evaluation(
        scans,
        _evaluator(name, network, options, several),
        save_name=name_result(options.save_name, *endings),
        protocol={**protocol, **describe_data(options)},
        also=also,
        groups=None if options.groups is None else read_groups(options.groups),
        console=console,
        restart=options.restart,
    )
    shown = plain_console()
    shown.print(results_table(outcome.results))
    shown.print(f"results: {', '.join(map(str, paths))}", soft_wrap=True)
    for entry in outcome.left_out:
        shown.print(
            f"left out: {entry['case']} {entry['class_name']}: {entry['reason']}", soft_wrap=True
        )
    if not outcome.results:
        logger.error("no object of %d scans was judged", len(scans))
    return 0 if outcome.results and not outcome.unreadable else 1


def _evaluator(name: str, network: Network | None, options: Namespace, several: bool) -> Evaluator:
    """Return what judges a scan."""

    @cache
    def load_predictor() -> Predictor:
        if network is None:
            raise ValueError("masks that are missing need a network: -cp, --checkpoint_path")
        return network.predictor(max_windows=options.max_windows)

    folder = options.vis_path
    if name == CVPR25:
        return ChallengeEvaluator(lambda: partial(segment_cvpr25, load_predictor()), folder)
    files = None
    if folder is not None:
        made_by = describe_masks(name, network, options)
        files = SessionFiles(folder / name if several else folder, made_by)
    return ScanEvaluator(
        load_predictor,
        InteractiveProtocol(name, options.num_clicks, options.point_method, options.seed),
        repeats=options.repeats,
        tolerance_mm=options.tolerance_mm,
        threshold_mm3=options.threshold,
        files=files,
        reuse=options.skip_existing_pred,
    )


@contextmanager
def _shown_log() -> Iterator[None]:
    """Show this package's log lines above the progress bar."""
    package, handler = logging.getLogger("neurosam3d"), ConsoleHandler()
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
