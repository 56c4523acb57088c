"""Weights find their way from every known kind of file into the network they fit."""

import json
import logging
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neurosam3d.checkpoints import LoadReport, load_model, load_weights
from neurosam3d.models import Sam3D, build_model
from neurosam3d.recognise import recognise_network
from tests.published import assert_equal, sam_med3d_content, small_network

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def source() -> Sam3D:
    return small_network(seed=2)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class Module(lightning.LightningModule):
    """A training module that keeps its network in `model`, as ours and NeuroSAM3D's do."""

    def __init__(
        self, network: nn.Module, model_type: str, img_size: int, work_dir: Path, **more: Any
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network"])
        self.model = network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def _save_lightning(module: Module, path: Path) -> Path:
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_sam_med3d_file(tmp_path: Path, source: Sam3D, zipped: bool) -> None:
    path = tmp_path / "sam_med3d.pth"
    torch.save(sam_med3d_content(source), path, _use_new_zipfile_serialization=zipped)
    model = small_network()
    report = load_weights(model, path)
    assert_equal(model, source)
    assert report.format == "SAM-Med3D checkpoint"
    assert report.loaded == list(source.state_dict())
    assert not report.missing + report.unexpected + report.mismatched + report.resized


def test_lightning_file(tmp_path: Path, source: Sam3D) -> None:
    module = Module(source, "vit_tiny", 32, tmp_path)
    module.criterion = nn.Linear(2, 1)
    path = _save_lightning(module, tmp_path / "last.ckpt")
    model = small_network()
    report = load_weights(model, path)
    assert_equal(model, source)
    assert report.format == "Lightning checkpoint"
    assert report.unexpected == ["criterion.weight", "criterion.bias"]


@pytest.mark.parametrize("prefix", ["", "model.", "network.", "module.", "model._orig_mod."])
def test_bare_state_dict_under_any_wrapper(tmp_path: Path, source: Sam3D, prefix: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save({prefix + name: value for name, value in source.state_dict().items()}, path)
    model = small_network()
    report = load_weights(model, path)
    assert_equal(model, source)
    assert (report.format, report.unexpected) == ("state dict", [])


def test_safetensors_in_half_precision(tmp_path: Path, source: Sam3D) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({name: value.half() for name, value in source.state_dict().items()}, path)
    model = small_network()
    assert len(load_weights(model, path).loaded) == len(source.state_dict())
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, source.state_dict()[name].half().float())


def _resampled(values: np.ndarray, size: int) -> np.ndarray:
    """Interpolate linearly at the centres of `size` equal parts of the same length."""
    centres = (np.arange(size) + 0.5) * len(values) / size - 0.5
    return np.interp(centres, np.arange(len(values)), values)


def test_position_tables_are_resized(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small, path = small_network(seed=2, image_size=48), tmp_path / "weights.pth"
    weights = small.state_dict()
    d, h, w = np.random.default_rng(0).normal(size=(3, 3))
    table = d[:, None, None] + 3 * h[:, None] + 9 * w  # (3, 3, 3)
    channels = torch.linspace(1, 2, 192)
    weights["image_encoder.pos_embed"] = torch.from_numpy(table).float()[None, ..., None] * channels
    torch.save(weights, path)

    large = small_network(image_size=80)
    with caplog.at_level(logging.INFO):
        report = load_weights(large, path)
    tables = [f"image_encoder.blocks.{i}.attn.rel_pos_{axis}" for i in (1, 3) for axis in "dhw"]
    assert report.resized == ["image_encoder.pos_embed", *tables]
    assert set(report.resized) < set(report.loaded)
    assert not report.mismatched
    assert "resized to the image size: image_encoder.pos_embed, " in caplog.text

    d, h, w = (_resampled(values, 5) for values in (d, h, w))
    expected = torch.from_numpy(d[:, None, None] + 3 * h[:, None] + 9 * w).float()
    loaded = large.state_dict()
    expected = expected[None, ..., None] * channels
    torch.testing.assert_close(loaded["image_encoder.pos_embed"], expected, rtol=1e-5, atol=1e-5)
    for name in tables:
        assert loaded[name].shape == (9, 32)
        columns = [_resampled(column, 9) for column in weights[name].T.numpy()]
        torch.testing.assert_close(loaded[name], torch.tensor(np.array(columns).T).float())
    windowed = "image_encoder.blocks.0.attn.rel_pos_d"
    assert torch.equal(loaded[windowed], weights[windowed])


def test_the_other_family_gets_what_is_shared(tmp_path: Path, source: Sam3D) -> None:
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    model = small_network(mask_stride=1)
    before = _copy(model)
    report = load_weights(model, path)
    downscaling, upscaling = "prompt_encoder.mask_downscaling", "mask_decoder.output_upscaling"
    assert report.mismatched == [
        f"{downscaling}.{layer}.{kind}" for layer in (3, 4, 6) for kind in ("weight", "bias")
    ]
    assert report.missing == [
        "prompt_encoder.point_embeddings.2.weight",
        "prompt_encoder.point_embeddings.3.weight",
        *(f"{downscaling}.{layer}.{kind}" for layer in (7, 9) for kind in ("weight", "bias")),
        *(
            f"{upscaling}.{layer}.{kind}"
            for layer in (4, 6, 7, 9, 10)
            for kind in ("weight", "bias")
        ),
    ]
    assert report.unexpected == []
    for name, value in model.state_dict().items():
        kept = name in report.mismatched + report.missing
        assert torch.equal(value, before[name] if kept else source.state_dict()[name])


def test_less_than_half_raises_and_changes_nothing(tmp_path: Path, source: Sam3D) -> None:
    parameters = dict(source.named_parameters())
    half = sum(parameter.numel() for parameter in parameters.values()) / 2
    covered, names = 0, []
    while covered < half:
        name = list(parameters)[len(names)]
        covered += parameters[name].numel()
        names.append(name)
    enough, too_little = tmp_path / "enough.pth", tmp_path / "too_little.pth"
    torch.save({name: parameters[name].detach() for name in names}, enough)
    torch.save({name: parameters[name].detach() for name in names[:-1]}, too_little)
    model = small_network(image_size=48)  # resized tables count as filled
    before = _copy(model)
    with pytest.raises(ValueError, match=r"at least half .* elements, got 4\d\.\d% \(state dict: "):
        load_weights(model, too_little)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert load_weights(small_network(), enough).loaded == names


def test_a_refused_file_changes_nothing(tmp_path: Path, source: Sam3D) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": source.state_dict(), "callbacks": nn.Linear(1, 1)}, path)
    model = small_network()
    before = _copy(model)
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_weights(model, path)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_unknown_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "optimizer": {}}, path)
    with pytest.raises(ValueError, match=r"of no known kind \(SAM-Med3D .*it holds epoch, optimi"):
        load_weights(small_network(), path)


