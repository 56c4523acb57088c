"""Training by processes that each keep a part of every weight is training by ones that keep all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from neurosam3d.models import Sam3D, build_model
from neurosam3d.training import NeuroSamModel, SupervisedModel
from neurosam3d.training.ema import WeightEma
from neurosam3d.training.sharding import ShardedStrategy, prepare_sharded_run, shard

SIDE = 32


def network() -> Sam3D:
    torch.manual_seed(4)
    model = build_model("vit_tiny", image_size=SIDE)
    assert isinstance(model, Sam3D)
    model.freeze_unreachable(boxes=False, mask_always_given=True, multimask=False, iou=False)
    return model


def step(model: Sam3D, rank: int) -> None:
    """Answer two clicks and go backward; every process has another image."""
    image = torch.randn(1, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(rank))
    embedding = model.image_encoder(image)
    points = (torch.tensor([[[20, 9, 14]]]), torch.ones(1, 1, dtype=torch.long))
    low_res = torch.zeros(1, 1, *(model.mask_size,) * 3)
    answers = []
    for _ in range(2):
        low_res, _ = model.decode(embedding, points=points, masks=low_res)
        answers.append(low_res.square().mean())
    torch.stack(answers).sum().backward()


def compare_in_process(rank: int, file: str) -> None:
    """Run a step with whole and with split weights and keep what came out."""
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    whole, split = network(), network()
    step(whole, rank)
    for parameter in whole.parameters():
        if parameter.grad is not None:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= 2
    shard(split.children(), init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "x")))
    step(split, rank)
    kept = {"share": _share(split, whole), "largest": _largest_difference(split, whole)}
    torch.save(kept, f"{file}.{rank}")
    distributed.destroy_process_group()


def _share(split: nn.Module, whole: nn.Module) -> float:
    """Return the share of the numbers of all weights that this process has."""
    local = [p.to_local() for p in split.parameters() if isinstance(p, DTensor)]
    return sum(map(Tensor.numel, local)) / sum(map(Tensor.numel, whole.parameters()))


def _largest_difference(split: nn.Module, whole: nn.Module) -> float:
    differences, expected = [], dict(whole.named_parameters())
    for name, parameter in split.named_parameters():
        gradient: Any = parameter.grad
        assert (gradient is None) == (expected[name].grad is None), name
        if gradient is not None:
            differences.append((gradient.full_tensor() - expected[name].grad).abs().max().item())
    assert len(differences) > 50
    return max(differences)


@pytest.mark.slow
def test_split_weights_have_the_gradients_of_whole_ones(tmp_path: Path) -> None:
    file = tmp_path / "meeting"
    multiprocessing.spawn(compare_in_process, (str(file),), nprocs=2)
    for rank in range(2):
        kept = torch.load(f"{file}.{rank}", weights_only=True)
        assert kept["largest"] < 1e-6
        assert 0.49 < kept["share"] < 0.51


def test_other_runs_keep_their_weights_whole(
    make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    module = NeuroSamModel("vit_tiny", SIDE, work_dir=str(tmp_path))
    trainer = make_trainer()
    prepare_sharded_run(trainer, module, "fit")
    module.configure_model()
    assert not any(isinstance(p, DTensor) for p in module.parameters())


@pytest.mark.parametrize(
    ("strategy", "verb", "more", "sentence"),
    [
        (ModelParallelStrategy(2, 2), "fit", "", "tensor_parallel_size 1, got 2"),
        (ModelParallelStrategy(2, 1), "test", "", "is for fit, got test"),
        (ShardedStrategy(), "fit", "average", "averages of the weights need them whole"),
        (ShardedStrategy(), "fit", "compile", "compile needs whole weights, got ShardedStrategy"),
    ],
)
def test_what_cannot_be_split_is_refused(
    strategy: Any,
    verb: str,
    more: str,
    sentence: str,
    make_trainer: Callable[..., pl.Trainer],
    tmp_path: Path,
) -> None:
    module = NeuroSamModel("vit_tiny", SIDE, work_dir=str(tmp_path), compile=more == "compile")
    callbacks = [WeightEma()] if more == "average" else []
    trainer = make_trainer(strategy=strategy, callbacks=callbacks)
    with pytest.raises(ValueError, match=sentence):
        prepare_sharded_run(trainer, module, verb)


def test_checkpoints_stay_one_file(make_trainer: Callable[..., pl.Trainer], tmp_path: Path) -> None:
    module = NeuroSamModel("vit_tiny", SIDE, work_dir=str(tmp_path))
    trainer = make_trainer(strategy=ModelParallelStrategy(2, 1))
    prepare_sharded_run(trainer, module, "fit")
    assert trainer.strategy._save_distributed_checkpoint is False


def test_networks_without_prompts_are_not_split(
    make_trainer: Callable[..., pl.Trainer], tmp_path: Path
) -> None:
    module = SupervisedModel("unetr", (SIDE,) * 3, ["ball"], work_dir=str(tmp_path))
    with pytest.raises(ValueError, match="needs task promptable"):
        prepare_sharded_run(make_trainer(strategy="sharded", devices=2), module, "fit")
