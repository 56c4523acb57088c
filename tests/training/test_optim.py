import pytest
import torch

from neurosam3d.models import build_model
from neurosam3d.training.optim import (
    build_optimizer,
    build_scheduler,
    epoch_factor,
    parameter_groups,
    rate_factor,
    step_factor,
)

RULE = {"step_size": [4, 6], "gamma": 0.5, "warmup_steps": 0}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    model = build_model("vit_tiny", image_size=32, mask_stride=1)
    model.freeze_unreachable(boxes=False, mask_always_given=True, multimask=False, iou=False)
    return model


def test_groups_hold_every_trainable_parameter_once(network: torch.nn.Module) -> None:
    groups = parameter_groups(network, lr=0.1, weight_decay=0.01)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(parameter) for parameter in network.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable)


def test_rates_are_a_tenth_outside_the_image_encoder(network: torch.nn.Module) -> None:
    rates = {
        group["name"]: group["lr"] for group in parameter_groups(network, lr=0.2, weight_decay=0)
    }
    assert rates == pytest.approx(
        {
            "image_encoder": 0.2,
            "image_encoder_tables": 0.2,
            "prompt_encoder": 0.02,
            "prompt_encoder_tables": 0.02,
            "mask_decoder": 0.02,
            "mask_decoder_tables": 0.02,
        }
    )


@pytest.mark.parametrize(
    ("name", "decays"),
    [
        ("image_encoder.patch_embed.proj.weight", True),
        ("image_encoder.patch_embed.proj.bias", False),
        ("image_encoder.pos_embed", False),
        ("image_encoder.blocks.0.attn.qkv.weight", True),
        ("image_encoder.blocks.0.attn.rel_pos_d", False),
        ("image_encoder.blocks.0.norm1.weight", False),
        ("image_encoder.neck.1.weight", False),  # a norm over channels
        ("prompt_encoder.mask_downscaling.0.weight", True),
        ("prompt_encoder.point_embeddings.1.weight", False),
        ("mask_decoder.mask_tokens.weight", False),
        ("mask_decoder.output_hypernetworks_mlps.0.layers.0.weight", True),
    ],
)
def test_norms_biases_and_tables_do_not_decay(
    network: torch.nn.Module, name: str, decays: bool
) -> None:
    groups = parameter_groups(network, lr=0.1, weight_decay=0.25)
    wanted = network.get_parameter(name)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decay[id(wanted)] == (0.25 if decays else 0.0)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("steplr", {0: 1, 3: 1, 4: 0.5, 7: 0.5, 8: 0.25}),
        ("multisteplr", {0: 1, 3: 1, 4: 0.5, 5: 0.5, 6: 0.25, 100: 0.25}),
        ("coswarm", {0: 1, 1: 0.8535534, 2: 0.5, 3: 0.1464466, 4: 1, 6: 0.5}),
        ("linearlr", {0: 0.1, 1: 0.28, 5: 1, 6: 1}),
    ],
)
def test_schedules(schedule: str, factors: dict[int, float]) -> None:
    found = {step: rate_factor(step, schedule=schedule, **RULE) for step in factors}
    assert found == pytest.approx(factors)


def test_warm_up_comes_before_the_schedule() -> None:
    rule = {**RULE, "warmup_steps": 3, "schedule": "steplr"}
    factors = [rate_factor(step, **rule) for step in range(8)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.5])


def test_scheduler_drives_every_group_in_proportion(network: torch.nn.Module) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(network, lr=1.0, weight_decay=0))
    scheduler = build_scheduler(optimizer, schedule="multisteplr", **RULE)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["image_encoder"] == pytest.approx(0.5)
    assert rates["mask_decoder_tables"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"schedule": "cosine"},
            "unknown lr_scheduler 'cosine'; known: steplr, multisteplr, coswarm, linearlr",
        ),
        ({"step_size": []}, r"step_size must list numbers of steps >= 1, got \[\]"),
        ({"step_size": [0]}, r"step_size must list numbers of steps >= 1, got \[0\]"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0, got -1"),
        ({"gamma": 0.0}, "gamma must be > 0, got 0.0"),
    ],
)
def test_wrong_rules_are_refused(
    network: torch.nn.Module, change: dict[str, object], message: str
) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(network, lr=1.0, weight_decay=0))
    with pytest.raises(ValueError, match=message):
        build_scheduler(optimizer, **{**RULE, "schedule": "steplr", **change})