def test_report_reads_as_a_sentence() -> None:
    report = LoadReport("state dict", ["a", "b"], missing=list("cdefgh"), resized=["b"])
    assert str(report) == (
        "state dict: 2 tensors loaded, 1 resized (b), 6 missing (c, d, e, f and 2 more)"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"mask_stride": 4, "box_prompts": False, "image_size": 48},
        {"mask_stride": 1, "box_prompts": True, "image_size": 32},
        {"mask_stride": 1, "box_prompts": False, "image_size": 32},
        {"mask_stride": 4, "box_prompts": True, "image_size": 32},
    ],
)
def test_a_bare_state_dict_is_recognised(tmp_path: Path, options: dict[str, Any]) -> None:
    path, source = tmp_path / "weights.pth", small_network(**options)
    torch.save(source.state_dict(), path)
    model = load_model(path)
    assert_equal(model, source)
    assert isinstance(model, Sam3D)
    assert (model.image_size, model.mask_stride) == (options["image_size"], options["mask_stride"])
    assert not model.training


def test_hyper_parameters_say_what_shapes_cannot(tmp_path: Path) -> None:
    source = small_network(mask_stride=1, published_quirks=False).eval()
    module = Module(source, "vit_tiny", 32, tmp_path, published_quirks=False, mask_stride=1)
    path, bare = _save_lightning(module, tmp_path / "last.ckpt"), tmp_path / "bare.pth"
    torch.save(source.state_dict(), bare)
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    points = (torch.tensor([[[3.0, 9, 20]]]), torch.tensor([[1]]))
    with torch.no_grad():
        expected = source(image, points=points)
        torch.testing.assert_close(load_model(path)(image, points=points), expected)
        assert not torch.allclose(load_model(bare)(image, points=points), expected)


def test_the_stored_name_comes_before_the_shapes_and_the_given_one_before_both(
    tmp_path: Path, source: Sam3D
) -> None:
    content = sam_med3d_content(source)
    content["args"].model_type = "vit_b"
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="must fill at least half"):
        load_model(path)
    assert_equal(load_model(path, "vit_tiny"), source)
    with pytest.raises(ValueError, match="unknown model 'vit_x'; known: vit_tiny"):
        load_model(path, "vit_x")


def test_an_unknown_network_gives_the_candidates(tmp_path: Path, source: Sam3D) -> None:
    path = tmp_path / "weights.pth"
    cut = {name: v for name, v in source.state_dict().items() if ".blocks.3." not in name}
    torch.save(cut, path)
    with pytest.raises(ValueError, match=r"cannot tell which network .*one of vit_tiny, vit_b_ori"):
        load_model(path)


@pytest.mark.parametrize(
    ("file", "name", "image_size", "mask_stride"),
    [
        ("upstream_vit_b_ori", "vit_b_ori", 128, 4),
        ("vit_b_ori", "vit_b_ori", 128, 1),
        ("vit_b", "vit_b", 128, 1),
        ("vit_b_112", "vit_b", 112, 1),
        ("vit_l", "vit_l", 128, 1),
        ("vit_h", "vit_h", 128, 1),
    ],
)
def test_published_networks_are_recognised_by_their_shapes(
    file: str, name: str, image_size: int, mask_stride: int
) -> None:
    keys = json.loads((REFERENCE / f"keys_{file}.json").read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in keys["state_dict"].items()}
    recognised, options = recognise_network(shapes)
    assert recognised == name
    assert options == {
        "image_size": image_size,
        "mask_stride": mask_stride,
        "box_prompts": mask_stride == 1,
    }
    with torch.device("meta"):
        model = build_model(name, **options)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes
