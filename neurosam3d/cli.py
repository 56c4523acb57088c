"""The command line: `fit`, `validate`, `test` and `predict` over flat YAML recipes.

A run is its recipe: the blocks `data`, `model` and `trainer` hold the arguments of the DataModule,
the LightningModule and the Trainer by name, and `task` says which pair of classes is meant. Flags
such as `--model.lr` override every recipe, a later recipe overrides an earlier one. A value that
two places need is written once: linked here, or interpolated in the recipe (`${model.work_dir}`).
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from neurosam3d.checks import check_same_network, check_set_names, go_offline_without_account
from neurosam3d.claims import claimed
from neurosam3d.commands.trained_network import (
    make_predictor,
    make_segmenter,
    make_slice_predictor,
    make_slice_segmenter,
    plan_prompted,
    plan_unprompted,
)
from neurosam3d.data.datamodule import NeuroSamDataModule
from neurosam3d.data.patch_datamodule import PatchDataModule
from neurosam3d.data.prepared_datamodule import PreparedDataModule
from neurosam3d.data.slice_datamodule import SliceDataModule
from neurosam3d.files import clear_abandoned, naming, replacing
from neurosam3d.inference.scan_files import Origin
from neurosam3d.mistakes import told_in_one_sentence
from neurosam3d.recipes import VERBS, arrange, read_task
from neurosam3d.training.checkpoint_files import WholeCheckpoints
from neurosam3d.training.finite_loss import Action, FiniteLoss
from neurosam3d.training.network_run import NetworkRun
from neurosam3d.training.out_of_memory import explained
from neurosam3d.training.promptable import NeuroSamModel
from neurosam3d.training.sharding import prepare_sharded_run
from neurosam3d.training.slices import SliceModel
from neurosam3d.training.slurm import SlurmRequeue, check_allocation
from neurosam3d.training.supervised import SupervisedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is trained.

    Args:
        module: The class behind `model`.
        data: The class behind `data`.
        linked: Arguments of both, taken from `data`: the network must know how it was fed.
        make_predictor: Makes what answers prompts on whole scans, see `NetworkRun`.
        make_segmenter: Likewise what segments them by itself.
    """

    module: type[NetworkRun]
    data: type[PreparedDataModule]
    linked: tuple[str, ...]
    make_predictor: Callable[..., Any] = make_predictor
    make_segmenter: Callable[..., Any] = make_segmenter


TASKS = {
    "promptable": Task(
        NeuroSamModel, NeuroSamDataModule, ("img_size", "intensity", "spacing", "seed")
    ),
    "supervised": Task(
        SupervisedModel,
        PatchDataModule,
        ("crop_size", "classes", "intensity", "spacing", "seed"),
    ),
    "slices": Task(
        SliceModel,
        SliceDataModule,
        ("img_size", "classes", "intensity", "spacing", "axis", "feeding", "detail", "seed"),
        make_slice_predictor,
        make_slice_segmenter,
    ),
}

# What the verbs do that write into a run's folder.
WRITES = {"fit": "training", "test": "testing", "predict": "prediction"}

CKPT_PATH_HELP = (
    "A checkpoint that fit wrote: fit goes on from its step, the other verbs take its weights. "
    "last: the newest last*.ckpt of the run's folder. Other weights belong to model.checkpoint."
)


