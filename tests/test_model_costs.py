"""The counted costs: right by hand and on real tensors, and up to date."""

import json
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import saved_megabytes
from benchmarks.model_costs import (
    COSTS,
    LiveBytes,
    count_adapter3d,
    count_baseline,
    count_costs,
    count_network,
    count_sam2d,
    play_session,
)
from neurosam3d.models import MODELS, Sam2D, Sam3D, Samed, build_model, list_models
from neurosam3d.models.adapter3d import Adapter3D, build_adapter3d
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS
from neurosam3d.models.catalogue import CropCosts, catalogue
from neurosam3d.training.losses import MaskLoss
from tests.models.adapter3d_small import CONFIG as SMALL_ADAPTER3D


@pytest.mark.parametrize("name", ["vit_tiny", "dinov2"])
def test_figures_without_data_are_those_of_a_real_pass(name: str) -> None:
    options = {"model_cfg": {"student": {"arch": "vit_tiny_3d"}}} if name == "dinov2" else {}
    counted = count_costs(name, image_size=32, **options)
    assert counted == count_costs(name, fake=False, image_size=32, **options)
    assert counted["step_mib"] > counted["forward_mib"] > 0


@pytest.mark.parametrize(
    ("name", "crop_size"), [("transbts", (8, 16, 24)), ("nnunet_plain", (16, 64, 32))]
)
def test_figures_without_data_are_those_of_a_real_crop(
    name: str, crop_size: tuple[int, ...]
) -> None:
    counted = count_baseline(name, crop_size=crop_size)
    assert counted == count_baseline(name, fake=False, crop_size=crop_size)
    assert counted["step_mib"] > counted["forward_mib"] > 0
    assert counted["crop_size"] == list(crop_size)


@pytest.mark.parametrize("prompt_free", [False, True])
def test_figures_without_data_are_those_of_a_real_adapter(
    monkeypatch: pytest.MonkeyPatch, prompt_free: bool
) -> None:
    monkeypatch.setitem(ADAPTER3D_CONFIGS, "small", SMALL_ADAPTER3D)
    monkeypatch.setitem(MODELS, "small", partial(build_adapter3d, "small"))
    options = {"crop_size": 32, "prompt_free": prompt_free}
    counted = count_adapter3d("small", **options)
    assert counted == count_adapter3d("small", fake=False, **options)
    (costs,) = counted["decoders"].values()
    assert costs["step_mib"] > costs["forward_mib"] > 0


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize("name", ["sam_med2d_vit_b", "samed_s_vit_b"])
def test_figures_without_data_are_those_of_a_real_slice(name: str) -> None:
    counted = count_sam2d(name, image_size=64)
    assert counted == count_sam2d(name, fake=False, image_size=64)
    (costs,) = counted["decoders"].values()
    assert costs["step_mib"] > costs["forward_mib"] > 0


def test_operations_of_dinov2_by_hand() -> None:
    settings = {"student": {"arch": "vit_tiny_3d"}, "crops": {"global_crops_size": 128}}
    counted = count_costs("dinov2", image_size=128, model_cfg=settings)
    patches, dim, depth, out_dim = 8**3, 96, 4, 384
    tokens = patches + 1
    per_block = 12 * tokens * dim**2 + 2 * tokens**2 * dim  # layers, then fused attention
    operations = patches * 16**3 * dim + depth * per_block + patches * dim * out_dim
    assert counted["encoder_gflops"] == round(2 * operations / 1e9, 2)
    assert counted["encoder_gflops"] > 1


def test_a_training_step_keeps_what_is_counted() -> None:
    model = build_model("vit_tiny", image_size=32)
    assert isinstance(model, Sam3D)
    image = torch.zeros(1, 1, 32, 32, 32)
    truth, loss = torch.zeros_like(image, dtype=torch.uint8), MaskLoss()
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}

    def step() -> Tensor:
        return play_session(model.train(), image, lambda logits: loss(logits, truth))

    expected = round(saved_megabytes(step, parameters), 1)
    assert count_costs("vit_tiny", image_size=32)["step_mib"] == pytest.approx(expected, abs=0.1)


def test_live_bytes_follow_what_is_made_and_dropped() -> None:
    given = torch.zeros(1000, 100)
    with LiveBytes({given.untyped_storage()._cdata}) as live:
        view = given.T  # nothing new
        assert live.peak == 0
        a = view + 1  # 400 kB
        b = a * 2  # 800 kB
        del a
        b.add_(1)
        c = F.relu(b)  # 800 kB again
        assert live.peak == 800_000
        d = c + b  # 1.2 MB
    assert live.peak == 1_200_000
    assert d.numel() == 100_000


def test_the_stored_costs_cover_every_network_and_their_parameters_are_right() -> None:
    entries = {entry.name: entry.costs for entry in catalogue()}
    assert list(entries) == list_models()
    for name, costs in entries.items():
        with torch.device("meta"):
            model = build_model(name)
        assert costs.parameters == sum(p.numel() for p in model.parameters())
        if isinstance(costs, CropCosts):
            assert costs.crop_size == model.crop_size
            continue
        assert isinstance(model, Sam2D | Sam3D | Samed | Adapter3D)
        is_adapter = isinstance(model, Adapter3D)
        assert costs.image_size == (model.crop_size if is_adapter else model.image_size)
        encoder = sum(p.numel() for p in model.image_encoder.parameters())
        assert costs.encoder_parameters == encoder
        strides = {4, 1} if isinstance(model, Sam3D) else {1} if is_adapter else {4}
        assert costs.decoders.keys() == strides


@pytest.mark.parametrize(
    "name",
    [
        name if name == "vit_tiny" else pytest.param(name, marks=pytest.mark.slow)
        for name in list_models()
    ],
)
def test_the_stored_costs_are_up_to_date(name: str) -> None:
    assert json.loads(COSTS.read_text(encoding="utf-8"))[name] == count_network(name)
