"""What a plan has to do: each method's network on each data set, and what of it is finished."""

import hashlib
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from neurosam3d.checkpoint_io import Content, read_content
from neurosam3d.commands.compare_plan import Plan, PlannedMethod
from neurosam3d.commands.evaluate import load_asked, make_evaluator
from neurosam3d.commands.evaluation_protocol import describe_data, describe_protocol
from neurosam3d.commands.network import Network
from neurosam3d.data.prepare.progress import console
from neurosam3d.evaluation.automatic_evaluation import NAME as AUTOMATIC
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.method_table import Size
from neurosam3d.evaluation.result_files import plain_numbers, read_results
from neurosam3d.evaluation.results import CaseResult, Results
from neurosam3d.evaluation.run import Evaluator, journal_of, run_evaluation
from neurosam3d.evaluation.session_files import safe_name


@dataclass(frozen=True, eq=False)
class Task:
    """One network to be judged on one data set.

    Args:
        method: The method's name.
        dataset: The data set.
        scans: Its scans.
        options: As `neurosam3d evaluate` takes them; they name the checkpoint and the result.
        protocol: Its `name` and everything else that results depend on.
        size: How large the network is.
    """

    method: str
    dataset: str
    scans: Sequence[Scan]
    options: Namespace
    protocol: Mapping[str, Any]
    size: Size

    @property
    def name(self) -> str:
        """The protocol's name."""
        return str(self.protocol["name"])

    @cached_property
    def said(self) -> dict[str, Any]:
        """What the finished result must say: the protocol, and which scans were judged."""
        files = [[str(s.image), s.channel, *(str(f.path) for f in s.labels)] for s in self.scans]
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        return {**plain_numbers(self.protocol), "scans_sha256": digest}

    def finished(self) -> Results | None:
        """Return the results if they are there, complete and of this very protocol."""
        path: Path = self.options.save_name
        if not path.is_file() or journal_of(path).exists():
            return None
        results = read_results(path)
        is_same = all(results.protocol.get(key) == value for key, value in self.said.items())
        return results if is_same and not results.protocol.get("unreadable") else None

    def load(self) -> Network:
        """Load the network."""
        return load_network_of(self.options)

    def judge(self, network: Network, *, restart: bool) -> Results:
        """Judge the network, or go on with judging it, and write the results."""
        _, paths = run_evaluation(
            self.scans,
            self.evaluator(network),
            save_name=self.options.save_name,
            protocol=self.protocol,
            also={
                "checkpoint": str(network.checkpoint),
                "scans_sha256": self.said["scans_sha256"],
            },
            console=console,
            restart=restart,
        )
        return read_results(paths[0])

    def evaluator(self, network: Network) -> Evaluator:
        """Return what judges a scan."""
        return make_evaluator(self.name, network, self.options)

    def tile_path(self, case: CaseResult) -> Path:
        """Return where the picture's part for an object is kept; another protocol has another."""
        told = json.dumps([self.said, *case.object]).encode()
        name = f"{safe_name('_'.join(case.object))}-{hashlib.sha256(told).hexdigest()[:12]}.npz"
        return Path(self.options.save_name).parent / "pictures" / name


def plan_tasks(
    method: PlannedMethod, plan: Plan, scans: Mapping[str, Sequence[Scan]]
) -> list[Task]:
    """Load the networks of a method, one after the other, and tell what each is to be judged on.

    Args:
        method: The method; one whose results are there already has no task.
        plan: The plan.
        scans: The scans of every data set.

    Raises:
        ValueError: If a checkpoint does not load or an option is unfit.
    """
    tasks = []
    by_checkpoint: dict[Path, list[str]] = {}
    for dataset in () if method.has_results else scans:
        if (checkpoint := method.file_for(dataset)) is not None:
            by_checkpoint.setdefault(checkpoint, []).append(dataset)
    for datasets in by_checkpoint.values():
        network = load_network_of(plan.options_for(method, datasets[0]))
        size = _measure(network)
        for dataset in datasets:
            options = plan.options_for(method, dataset)
            name = _name_protocol(network, method, options)
            make_evaluator(name, network, options)  # refuses what the network cannot do
            protocol = describe_protocol(name, network, options=options)
            protocol |= describe_data(options)
            tasks.append(Task(method.name, dataset, scans[dataset], options, protocol, size))
    return tasks


def load_network_of(options: Namespace) -> Network:
    """Load the network that options name.

    Raises:
        ValueError: If they name none or it does not load.
    """
    network = load_asked(options)
    if network is None:
        raise ValueError("a method needs a network to judge, got no checkpoint")
    return network


def _name_protocol(network: Network, method: PlannedMethod, options: Namespace) -> str:
    """Return a method's protocol: its own, else the plan's if its network takes prompts."""
    if network.is_promptable or "protocol" in method.settings:
        return str(options.protocol[0])
    return AUTOMATIC


def _measure(network: Network) -> Size:
    parameters = sum(parameter.numel() for parameter in network.model.parameters())
    return Size(parameters, count_trained(read_content(network.checkpoint)))


def count_trained(content: Content) -> int | None:
    """Count the parameters that a Lightning checkpoint's optimizer has moved.

    The optimizer keeps a running mean for each parameter that it trains and for no other.

    Returns:
        Their number; None if the checkpoint holds no such mean.
    """
    states = content.get("optimizer_states")
    if not isinstance(states, list):
        return None
    kept = (own for state in states for own in state.get("state", {}).values())
    means = (own.get("exp_avg", own.get("momentum_buffer")) for own in kept)
    return sum(mean.numel() for mean in means if isinstance(mean, torch.Tensor)) or None
