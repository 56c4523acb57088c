"""What all networks without prompts have in common: published names, shapes and outputs, what they
take and return, that all of them learns.
"""

import json
import subprocess
import sys
from collections.abc import Container, Iterable

import pytest
import torch
from torch import nn

from neurosam3d.models import BASELINES, build_model, list_overrides
from neurosam3d.models.baselines.inputs import InputRule, to_sides
from tests.reference.golden import REFERENCE, Golden
from tests.reference.seeded import seed_weights, seeded_array

COMPARED = ["swin_unetr", "unetr", "3d_uxnet", "nnformer", "unetr++", "transbts"]
PARAMETERS = {
    "nnunet_resenc": 102_267_274,
    "nnunet_plain": 31_113_098,
    "mednext_s": 5_550_914,
    "mednext_b": 10_510_850,
    "mednext_m": 17_533_506,
    "mednext_l": 61_726_754,
    "segresnet": 18_796_002,
    "segresnet_ds": 87_163_298,
    "swin_unetr_v2": 72_762_068,
}
# Not cubes, and as small as the coarsest level allows; what the sides must be multiples of; whether
# weights depend on them.
SMALL = {
    "swin_unetr": ((32, 64, 32), (32, 32, 32), False),
    "unetr": ((16, 32, 48), (16, 16, 16), True),
    "3d_uxnet": ((16, 32, 16), (16, 16, 16), False),
    "nnformer": ((32, 64, 32), (16, 32, 32), True),
    "unetr++": ((16, 64, 32), (16, 32, 32), True),
    "transbts": ((8, 16, 24), (8, 8, 8), True),
    "nnunet_resenc": ((32, 64, 32), (16, 32, 32), False),
    "nnunet_plain": ((16, 64, 32), (16, 32, 32), False),
    "mednext_s": ((16, 48, 32), (16, 16, 16), False),
    "mednext_b": ((16, 48, 32), (16, 16, 16), False),
    "mednext_m": ((16, 48, 32), (16, 16, 16), False),
    "mednext_l": ((16, 48, 32), (16, 16, 16), False),
    "segresnet": ((8, 24, 16), (8, 8, 8), False),
    "segresnet_ds": ((16, 48, 32), (16, 16, 16), False),
    "swin_unetr_v2": ((32, 64, 32), (32, 32, 32), False),
}
ALIKE = ("nnunet_resenc", "mednext_b", "mednext_m", "mednext_l", "swin_unetr_v2")  # and larger


def mark_slow(names: Iterable[str], slow: Container[str]) -> list[object]:
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


# What a level's sides are, as fractions of the crop's.
LEVELS = {
    "nnformer": [(1, 1, 1), (2, 2, 2), (4, 4, 4)],
    "unetr++": [(1, 1, 1), (2, 4, 4), (4, 8, 8)],
    "nnunet_plain": [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16)],
    "mednext_s": [(1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8), (16, 16, 16)],
    "segresnet_ds": [(1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8)],
}


def small(name: str, **overrides: object) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("swin_unetr"):
        overrides["feature_size"] = 12
    return build_model(name, **{"crop_size": SMALL[name][0], **overrides})