class KeepConfigs(SaveConfigCallback):
    """Saves the resolved recipe beside the checkpoints and keeps those of earlier runs.

    `config.yaml` is always the latest run's; a rerun with other values in the same folder moves
    the former file to `config_1.yaml`, `config_2.yaml` and so on.
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the recipe once training starts; Lightning calls this on the first rank only."""
        if stage != "fit":
            return
        checkpoints = trainer.checkpoint_callback
        folder = Path(getattr(checkpoints, "dirpath", None) or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        latest = folder / "config.yaml"
        text = self.parser.dump(self.config, skip_unset=False)
        if latest.is_file():
            if latest.read_text(encoding="utf-8") == text:
                return
            number = 1
            while (kept := folder / f"config_{number}.yaml").exists():
                number += 1
            latest.rename(kept)
        with replacing(latest) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


class NeuroSamCLI(LightningCLI):
    """LightningCLI with this package's links, checks and log lines.

    Args:
        task: The key of `TASKS` that picks the LightningModule and the DataModule.
        args: Command line arranged by `neurosam3d.recipes.arrange`.
        possible_datasets: Set names that recipes may use; nothing switches the check off.
    """

    def __init__(
        self, task: str, *, args: list[str], possible_datasets: Iterable[str] | None = None
    ) -> None:
        self.possible_datasets = None if possible_datasets is None else sorted(possible_datasets)
        self.task = TASKS[task]
        # Mistakes shall reach `main` as exceptions: argparse's own exit prints the whole usage.
        verbs = {verb: {"exit_on_error": False} for verb in VERBS}
        super().__init__(
            self.task.module,
            self.task.data,
            save_config_callback=KeepConfigs,
            save_config_kwargs={"save_to_log_dir": False},
            # The DataModule's sampler already shares the samples out among the processes.
            trainer_defaults={
                "use_distributed_sampler": False,
                "callbacks": [SlurmRequeue()] if SLURMEnvironment.detect() else [],
            },
            seed_everything_default=2024,
            parser_kwargs={
                "description": "Train, validate, test and predict with networks.",
                "parser_mode": "omegaconf+",
                "exit_on_error": False,
                **verbs,
            },
            args=args,
            auto_configure_optimizers=False,
            # Checkpoints hold the LightningModule's plain arguments, readable without this class.
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments that belong to no class, and link those that two classes share."""
        parser.add_argument(
            "--task",
            type=Literal[tuple(TASKS)],
            default="promptable",
            help="What is trained; picks the classes behind `model` and `data`.",
        )
        parser.add_argument(
            "--matmul_precision",
            type=Literal["highest", "high", "medium"],
            default="medium",
            help="Precision of float32 matrix products, as torch.set_float32_matmul_precision "
            "takes it: highest is plain float32, high TensorFloat-32, medium bfloat16 where the "
            "hardware gains by it.",
        )
        parser.add_argument(
            "--debug",
            action="store_true",
            help="Show the full traceback of a mistake (as NEUROSAM3D_DEBUG=1 does).",
        )
        parser.add_argument(
            "--on_nonfinite_loss",
            type=Action,
            default="stop",
            help="What fit does about a loss that is nan or infinite: stop, with the cases of the "
            "batch named and the earlier checkpoints kept, or skip the optimizer step.",
        )
        for name in self.task.linked:
            parser.link_arguments(f"data.{name}", f"model.{name}")

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **options: Any
    ) -> LightningArgumentParser:
        """Adapt what the Trainer's own methods take as arguments."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **options)
        if subcommand == "test":
            parser.set_defaults(verbose=False)  # the model shows its table
        if subcommand == "predict":
            parser.set_defaults(return_predictions=False)  # they go to disk batch by batch
        for action in parser._actions:
            if action.dest == "ckpt_path":
                action.help = CKPT_PATH_HELP
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arranged command line; `sys.argv` holds the user's order and is not read."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the recipe alone: Lightning would put a checkpoint's hyper-parameters over it."""

    def _set_seed(self) -> None:
        """Seed the process; a seed that is none is a mistake of the recipe."""
        try:
            super()._set_seed()
        except ValueError as error:
            raise MisconfigurationException(f"seed_everything must be a seed: {error}") from error

    def before_instantiate_classes(self) -> None:
        """Apply what belongs to the process, and stop at unknown sets before anything is built."""
        settings = self.config[self.config.subcommand]
        torch.set_float32_matmul_precision(settings.matmul_precision)
        if self.possible_datasets is not None:
            check_set_names(
                [*settings.data.training_sets, *settings.data.validation_sets],
                self.possible_datasets,
                data_dir=Path(settings.data.data_dir),
            )
        if "WandbLogger" in str(settings.trainer.logger):
            go_offline_without_account()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer; what it refuses with an error of Python's own is a mistake, too."""
        self.trainer_defaults["callbacks"].append(
            FiniteLoss(self.config_init[self.subcommand].on_nonfinite_loss)
        )
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError) as error:
            raise MisconfigurationException(
                f"the trainer refuses its arguments: {error}"
            ) from error
        prepare_sharded_run(trainer, self.model, str(self.subcommand))
        if SLURMEnvironment.detect():
            check_allocation(trainer.num_devices, trainer.num_nodes)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # the recipe names no other
            trainer.strategy.checkpoint_io = WholeCheckpoints()
        return trainer

    def after_instantiate_classes(self) -> None:
        """Turn the checkpoint's name into a file and check that it fits the recipe."""
        arguments = self.config_init[self.subcommand]
        if arguments.ckpt_path == "last":
            arguments.ckpt_path = self._find_last_checkpoint()
        if arguments.ckpt_path is not None:
            check_same_network(Path(arguments.ckpt_path), self.model.hparams)
        self._hand_in_inference(arguments.ckpt_path)

    def _run_subcommand(self, subcommand: str) -> None:
        """Let the verb run, and no other process do the same in the run's folder."""
        folder = self.model.run_dir
        work = f"{WRITES[subcommand]} in {folder}" if subcommand in WRITES else ""
        is_first = getattr(rank_zero_only, "rank", 0) == 0
        with ExitStack() as stack:
            if subcommand == "fit":
                stack.enter_context(explained(self.model, batch_size=self.datamodule.batch_size))
            stack.enter_context(naming(f"{folder}, or /dev/shm of its workers"))
            if work and is_first:
                advice = "wait for its end, or give another --model.task_name"
                lock = folder / f".{subcommand}.lock"
                stack.enter_context(claimed(lock, work=work, advice=advice))
                clear_abandoned(folder)
            super()._run_subcommand(subcommand)

    def _hand_in_inference(self, ckpt_path: str | None) -> None:
        """Give the module what segments whole scans, and those of a folder that predict is for."""
        model, data = self.model, self.datamodule
        model.make_predictor = self.task.make_predictor
        model.make_segmenter = self.task.make_segmenter
        if self.subcommand == "predict" and data.predict_images is not None:
            said = ("spacing", "intensity", "axis", "feeding", "detail")
            known = {name: model.hparams[name] for name in said if name in model.hparams}
            checkpoint = str(ckpt_path or model.hparams["checkpoint"])
            origin = Origin(model.hparams["model_type"], {"checkpoint": checkpoint, **known})
            images, output = Path(data.predict_images), model.run_dir / "predict"
            if not model.takes_prompts:
                scans = plan_unprompted(images, output, origin=origin)
            elif (prompts := getattr(data, "predict_prompts", None)) is not None:
                scans = plan_prompted(images, Path(prompts), output, origin=origin)
            else:
                raise ValueError(
                    f"data.predict_images needs a network without prompts, got {origin.network}; "
                    "neurosam3d segment takes prompts"
                )
            data.predict_names = list(scans.jobs)
            model.segment_scan = scans.segment

    def _find_last_checkpoint(self) -> str | None:
        """Return the newest last checkpoint of this run's folder; a first `fit` may have none.

        What Lightning saved when SLURM took the job away counts, too.
        """
        folder = Path(getattr(self.trainer.checkpoint_callback, "dirpath", None) or ".")
        taken_away = Path(self.trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")
        found = sorted(
            [*folder.glob("last*.ckpt"), *taken_away], key=lambda path: path.stat().st_mtime
        )
        if found:
            return str(found[-1])
        if self.subcommand != "fit":
            raise ValueError(f"--ckpt_path last needs a last.ckpt in {folder}, got none")
        logger.warning("no last.ckpt in %s yet: fit begins at the first step", folder)
        return None


def run(args: Sequence[str], *, possible_datasets: Iterable[str] | None = None) -> NeuroSamCLI:
    """Carry out one command line and return the finished LightningCLI.

    Args:
        args: The command line without the program's name.
        possible_datasets: Set names that recipes may use; nothing switches the check off.

    Raises:
        ValueError: If the verb, a recipe, the task or a set is unknown.
        argparse.ArgumentError: If an argument is unknown or has a value of the wrong type.
    """
    arranged, recipes = arrange(args)
    task = read_task(arranged, recipes)
    if task not in TASKS:
        raise ValueError(f"unknown task '{task}'; known: {', '.join(TASKS)}")
    # Interpolations name keys from the recipe's top, as `${model.work_dir}`.
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    return NeuroSamCLI(task, args=arranged, possible_datasets=possible_datasets)


def main(args: Sequence[str] | None = None, possible_datasets: Iterable[str] | None = None) -> None:
    """Run the command line; a user's mistake ends it with one sentence and exit code 2.

    Args:
        args: The command line without the program's name; nothing reads `sys.argv`.
        possible_datasets: Set names that recipes may use; nothing switches the check off.
    """
    words = sys.argv[1:] if args is None else list(args)
    _drop_noise()
    with told_in_one_sentence(words, refusals=(MisconfigurationException,)), _shown_log():
        run(words, possible_datasets=possible_datasets)


@contextmanager
def _shown_log() -> Iterator[None]:
    """Show this package's log lines on standard error, from the first rank only."""
    package, handler = logging.getLogger("neurosam3d"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    is_first = getattr(rank_zero_only, "rank", 0) == 0
    package.setLevel(logging.INFO if is_first else logging.ERROR)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def _drop_noise() -> None:
    """Drop advertising, and warnings that a user can do nothing about."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)
    # Lightning 2.6 asks PyTorch 2.13 for a name it has renamed.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # It holds the recipe, or an earlier run whose files all stay.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")
    # Predictions are written scan by scan; nobody asks for their numbers.
    warnings.filterwarnings("ignore", message="Couldn't infer the batch indices")
    # Nothing writes into what a part of a network returns.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary")


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
