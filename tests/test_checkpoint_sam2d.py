"""Files of SAM, MedSAM, SAM-Med2D and SAMed: read, resized, written in their own names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosam3d.__main__ as program
from neurosam3d.checkpoint_formats import formats_of, read_checkpoint
from neurosam3d.checkpoint_io import Inert
from neurosam3d.checkpoint_sam2d import network_entries, published_content
from neurosam3d.checkpoint_writing import write_checkpoint
from neurosam3d.checkpoints import load_model, load_weights
from neurosam3d.models import SAMED, Sam2D, Samed, build_model
from neurosam3d.models.lora import lora_state
from neurosam3d.recognise import recognise_network
from tests.models.sam2d_small import small_sam2d, small_samed
from tests.published import assert_equal, save
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights

NAMES = ["samed_vit_b", "samed_s_vit_b"]
REFERENCE = Path(__file__).parent / "reference"
small = pytest.mark.usefixtures("small_vit_b")


def convert(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(["convert", *map(str, words)])
    assert not end.value.code


def med2d_content(model: Sam2D) -> dict[str, Any]:
    """Return what SAM-Med2D's training leaves: the optimizer itself, not its state."""
    optimizer = torch.optim.Adam(model.mask_decoder.parameters())
    torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 10])
    model.mask_decoder.iou_token.weight.sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer}


def medsam_content(model: Sam2D) -> dict[str, Any]:
    """Return what MedSAM's training on several devices leaves."""
    weights = {f"module.{name}": value for name, value in model.state_dict().items()}
    return {"model": weights, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3}


@small
@pytest.mark.parametrize(
    ("name", "recognised", "make", "format_", "beside"),
    [
        ("sam_vit_b", "sam_vit_b", lambda model: model.state_dict(), "SAM checkpoint", []),
        ("medsam_vit_b", "sam_vit_b", medsam_content, "MedSAM checkpoint", ["optimizer", "epoch"]),
        (
            "sam_med2d_vit_b",
            "sam_med2d_vit_b",
            med2d_content,
            "SAM-Med2D checkpoint",
            ["optimizer"],
        ),
    ],
)
def test_published_files_give_the_network(
    tmp_path: Path, name: str, recognised: str, make: Any, format_: str, beside: list[str]
) -> None:
    source = small_sam2d(name)
    path = save(make(source), tmp_path / "weights.pth")
    checkpoint = read_checkpoint(path)
    assert (checkpoint.format.name, checkpoint.beside) == (format_, beside)
    assert recognise_network(checkpoint.shapes) == (recognised, {"image_size": 64})
    assert format_ in formats_of(name)
    model = load_model(path)
    assert_equal(model, source)
    report = load_weights(small_sam2d(name, seed=5), path)
    assert report.loaded == list(source.state_dict())
    assert not report.missing + report.unexpected + report.mismatched + report.resized


@small
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_is_read_as_inert(tmp_path: Path, optimizer: Any) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    trained = optimizer([weight], lr=0.5)
    weight.sum().backward()
    trained.step()
    path = save({"model": small_sam2d().state_dict(), "optimizer": trained}, tmp_path / "a.pth")
    stand_in = read_checkpoint(path).content["optimizer"]
    assert type(stand_in) is Inert
    assert stand_in.state["param_groups"][0]["lr"] == 0.5


@small
def test_sam_fills_what_sam_med2d_has_of_it(tmp_path: Path) -> None:
    """Its adapters are twice as large as SAM, which a file of SAM cannot be blamed for."""
    source, model = small_sam2d(), small_sam2d("sam_med2d_vit_b", seed=5)
    adapters = {n: v.clone() for n, v in model.state_dict().items() if ".Adapter." in n}
    for content in (source.state_dict(), medsam_content(source)):
        path = save(content, tmp_path / "sam.pth")
        assert not any(read_checkpoint(path).format.covers(name) for name in adapters)
        report = load_weights(model, path)
        assert report.missing == list(adapters)
        assert_equal_in(model.state_dict(), {**source.state_dict(), **adapters})
    parts = ("image_encoder.neck.0.weight", "image_encoder.patch_embed.proj.weight")
    little = {name: source.state_dict()[name] for name in parts}
    with pytest.raises(ValueError, match="must fill at least half of the network's"):
        load_weights(small_sam2d(), save(little, tmp_path / "little.pth"))


def assert_equal_in(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)


@small
@pytest.mark.parametrize("name", NAMES)
def test_samed_takes_sams_file_and_then_its_own(tmp_path: Path, name: str) -> None:
    source = small_samed(name)
    sam = {n: v for n, v in source.state_dict().items() if ".lora_" not in n}
    sam["mask_decoder.mask_tokens.weight"] = torch.zeros(4, 16)  # as SAM has them
    first = save(sam, tmp_path / "sam.pth")
    second = save(published_content(source.state_dict()), tmp_path / "epoch_159.pth")
    model = small_samed(name, seed=5)
    report = load_weights(model, first)
    assert report.format == "SAM checkpoint"
    assert report.missing == list(lora_state(source))
    assert report.mismatched == ["mask_decoder.mask_tokens.weight"]
    report = load_weights(model, second)
    assert report.format == "SAMed LoRA"
    assert not report.unexpected + report.mismatched + report.resized
    assert set(report.missing) == {
        n
        for n in sam
        if n.startswith("image_encoder.")
        or (name == "samed_s_vit_b" and n.startswith("mask_decoder.transformer."))
    }
    assert_equal(model, source)