def test_linear_and_poly_fall_over_the_epochs() -> None:
    linear = [epoch_factor(e, schedule="linear", num_epochs=400) for e in (0, 100, 400, 500)]
    assert linear == pytest.approx([1, 0.7525, 0.01, 0.01])
    poly = [epoch_factor(e, schedule="poly", num_epochs=1000) for e in (0, 500, 999, 1000)]
    assert poly == pytest.approx([1, 0.5**0.9, 0.001**0.9, 0])
    assert epoch_factor(7, schedule="constant", num_epochs=5) == 1


def test_presets_of_the_optimizers() -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    learning = torch.nn.Parameter(torch.ones(2))
    options = {"lr": 0.01, "weight_decay": 3e-5, "momentum": 0.99}
    sgd = build_optimizer([frozen, learning], optimizer="sgd", **options)
    (group,) = sgd.param_groups
    assert group["params"] == [learning]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.01, 0.99, True)
    adamw = build_optimizer([learning], optimizer="adamw", **options)
    assert isinstance(adamw, torch.optim.AdamW)
    assert [g["weight_decay"] for o in (sgd, adamw) for g in o.param_groups] == [3e-5] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; known: adamw, sgd"),
        ({"lr": -1.0}, "lr and weight_decay must be >= 0, got -1.0 and 0.0"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum lies between 0 and 1, got 1.0"),
    ],
)
def test_wrong_optimizers_are_refused(change: dict[str, object], message: str) -> None:
    right = {"optimizer": "adamw", "lr": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    with pytest.raises(ValueError, match=message):
        build_optimizer([torch.nn.Parameter(torch.ones(1))], **{**right, **change})


def test_wrong_epoch_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown lr_scheduler 'cos'; known: linear, poly, const"):
        epoch_factor(0, schedule="cos", num_epochs=3)
    with pytest.raises(ValueError, match="a schedule takes at least 1 epoch, got 0"):
        epoch_factor(0, schedule="linear", num_epochs=0)


SAMED_RATES = {  # of the published program, set after the step before
    0: 2.0e-5,
    1: 4.0e-5,
    100: 2.02e-3,
    249: 5.0e-3,
    250: 5.0e-3,
    251: 4.99975806e-3,
    1000: 4.81817703e-3,
    14879: 1.24571373e-3,
}


def samed_factor(step: int, **options: float) -> float:
    rule = {"schedule": "poly", "warmup_steps": 250, "num_steps": 18600, "power": 0.9}
    return step_factor(step, **{**rule, **options})  # type: ignore[arg-type]


def test_steps_have_the_rates_of_samed() -> None:
    rates = {step: 0.005 * samed_factor(step) for step in SAMED_RATES}
    assert rates == pytest.approx(SAMED_RATES, rel=1e-6)
    assert samed_factor(250 + 9300, power=7) == pytest.approx(0.5**7)
    assert [samed_factor(step) for step in (18850, 30000)] == [0, 0]


def test_the_rate_may_stay_after_the_warm_up_or_begin_without_one() -> None:
    steps = (0, 124, 250, 10**6)
    constant = [samed_factor(step, schedule="constant") for step in steps]  # type: ignore[arg-type]
    assert constant == pytest.approx([1 / 250, 0.5, 1, 1])
    assert samed_factor(0, warmup_steps=0) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cos"}, "unknown lr_scheduler 'cos'; known: poly, constant"),
        ({"warmup_steps": -1}, "got -1, 0.9 and 18600"),
        ({"num_steps": 0}, "at least 1 step, got 250, 0.9 and 0"),
    ],
)
def test_steps_refuse_what_is_no_schedule(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samed_factor(0, **options)
