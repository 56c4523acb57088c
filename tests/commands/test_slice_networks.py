"""Commands with SAM, SAM-Med2D and MedSAM, which see scans slice by slice."""

import os
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from neurosam3d.__main__ import main
from neurosam3d.commands.evaluate_options import parse_options
from neurosam3d.commands.network import load_network
from neurosam3d.evaluation.report import read_results
from neurosam3d.inference.slice_predictor import SlicePredictor
from tests.models.sam2d_small import SIDE, small_sam2d
from tests.published import lightning_content, save, small_network

REPOSITORY = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.usefixtures("small_vit_b", "quick_pictures")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write a small SAM as it is published."""
    return save(small_sam2d().state_dict(), tmp_path / "sam.pth")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


# How they are fed


@pytest.mark.parametrize(
    ("name", "feeding"),
    [("sam_vit_b", "sam"), ("medsam_vit_b", "medsam"), ("sam_med2d_vit_b", "sam_med2d")],
)
def test_a_published_file_is_fed_as_its_family(tmp_path: Path, name: str, feeding: str) -> None:
    path = save(small_sam2d(name).state_dict(), tmp_path / "sam.pth")
    network = load_network(path, name=name)
    assert (network.spacing, network.intensity, network.axis) == (None, "medsam", "axial")
    assert network.feeding["feeding"] == feeding
    assert "the checkpoint does not say" in str(network)
    predictor = network.predictor(max_windows=1)
    assert isinstance(predictor, SlicePredictor)
    assert (predictor.network.side, predictor.axis) == (SIDE, "axial")


def test_what_a_checkpoint_says_and_what_is_asked_come_first(tmp_path: Path) -> None:
    fed = {"spacing": [2.0, 2.0, 3.0], "intensity": "clip -9 9"}
    fed |= {"axis": "coronal", "feeding": "sam_med2d"}
    content = lightning_content(small_sam2d(), model_type="sam_vit_b", img_size=SIDE, **fed)
    path = save(content, tmp_path / "last.ckpt")
    network = load_network(path)
    assert network.feeding == {**fed, "spacing": (2.0, 2.0, 3.0)}
    assert str(network).endswith("coronal slices, intensities clip -9 9 (as in its training)")
    asked = load_network(path, axis="sagittal", style="slicewise")
    assert (asked.axis, asked.style) == ("sagittal", "slicewise")
    volumes = save(lightning_content(small_network()), tmp_path / "volumes.ckpt")
    with pytest.raises(ValueError, match="--feeding is for networks of slices that take prompts"):
        load_network(volumes, style="sam")


def test_another_image_size_resizes_the_tables(checkpoint: Path) -> None:
    assert load_network(checkpoint, image_size=96).crop_size == 96


# Segment


def test_a_box_is_segmented(
    checkpoint: Path, prepared_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = sorted(prepared_tree.rglob("images*/*.nii.gz"))[0]
    out, weights = tmp_path / "mask.nii.gz", ("--checkpoint", checkpoint)
    assert run("segment", image, "--box", "8,9,6,15,16,12", *weights, "-o", out) == 0
    said = capsys.readouterr().out
    assert "slices" in said
    assert "windows" not in said
    scan, mask = nib.load(image), nib.load(out)
    assert mask.shape == scan.shape
    torch.testing.assert_close(mask.affine, scan.affine, atol=1e-4, rtol=0)


def test_nothing_is_found_without_prompts(
    checkpoint: Path, prepared_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = sorted(prepared_tree.rglob("images*/*.nii.gz"))[0]
    words = ("segment", image, "--automatic", "--checkpoint", checkpoint)
    assert run(*words, "-o", tmp_path / "mask.nii.gz") != 0
    assert "--automatic needs a network of volumes, got sam_vit_b" in capsys.readouterr().err


# Evaluate


def test_the_protocols_of_slices(checkpoint: Path, prepared_tree: Path, tmp_path: Path) -> None:
    names = ("oracle_slices", "propagate")
    words = ("-tdp", prepared_tree, "-dt", "Val", "--classes", "rod", "-nc", "2")
    words += ("--split_num", "2", "--split_idx", "0")
    save_name, masks = tmp_path / "out.json", tmp_path / "masks"
    output = ("--save_name", save_name, "-vp", masks, "--feeding", "slicewise")
    assert run("evaluate", *words, "-cp", checkpoint, "--protocol", *names, *output) == 0
    rounds = {}
    for name in names:
        results = read_results(tmp_path / f"out_{name}_s2i0.json")
        said = results.protocol
        assert (said["name"], said["axis"], said["feeding"]) == (name, "axial", "slicewise")
        assert "max_windows" not in said
        rounds[name] = [(entry.clicks, entry.prompts) for entry in results.cases[0].rounds]
    assert [clicks for clicks, _ in rounds["oracle_slices"]] == [1, 2]
    slices = rounds["oracle_slices"][0][1]
    assert slices is not None
    assert slices > 3
    assert rounds["propagate"] == [(1, 1)]
    assert len(list((masks / "propagate").rglob("*_pred0.nii.gz"))) == 1


def test_protocols_of_slices_need_a_network_of_slices(
    prepared_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = save(lightning_content(small_network(), spacing=None), tmp_path / "volumes.ckpt")
    words = ("-tdp", prepared_tree, "-dt", "Val", "-cp", volumes, "--intensity", "none")
    assert run("evaluate", *words, "--protocol", "box_3d") != 0
    assert "box_3d needs a network of slices, got vit_tiny" in capsys.readouterr().err


def test_the_classic_words_are_understood() -> None:
    options = parse_options(["--dim", "2", "--ft2d", "--image_size", "256", "-nc", "7"])
    assert (options.protocol, options.feeding) == (["oracle_slices"], "slicewise_ft2d")
    assert (options.crop_size, options.num_clicks) == (256, 7)
    assert parse_options(["--dim", "3"]).protocol == ["prompt_roi"]
    for words, message in {
        "--ft2d": "--ft2d is for --dim 2, which was not given",
        "--dim 2 --protocol propagate": "--dim 2 is the protocol oracle_slices, got propagate",
        "--dim 2 --ft2d --feeding sam": "--ft2d is the feeding slicewise_ft2d, got sam",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse_options(words.split())


# Scripts


def words_of(script: str, *given: str, tmp_path: Path) -> list[str]:
    """Return the command line that a script calls Python with."""
    fake = tmp_path / "python"
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", str(REPOSITORY / "scripts" / script), *given],
        env={**os.environ, "PYTHON": str(fake)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("script", "side", "clicks"), [("val_sam.sh", 1024, 10), ("val_med2d.sh", 256, 5)]
)
def test_scripts_evaluate_as_published(script: str, side: int, clicks: int, tmp_path: Path) -> None:
    program, *words = words_of(script, "--device", "cpu", tmp_path=tmp_path)
    options: Any = parse_options(words)
    assert program == "validation.py"
    assert (options.protocol, options.device) == (["oracle_slices"], "cpu")
    assert (options.crop_size, options.num_clicks) == (side, clicks)


def test_the_script_of_medsam_segments(
    tmp_path: Path, checkpoint: Path, prepared_tree: Path
) -> None:
    image, out = sorted(prepared_tree.rglob("images*/*.nii.gz"))[0], tmp_path / "mask.nii.gz"
    given = (str(image), "8,9,6,15,16,12", str(out), "--checkpoint", str(checkpoint))
    flag, package, *words = words_of("medsam_infer.sh", *given, tmp_path=tmp_path)
    assert (flag, package) == ("-m", "neurosam3d")
    assert run(*words) == 0
    assert nib.load(out).shape == nib.load(image).shape
