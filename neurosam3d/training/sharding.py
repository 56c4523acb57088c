"""Networks too large for one device, trained by processes that each keep a part of every weight.

Weights, gradients and the optimizer's state are split over all processes, and a part of the network
is put together only while it computes: fully sharded data parallelism, ZeRO's third stage
(arXiv:1910.02054), by PyTorch's `fully_shard`. The result is that of plain data parallelism.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.strategies import (
    ModelParallelStrategy,
    ParallelStrategy,
    StrategyRegistry,
)
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

NAME = "sharded"

# `blocks.<index>` or, grouped, `blocks.<chunk>.<index>`
_BLOCK = re.compile(r"(?:^|.*\.)blocks\.\d+(?:\.\d+)?")


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy with all processes in one group and checkpoints in one file.

    `--trainer.strategy sharded` names it. Only `fit` splits: whole scans need another number of
    clicks in each process, and every process must take part whenever weights are put together.

    Args:
        process_group_backend: Library of the exchange; null for nccl on GPUs and gloo on the CPU.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )

    def setup_environment(self) -> None:
        """Count the processes, which only the trainer knows."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def _splits(self) -> bool:
        module = self.lightning_module
        return module is not None and module.trainer.state.fn == TrainerFn.FITTING

    def load_checkpoint(
        self, checkpoint_path: _PATH, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, and where weights are split, take them from it at once."""
        if self._splits:
            return super().load_checkpoint(checkpoint_path, weights_only)
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take the weights where that has not been done yet."""
        if not self._splits:
            ParallelStrategy.load_model_state_dict(self, checkpoint, strict)


if NAME not in StrategyRegistry:
    StrategyRegistry.register(NAME, ShardedStrategy, description="Weights split over all devices.")


def shard(parts: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Split the parameters of modules over the processes of a mesh, in place.

    Transformer blocks are put together one at a time. What lies outside of them is small and used
    again and again in a step, so it stays together from its first use to the backward pass.

    Args:
        parts: Modules that are called as such, not by a method of a module around them.
        mesh: With a dimension `data_parallel`.
    """
    group = mesh["data_parallel"]
    for part in parts:
        for block in _blocks(part):
            fully_shard(block, mesh=group)
        fully_shard(part, mesh=group, reshard_after_forward=False)


def prepare_sharded_run(trainer: pl.Trainer, pl_module: pl.LightningModule, verb: str) -> None:
    """Check that a run can be split over its devices, if that is asked for, and keep its
    checkpoints in one file, which all else here reads.

    Raises:
        ValueError: If the module does not know how, if the strategy would split single layers or is
            not made for the verb, or if averages of the weights or compiled kernels are asked for,
            which need them whole.
    """
    strategy: Any = trainer.strategy
    if not isinstance(strategy, ModelParallelStrategy):
        return
    if not is_overridden("configure_model", pl_module):
        raise ValueError(
            f"trainer.strategy {type(strategy).__name__} needs task promptable, got another"
        )
    if strategy._tensor_parallel_size != 1:
        raise ValueError(
            "ModelParallelStrategy needs tensor_parallel_size 1, got "
            f"{strategy._tensor_parallel_size}; --trainer.strategy {NAME} has it"
        )
    if verb != "fit" and not isinstance(strategy, ShardedStrategy):
        raise ValueError(
            f"ModelParallelStrategy is for fit, got {verb}; --trainer.strategy {NAME} is for both"
        )
    if any(isinstance(callback, WeightAveraging) for callback in _callbacks(trainer)):
        raise ValueError("averages of the weights need them whole, got a strategy that splits them")
    if pl_module.hparams.get("compile"):
        raise ValueError(f"model.compile needs whole weights, got {type(strategy).__name__}")
    strategy._save_distributed_checkpoint = False


def _callbacks(trainer: pl.Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined]


def _blocks(part: nn.Module) -> Iterator[nn.Module]:
    for name, module in part.named_modules():
        if _BLOCK.fullmatch(name) and not isinstance(module, nn.ModuleDict):
            yield module