@small
@pytest.mark.parametrize("name", NAMES)
def test_names_of_samed_go_there_and_back(name: str) -> None:
    state = small_samed(name).state_dict()
    content = published_content(state)
    again = network_entries(content)
    assert_equal_in(again, {n: state[n] for n in again})
    assert all(torch.equal(value, content[key]) for key, value in published_content(again).items())
    values = state["image_encoder.blocks.1.attn.qkv.lora_b"]  # of queries, of values
    assert torch.equal(content["w_b_002"], values[0])
    assert torch.equal(content["w_b_003"], values[1])
    if name == "samed_s_vit_b":
        layer = "mask_decoder.transformer.layers.1.cross_attn_image_to_token.v_proj"
        assert torch.equal(content["cit_a_003"], state[f"{layer}.lora_a"][0])
        final = "mask_decoder.transformer.final_attn_token_to_image.q_proj"
        assert torch.equal(content["fati_qb"], state[f"{final}.lora_b"][0])
        assert not any("transformer" in key for key in content)
    else:
        assert len([key for key in content if "transformer" in key]) > 20


@small
def test_a_factor_without_its_pair_is_not_taken(tmp_path: Path) -> None:
    content = published_content(small_samed().state_dict())
    lone = {key: value for key, value in content.items() if key != "w_a_003"}
    assert set(network_entries(lone)) & set(content) >= {"w_a_002"}
    with pytest.raises(ValueError, match=r"\(rank 3, .* on 3 layers\), got rank 3, on 2 layers"):
        load_weights(small_samed(seed=5), save(lone, tmp_path / "lora.pth"))


@small
def test_samed_files_tell_their_network_but_its_image_size(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NAMES:
        source = small_samed(name, num_classes=5, rank=2)
        path = save(published_content(source.state_dict()), tmp_path / "lora.pth")
        checkpoint = read_checkpoint(path)
        expected = {"num_classes": 5, "rank": 2}
        assert recognise_network(checkpoint.shapes) == (name, expected)
        assert not checkpoint.beside
        model = load_model(path, image_size=128)
        assert isinstance(model, Samed)
        assert (model.image_size, model.num_classes) == (128, 5)
        assert_equal_in(lora_state(model), lora_state(source))
        assert f"fills only *.lora_[ab] of {name}; the rest is random" in caplog.text


@small
def test_samed_files_need_samed(tmp_path: Path) -> None:
    path = save(published_content(small_samed().state_dict()), tmp_path / "lora.pth")
    with pytest.raises(ValueError, match=r"needs a network with LoRA \(samed_vit_b, .* without"):
        load_weights(small_sam2d(), path)
    with pytest.raises(ValueError, match=r"must be the network's \(rank 2, .* got rank 3"):
        load_weights(small_samed(rank=2), path)


@small
@pytest.mark.parametrize("name", ["medsam_vit_b", "sam_med2d_vit_b", *NAMES])
def test_lightning_files_and_safetensors_hold_whole_networks(tmp_path: Path, name: str) -> None:
    source = small_samed(name) if name in SAMED else small_sam2d(name)
    content = {
        "state_dict": {f"model.{n}": value for n, value in source.state_dict().items()},
        "hyper_parameters": {"model_type": name, "img_size": 64},
    }
    first, second = save(content, tmp_path / "last.ckpt"), tmp_path / "weights.safetensors"
    convert(first, second)
    for path in (first, second):
        model = load_model(path)
        assert_equal(model, source)
        assert type(model) is type(source)
    if name in SAMED:  # whose additions alone do not tell their network
        lora = tmp_path / "lora.safetensors"
        convert(second, lora, "--lora")
        assert_equal_in(lora_state(load_model(lora)), lora_state(source))


@small
@pytest.mark.parametrize("name", ["sam_vit_b", "medsam_vit_b", "sam_med2d_vit_b", *NAMES])
def test_files_are_written_as_their_own_programs_read_them(tmp_path: Path, name: str) -> None:
    source = small_samed(name) if name in SAMED else small_sam2d(name)
    whole, written = tmp_path / "whole.safetensors", tmp_path / "weights.pth"
    values = {"model_type": name}
    write_checkpoint(whole, source.state_dict(), layout="safetensors", values=values)
    convert(whole, written)
    content = torch.load(written, weights_only=True)
    if name == "sam_med2d_vit_b":
        assert content.keys() == {"epoch", "model", "args"}
        content = content["model"]
    expected = source.state_dict()
    if name in SAMED:
        expected = published_content(expected)
        between, again = tmp_path / "lora.safetensors", tmp_path / "again.pth"
        convert(written, between)
        convert(between, again)
        assert_equal_in(torch.load(again, weights_only=True), expected)
    assert_equal_in(dict(content), dict(expected))


@small
@torch.no_grad()
def test_merged_samed_is_a_plain_state_dict(tmp_path: Path) -> None:
    source = small_samed().eval()
    first, merged = save(source.state_dict(), tmp_path / "a.pt"), tmp_path / "merged.pth"
    convert(first, merged, "--merge")
    again = tmp_path / "again.pth"
    convert(merged, again)
    content = torch.load(again, weights_only=True)
    assert not any(".lora_" in name for name in content)
    model = load_model(again)
    assert isinstance(model, Samed)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(image)["masks"], source(image)["masks"], atol=1e-4, rtol=1e-4)


