import csv
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neurosam3d.checkpoints import load_model
from neurosam3d.commands.trained_network import make_predictor
from neurosam3d.models.compiled import compile_network
from neurosam3d.training import NeuroSamModel

Build = Callable[..., Any]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., NeuroSamModel]:
    """Return a function that builds a small module; its arguments are the module's."""

    def make(**options: Any) -> NeuroSamModel:
        pl.seed_everything(7, verbose=False)
        defaults = {
            "model_type": "vit_tiny",
            "img_size": 32,
            "num_clicks": 3,
            "work_dir": str(tmp_path),
        }
        return NeuroSamModel(**{**defaults, **options})

    return make


def metrics_of(folder: Path) -> dict[str, float]:
    """Return the last value of every column of a CSV log."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return {key: float(v) for row in csv.DictReader(file) for key, v in row.items() if v}


def silence(module: NeuroSamModel, trainer: pl.Trainer) -> NeuroSamModel:
    """Let steps be called one by one, outside of a run."""
    module.trainer = trainer
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def all_random_states() -> list[Any]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask_stride": 1},
        {"mask_stride": 1, "bbox_first": True, "iou_loss_weight": 0.5},
        {"bbox_first": True, "num_clicks": 2},
        {"box_prompts": True, "cut_gradient": False},
        {"iou_loss_weight": 0.5, "multi_click": False},
        {"num_clicks": 1, "published_quirks": False},
        {"mask_stride": 1, "checkpoint_upscaling": True, "mask_only_rounds": False},
    ],
    ids=str,
)
def test_frozen_is_exactly_what_a_step_does_not_reach(
    build: Build, batch: dict[str, Any], make_trainer: Build, options: dict[str, Any]
) -> None:
    module = silence(build(**options), make_trainer())
    frozen = {name for name, p in module.model.named_parameters() if not p.requires_grad}
    assert frozen == set(module.frozen)
    module.requires_grad_(True)
    module.training_step(batch, 0).backward()
    assert {name for name, p in module.model.named_parameters() if p.grad is None} == frozen


def test_image_encoder_runs_once_per_step(
    build: Build, batch: dict[str, Any], make_trainer: Build
) -> None:
    module = silence(build(num_clicks=4), make_trainer())
    calls = []
    module.model.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    module.training_step(batch, 0)
    assert len(calls) == 1


HOST_READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal"}


class NoHostReads(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: values, or shapes that depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in HOST_READS, func
        if func.overloadpacket.__name__ in ("index", "index_put"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options", [{}, {"bbox_first": True, "box_jitter": 0.1, "iou_loss_weight": 1.0}]
)
def test_training_step_never_waits_for_the_device(
    build: Build, batch: dict[str, Any], make_trainer: Build, options: dict[str, Any]
) -> None:
    module = silence(build(**options), make_trainer())
    with NoHostReads():
        loss = module.training_step(batch, 0)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            loss.item()


def test_loss_does_not_grow_with_the_number_of_rounds(
    build: Build, batch: dict[str, Any], make_trainer: Build
) -> None:
    losses = []
    for num_clicks in (1, 6):
        module = silence(build(num_clicks=num_clicks), make_trainer())
        losses.append(module.training_step(batch, 0).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.3)


def test_clicks_follow_from_seed_epoch_and_batch(
    build: Build, batch: dict[str, Any], make_trainer: Build
) -> None:
    def points(batch_idx: int, **options: Any) -> Tensor:
        module = silence(build(**options), make_trainer())
        key = module._random_key("train", batch_idx)
        return list(module._play(batch, key))[-1].prompts.points

    first = points(3)
    assert points(3).equal(first)
    assert not points(4).equal(first)
    assert not points(3, seed=11).equal(first)


def test_key_tells_stages_epochs_and_processes_apart(
    build: Build, make_trainer: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = silence(build(), make_trainer())
    keys = [module._random_key(stage, 2) for stage in ("train", "val")]
    module.trainer.fit_loop.epoch_progress.current.completed = 5
    assert module._random_key("val", 2) == keys[1]  # every validation sees the same clicks
    keys.append(module._random_key("train", 2))
    monkeypatch.setattr(NeuroSamModel, "global_rank", 1)
    keys.append(module._random_key("train", 2))
    assert len({tuple(key) for key in keys}) == len(keys)


def test_steps_leave_the_global_random_state_alone(
    build: Build, batch: dict[str, Any], make_trainer: Build
) -> None:
    module = silence(build(), make_trainer())
    before = all_random_states()
    module.training_step(batch, 0)
    module.validation_step(batch, 0)
    assert all_random_states() == before


@pytest.mark.parametrize("switch", [True, False])
def test_mask_only_round_is_drawn_within_range(
    build: Build,
    batch: dict[str, Any],
    make_trainer: Build,
    monkeypatch: pytest.MonkeyPatch,
    switch: bool,
) -> None:
    module = silence(build(num_clicks=5, mask_only_rounds=switch), make_trainer())
    drawn = []

    def play(batch: Any, key: Any, mask_only_round: int | None = None) -> Any:
        drawn.append(mask_only_round)
        raise StopIteration

    monkeypatch.setattr(module, "_play", play)
    for batch_idx in range(30):
        with pytest.raises(StopIteration):
            module.training_step(batch, batch_idx)
    assert set(drawn) == ({2, 3} if switch else {None})


def test_fit_logs_what_was_promised_and_learns(
    build: Build, crop_data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(lr=3e-4, logging_batches_idx=[1])
    untrained = make_trainer()
    untrained.validate(module, datamodule=crop_data(4), verbose=False)
    before = {key: value.item() for key, value in untrained.callback_metrics.items()}
    log = CSVLogger(tmp_path, name="log", version="")
    trainer = make_trainer(logger=log, max_epochs=4, num_sanity_val_steps=2)
    trainer.fit(module, datamodule=crop_data(4))
    after = metrics_of(Path(log.log_dir))
    rounds = [f"dice_click_{n}" for n in (1, 2, 3)]
    names = {f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "dice", *rounds)}
    assert names | {"train/loss_step"} <= set(after)
    assert after["val/loss"] < 0.8 * before["val/loss"]
    assert after["val/dice"] == pytest.approx(
        np.mean([after[f"val/{name}"] for name in rounds]), abs=1e-5
    )
    pictures = sorted(path.name for path in (Path(log.log_dir) / "pictures").iterdir())
    assert pictures == [f"val_batch1_step{step:07d}.png" for step in (2, 4, 6, 8)]


def test_validation_is_the_same_every_time(
    build: Build, crop_data: Build, make_trainer: Build
) -> None:
    module = build()
    scores = []
    for _ in range(2):
        torch.rand(3)  # whatever was drawn before plays no part
        trainer = make_trainer()
        trainer.validate(module, datamodule=crop_data(3), verbose=False)
        scores.append({key: value.item() for key, value in trainer.callback_metrics.items()})
    assert scores[0] == scores[1]


def test_schedule_counts_optimizer_steps(
    build: Build, crop_data: Build, make_trainer: Build
) -> None:
    module = build(num_clicks=1, step_size=[2], gamma=0.1, lr=1e-3)
    trainer = make_trainer(accumulate_grad_batches=2, max_epochs=2)
    trainer.fit(module, datamodule=crop_data(8))  # 4 batches and 2 steps an epoch
    assert trainer.global_step == 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-5)


@pytest.fixture
def weights(build: Build, tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """Write another network's weights; return the file and what is in it."""
    state = build().model.state_dict()
    state = {name: value + 0.01 for name, value in state.items()}
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return path, state