def image_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", COMPARED)
def test_names_and_shapes_of_published_weights(name):
    with torch.device("meta"):
        model = build_model(name)
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == json.loads((REFERENCE / f"keys_{name}.json").read_text())["state_dict"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_modern_networks_have_their_size(name):
    with torch.device("meta"):
        model = build_model(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert all(tensor.is_meta for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    "case",
    mark_slow(
        [*COMPARED, "nnformer_full"],
        slow=("swin_unetr", "3d_uxnet", "nnformer", "unetr++", "nnformer_full"),
    ),
)
@torch.no_grad()
def test_outputs_of_the_published_programs(case):
    golden = Golden("golden_baselines.npz", case)
    size = golden.input("size").tolist()
    model = seed_weights(build_model(case.removesuffix("_full"), crop_size=size))
    golden.check("logits", model(torch.from_numpy(seeded_array("input.image", (1, 1, *size)))))


@pytest.mark.parametrize("name", mark_slow(BASELINES, slow=(*ALIKE, "nnformer")))
def test_a_small_crop_is_segmented_and_every_parameter_learns(name):
    crop = SMALL[name][0]
    model = small(name, in_channels=2, num_classes=3)
    assert model.crop_size == crop
    logits = model(image_of(1, 2, *crop))
    assert logits.shape == (1, 3, *crop)
    logits.square().mean().backward()
    learning = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, grad in learning.items() if grad is None] == []
    assert all(grad.isfinite().all() for grad in learning.values())
    frozen = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert bool(frozen) == (name in ("unetr", "transbts", "nnunet_resenc", "nnunet_plain"))


@pytest.mark.parametrize("name", mark_slow(LEVELS, slow=("nnformer",)))
@torch.no_grad()
def test_deep_supervision_gives_a_list_in_training_only(name):
    crop = SMALL[name][0]
    model = small(name, num_classes=3, deep_supervision=True)
    image = image_of(2, 1, *crop)
    expected = [
        (2, 3, *(side // factor for side, factor in zip(crop, level, strict=True)))
        for level in LEVELS[name]
    ]
    levels = model(image)
    assert isinstance(levels, list)
    assert [level.shape for level in levels] == expected
    logits = model.eval()(image)
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == expected[0]
    assert len(model.train()(image)) == len(expected)


def test_who_has_deep_supervision():
    assert [n for n in BASELINES if "deep_supervision" in list_overrides(n)] == [
        "nnformer",
        "unetr++",
        "nnunet_resenc",
        "nnunet_plain",
        "mednext_s",
        "mednext_b",
        "mednext_m",
        "mednext_l",
        "segresnet_ds",
    ]
    assert all(
        {"in_channels", "num_classes", "crop_size"} <= {*list_overrides(n)} for n in BASELINES
    )


@pytest.mark.parametrize("name", ["nnunet_plain", "mednext_s"])  # no dropout, no running averages
@torch.no_grad()
def test_the_finest_level_is_the_answer(name):
    model = small(name, deep_supervision=True)
    image = image_of(1, 1, *SMALL[name][0])
    finest, *_ = model(image)
    torch.testing.assert_close(model.eval()(image), finest)


@pytest.mark.parametrize("name", BASELINES)
def test_impossible_crops_are_refused(name):
    _, step, _ = SMALL[name]
    text = (
        rf"crop_size must be three positive multiples of \({step[0]}, {step[1]}, {step[2]}\), got"
    )
    for axis in range(3):
        crop = list(step)
        crop[axis] += step[axis] // 2
        with pytest.raises(ValueError, match=rf"{text} \({crop[0]}, {crop[1]}, {crop[2]}\)"):
            build_model(name, crop_size=crop)
    with pytest.raises(ValueError, match=rf"{text} \(0, "):
        build_model(name, crop_size=(0, 64, 64))
    with pytest.raises(ValueError, match=r"crop_size must be three sides .*, got \(64, 64\)"):
        build_model(name, crop_size=(64, 64))


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in ALIKE])
def test_unfit_images_are_refused(name):
    crop, step, is_fixed = SMALL[name]
    with torch.device("meta"):
        model = small(name)
        other = [side + unit for side, unit in zip(crop, step, strict=True)]
        rule = "the crop_size that the network was built for" if is_fixed else "multiples of"
        wrong = [(1, 1, crop[0] + 1, *crop[1:]), (1, 2, *crop), (1, *crop)]
        if is_fixed:
            wrong.append((1, 1, *other))
        for shape in wrong:
            got = ", ".join(map(str, shape))
            with pytest.raises(ValueError, match=rf"\(B, 1, D, H, W\) .*{rule}.*, got \({got}\)"):
                model(torch.empty(shape))


@pytest.mark.parametrize("name", ["3d_uxnet", "segresnet", "mednext_s"])
@torch.no_grad()
def test_other_crops_fit_the_same_weights_where_nothing_depends_on_them(name):
    crop, step, _ = SMALL[name]
    model = small(name).eval()
    other = [side + unit for side, unit in zip(crop, step, strict=True)]
    assert model(image_of(1, 1, *other)).shape == (1, 2, *other)


def test_input_rule_takes_what_fits():
    loose = InputRule(2, (16, 32, 32), step=(16, 32, 32))
    loose(nn.Identity(), (torch.empty(3, 2, 32, 64, 96, device="meta"),), {})
    loose(nn.Identity(), (), {"x": torch.empty(3, 2, 32, 64, 96, device="meta")})
    fixed = InputRule(2, (16, 32, 32), step=(16, 32, 32), is_fixed=True)
    fixed(nn.Identity(), (torch.empty(3, 2, 16, 32, 32, device="meta"),), {})
    assert to_sides([16, 32, 48]) == (16, 32, 48)


@pytest.mark.parametrize("feature_size", [0, 32])
def test_feature_size_is_checked(feature_size):
    with pytest.raises(
        ValueError, match=f"feature_size must be a positive multiple of 12, got {feature_size}"
    ):
        build_model("swin_unetr", feature_size=feature_size)


def test_recomputed_stages_change_no_gradient():
    gradients = []
    for checkpoint_blocks in (False, True):
        model = small("swin_unetr", checkpoint_blocks=checkpoint_blocks)
        model(image_of(1, 1, 32, 64, 32)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
        assert model.swinViT.layers1[0].use_checkpoint == checkpoint_blocks
    torch.testing.assert_close(*gradients)


def test_libraries_are_imported_when_a_network_is_built():
    code = (
        "import sys, neurosam3d.models as m; "
        "libraries = {'monai', 'dynamic_network_architectures'}; "
        "m.build_model('transbts', crop_size=(8, 8, 8)); "
        "assert not libraries & sys.modules.keys(); "
        "m.build_model('mednext_s'); assert 'monai' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures", None)
    with pytest.raises(ValueError, match=r"need dynamic-network-architectures: pip install -e"):
        build_model("nnunet_plain")