def test_other_networks_have_no_such_layout() -> None:
    weights = build_model("vit_tiny", image_size=32).state_dict()
    with pytest.raises(ValueError, match="samed holds networks of SAMed, got weights without"):
        published_content(weights)
    name = "image_encoder.blocks.0.attn.qkv.lora_a"
    with pytest.raises(ValueError, match=f"{name} must hold 2 additions as in SAMed, got 3"):
        published_content({name: torch.zeros(3, 4, 8)})


@small
@pytest.mark.parametrize(("old", "new"), [(64, 96), (96, 64)])
def test_tables_follow_the_image_size(tmp_path: Path, old: int, new: int) -> None:
    source, model = small_sam2d(image_size=old), small_sam2d(image_size=new, seed=5)
    weights = source.state_dict()
    weights["image_encoder.pos_embed"].copy_(
        torch.arange(old // 16)[:, None, None] + 10 * torch.arange(old // 16)[:, None]
    )
    ramp = torch.arange(2.0 * old // 16 - 1)
    weights["image_encoder.blocks.1.attn.rel_pos_h"].copy_(ramp[:, None])
    report = load_weights(model, save(weights, tmp_path / "sam.pth"))
    attention = "image_encoder.blocks.1.attn"  # the only global one
    assert report.resized == [
        "image_encoder.pos_embed",
        f"{attention}.rel_pos_h",
        f"{attention}.rel_pos_w",
    ]
    grid = model.state_dict()["image_encoder.pos_embed"][0, ..., 0]
    place = ((torch.arange(new // 16) + 0.5) * old / new - 0.5).clamp(0, old // 16 - 1)
    torch.testing.assert_close(grid, place[:, None] + 10 * place)
    length = 2 * new // 16 - 1
    expected = ((torch.arange(length) + 0.5) * len(ramp) / length - 0.5).clamp(0, len(ramp) - 1)
    torch.testing.assert_close(
        model.state_dict()[f"{attention}.rel_pos_h"][:, 3], expected, atol=1e-5, rtol=1e-5
    )


def test_the_networks_are_told_by_the_published_names() -> None:
    for name in ("sam_vit_b", "sam_vit_l", "sam_vit_h", "sam_med2d_vit_b", *NAMES):
        text = (REFERENCE / f"keys_{name}.json").read_text(encoding="utf-8")
        shapes = {key: tuple(shape) for key, shape in json.loads(text)["state_dict"].items()}
        if name in SAMED:
            with torch.device("meta"):
                entries = network_entries({key: torch.empty(s) for key, s in shapes.items()})
            shapes = {key: tuple(value.shape) for key, value in entries.items()}
            expected: dict[str, int] = {"num_classes": 8, "rank": 4}
        else:
            expected = {"image_size": 256 if "med2d" in name else 1024}
        assert recognise_network(shapes) == (name, expected)


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [224, 512])
def test_tables_are_resized_as_published(tmp_path: Path, image_size: int) -> None:
    models = []
    for salt, options in (
        ("golden", {"image_size": 1024, "num_classes": 3}),
        ("golden/target", {"image_size": image_size}),
    ):
        with torch.device("meta"):
            model = build_model("samed_vit_b", **options)
        models.append(seed_weights(model.to_empty(device="cpu"), salt))
    source, target = models
    path = save({n: v for n, v in source.state_dict().items() if ".lora_" not in n}, tmp_path / "a")
    report = load_weights(target, path)
    assert "mask_decoder.mask_tokens.weight" in report.mismatched
    golden = Golden("golden_sam2d.npz", f"resize{image_size}")
    stored = [n for n in target.state_dict() if golden.holds(n)]
    assert len(stored) == 5
    for name in stored:
        golden.check(name, target.state_dict()[name])
        # The absolute tolerance of `check` is coarse for the small values of these tables.
        values = target.state_dict()[name].flatten().numpy()
        index = golden.arrays[f"{golden.case}/{name}/index"]
        expected = golden.arrays[f"{golden.case}/{name}/values"]
        np.testing.assert_allclose(values[index], expected, atol=1e-7, rtol=0)
