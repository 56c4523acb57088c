import pytest
import torch

from neurosam3d.models import build_model
from neurosam3d.training.optim import build_scheduler, parameter_groups, rate_factor

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