def test_checkpoint_gives_weights_and_nothing_else(
    build: Build,
    crop_data: Build,
    make_trainer: Build,
    weights: tuple[Path, dict[str, Tensor]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, state = weights
    module = build(checkpoint=str(path), lr=0.0, num_clicks=2)
    with caplog.at_level(logging.INFO, logger="neurosam3d"):
        make_trainer(max_steps=1).fit(module, datamodule=crop_data(2))
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, state[name], msg=name)
    assert module.hparams["num_clicks"] == 2
    assert any(
        f"{path}: state dict: {len(state)} tensors loaded" in text for text in caplog.messages
    )


def test_without_checkpoint_one_warning(
    build: Build, crop_data: Build, make_trainer: Build, caplog: pytest.LogCaptureFixture
) -> None:
    module = build(num_clicks=1)
    for _ in range(2):
        make_trainer(max_steps=1).fit(module, datamodule=crop_data(2))
    assert caplog.messages.count("no checkpoint given: the network starts from random weights") == 1


def test_missing_checkpoint_stops_a_fresh_run_but_not_a_resumed_one(
    build: Build, crop_data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    options = {"checkpoint": str(tmp_path / "gone.pth"), "num_clicks": 1}
    with pytest.raises(ValueError, match=r"gone\.pth"):
        make_trainer(max_steps=1).fit(build(**options), datamodule=crop_data(2))
    trainer, module = make_trainer(max_steps=1), build(num_clicks=1)
    trainer.fit(module, datamodule=crop_data(2))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = build(**options)
    make_trainer(max_steps=1).fit(resumed, datamodule=crop_data(2), ckpt_path=tmp_path / "run.ckpt")
    for name, value in resumed.model.state_dict().items():
        assert value.equal(module.model.state_dict()[name]), name


def test_testing_after_training_tests_what_was_trained(
    build: Build,
    crop_data: Build,
    scan_data: Build,
    scan_entries: list[dict[str, Any]],
    make_trainer: Build,
    weights: tuple[Path, dict[str, Tensor]],
) -> None:
    module = build(checkpoint=str(weights[0]), num_clicks=1, eval_clicks=1)
    module.make_predictor = make_predictor
    make_trainer(max_steps=1).fit(module, datamodule=crop_data(2))
    trained = {name: value.clone() for name, value in module.model.state_dict().items()}
    make_trainer().test(module, datamodule=scan_data(scan_entries[:1]), verbose=False)
    assert all(value.equal(trained[name]) for name, value in module.model.state_dict().items())


def test_checkpoint_says_how_to_build_and_feed_the_network(
    build: Build, crop_data: Build, make_trainer: Build, tmp_path: Path
) -> None:
    module = build(num_clicks=2, bbox_first=True, spacing=(1.0, 2.0, 1.5), published_quirks=False)
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=crop_data(2))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    content = torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"]
    assert (content["intensity"], content["spacing"]) == ("sam_med3d", (1.0, 2.0, 1.5))
    assert content["box_prompts"] is True
    network = load_model(tmp_path / "run.ckpt")
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert network.image_encoder(image).equal(module.eval().model.image_encoder(image))


def test_a_compiled_run_learns_the_same_and_its_checkpoint_is_as_ever(
    build: Build,
    crop_data: Build,
    make_trainer: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[torch.nn.Module] = []

    def compile_eagerly(network: torch.nn.Module) -> None:
        compiled.append(network)
        compile_network(network, backend="eager", fullgraph=True)

    monkeypatch.setattr("neurosam3d.training.network_run.compile_network", compile_eagerly)
    states = []
    for wanted in (False, True):
        module = build(num_clicks=2, compile=wanted)
        trainer = make_trainer(max_steps=1, limit_val_batches=0)
        trainer.fit(module, datamodule=crop_data(2))
        trainer.fit(module, datamodule=crop_data(2))  # compiled once all the same
        states.append(module.model.state_dict())
        assert compiled == [module.model] * wanted
    assert list(states[0]) == list(states[1])
    torch.testing.assert_close(states[1], states[0], rtol=1e-5, atol=1e-6)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    loaded = load_model(tmp_path / "run.ckpt").state_dict()
    assert all(value.equal(loaded[name]) for name, value in states[1].items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "vit_x"}, "unknown model 'vit_x'; known: vit_tiny, .*vit_h"),
        ({"model_type": "unetr"}, "model_type must take prompts, got 'unetr', which takes none"),
        ({"model_type": "samed_vit_b"}, "must see volumes, got 'samed_vit_b'; slices are of task"),
        ({"click_type": "far"}, "unknown click_type 'far'; known: random, largest, ritm"),
        ({"mask_stride": 2}, "mask_stride must be 4 or 1, got 2"),
        ({"num_clicks": 0}, "num_clicks must be at least 1, got 0"),
        ({"bbox_first": True, "box_prompts": False}, "bbox_first needs box_prompts=True"),
        ({"model_cfg": "x.yaml"}, "unknown override 'model_cfg' for model 'vit_tiny'"),
    ],
)
def test_wrong_options_are_refused(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
