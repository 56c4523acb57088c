"""The benchmarks: their plain readings say what the networks say, and their program runs."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import benchmarks.__main__ as program
from benchmarks import gpu, measure_network, profile
from benchmarks.plain_readings import plain_encoder
from benchmarks.report import gpu_table, network_table
from neurosam3d.models import build_model
from neurosam3d.models.hiera3d import Hiera3D, Hiera3DConfig

HIERA = Hiera3DConfig(
    dim=8,
    num_heads=2,
    depths=(1, 2, 2, 1),
    windows=(8, 4, 6, 3),
    global_blocks=(3,),
    position_side=5,
    out_dim=12,
)
ROW = {
    "network": "vit_b_ori",
    "item": "step, recomputing",
    "gemms": 27.0,
    "gemm_seconds": 0.1,
    "peak_mib": 1234.5,
    "threads": 2,
}


def make_encoder(kind: str) -> nn.Module:
    if kind == "hiera":
        return Hiera3D(HIERA, image_size=96, published_quirks=True)
    model = build_model(kind, image_size=32, model_cfg={"student": {"arch": "vit_tiny_3d"}})
    return model.get_submodule("image_encoder")


@pytest.mark.parametrize("kind", ["hiera", "dinov2"])  # the ViT's: tests/models/test_vit3d.py
def test_plain_readings_say_what_the_encoders_say(kind: str) -> None:
    encoder = make_encoder(kind).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=0.2, generator=generator)
        side = encoder.image_size
        image = torch.randn(2, 1, side, side, side, generator=generator, dtype=torch.float64)
        expected = plain_encoder(encoder, image)
        torch.testing.assert_close(encoder(image), expected)
    assert expected.std() > 0.1


def test_an_unknown_encoder_has_no_plain_reading() -> None:
    with pytest.raises(TypeError, match="must be a ViT, Hiera or DINOv2, got Linear"):
        plain_encoder(nn.Linear(1, 1), torch.zeros(1))


@pytest.mark.parametrize("item", ["encoder", "click", "step, recomputing"])
def test_an_item_is_measured(
    item: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure_network, "NUM_CLICKS", 2)
    monkeypatch.setattr(measure_network, "plain_encoder", lambda encoder, image: encoder(image) + 1)
    monkeypatch.setattr(sys, "argv", ["", "vit_tiny", item, "--image-size", "32", "--repeats", "1"])
    measure_network.main()
    row = json.loads(capsys.readouterr().out)
    assert row["gemms"] == pytest.approx(row["seconds"] / row["gemm_seconds"])
    assert row["peak_mib"] > 100
    if item == "encoder":
        assert row["plain_gemms"] > 0
        assert row["difference"] == pytest.approx(1, abs=1e-5)


def test_tables_set_figures_beside_those_of_the_published_program() -> None:
    plain = {**ROW, "item": "encoder", "gemms": 8.0, "plain_gemms": 80.0}
    table = network_table([ROW, plain, {**ROW, "network": "dinov2"}])
    assert table.rows[0] == (
        *("`vit_b_ori`, step, recomputing", "27", "", "", "270", "10"),
        *("1234", "6090", "0.100"),
    )
    assert table.rows[1][1:6] == ("8", "80", "10", "124", "15.5")
    assert table.rows[2][4] == ""
    lines = table.markdown().splitlines()
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert table.rich().row_count == 3


def test_the_program_writes_what_it_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def run(module: str, *arguments: str) -> list[dict[str, Any]]:
        asked.append((module, *arguments))
        return [{key: ROW[key] for key in ("gemms", "gemm_seconds", "peak_mib", "threads")}]

    monkeypatch.setattr(program, "_run", run)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "new" / "bench.json"
    options = ["--networks", "vit_b", "--items", "click", "step", "--markdown"]
    monkeypatch.setattr(sys, "argv", ["", *options, "--output", str(output)])
    program.main()
    assert asked == [("measure_network", "vit_b", i, "--repeats", "3") for i in ("click", "step")]
    written = json.loads(output.read_text(encoding="utf-8"))
    assert [row["item"] for row in written["rows"]] == ["click", "step"]
    assert written["gpu_rows"] is None
    assert "| any network | not measured |" in capsys.readouterr().out


def test_what_a_gpu_would_measure_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "NUM_CLICKS", 1)
    options = {"device": "cpu", "image_size": 32, "compiled": False}
    row = gpu.measure_training("vit_tiny", batch=2, peak=1.0, **options)
    operations = gpu.count_step("vit_tiny", image_size=32)
    assert row["utilisation"] == pytest.approx(row["samples_per_second"] * operations / 1e12)
    clicks = gpu.measure_clicks("vit_tiny", **options)
    assert clicks["clicks_per_second"] > 0
    cells = gpu_table([row, {**clicks, "compiled": True}]).rows
    assert [cell[0] for cell in cells] == ["`vit_tiny`", "`vit_tiny`, compiled"]
    assert gpu.peak_tflops("NVIDIA H200") == 989
    assert gpu.peak_tflops("an unknown device") is None


def test_top_operators_of_a_matrix_product() -> None:
    a = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    operators = profile.top_operators(lambda: a @ a)
    assert operators[0][0] == "aten::mm"
    assert sum(share for _, share in operators) == pytest.approx(1, abs=1e-3)
