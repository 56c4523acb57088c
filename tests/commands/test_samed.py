"""The verbs with SAMed: a network of slices without prompts, in one file or in two."""

import json
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.__main__ import main
from neurosam3d.checkpoint_sam2d import published_content
from neurosam3d.checkpoints import load_model
from neurosam3d.commands.network import load_network
from neurosam3d.commands.trained_network import make_slice_segmenter, plan_unprompted
from neurosam3d.evaluation.report import read_results
from neurosam3d.inference.scan_files import Origin
from neurosam3d.inference.slice_segmenter import SliceSegmenter
from neurosam3d.models import build_model
from neurosam3d.volume import read_volume
from tests.evaluation.scans import AFFINES, block, write_pairs
from tests.models.sam2d_small import SIDE, small_sam2d, small_samed
from tests.published import lightning_content, save

pytestmark = pytest.mark.usefixtures("quick_pictures", "small_vit_b")

CLASSES = ("label_1", "tumour")
FED = {"spacing": None, "intensity": "clip 0 3", "axis": "coronal", "detail": 20}


@pytest.fixture
def samed(tmp_path: Path) -> Path:
    told = {"model_type": "samed_vit_b", "img_size": SIDE, "classes": list(CLASSES)}
    return save(lightning_content(small_samed(seed=8), **told, **FED), tmp_path / "samed.ckpt")


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    base = save(small_sam2d(seed=5).state_dict(), tmp_path / "sam_vit_b.pth")
    additions = published_content(small_samed(seed=8).state_dict())
    return base, save(additions, tmp_path / "epoch_159.pth")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    noise = np.random.default_rng(1).random(block().shape)
    pairs = {case: (block() * 2 + noise, block()) for case in ("a", "b")}
    return write_pairs(tmp_path, pairs, affine=AFFINES["permuted, oblique"])


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def expected(checkpoint: Path, image: Path, **options: object) -> np.ndarray:
    segmenter = SliceSegmenter(load_model(checkpoint), CLASSES, **{**FED, **options})  # type: ignore
    return segmenter.segment(image).labels


def test_a_scan_is_segmented_as_in_the_training(samed: Path, scans: Path, tmp_path: Path) -> None:
    image, out = scans / "imagesTs/a.nii.gz", tmp_path / "o.nii.gz"
    assert run("segment", image, "--checkpoint", samed, "-o", out) == 0
    labels = expected(samed, image)
    assert len(np.unique(labels)) > 1
    found = read_volume(out)
    assert found.grid.same_as(read_volume(image).grid)
    np.testing.assert_array_equal(found.data[0], labels)
    told = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in told["objects"]] == list(CLASSES)
    assert "coronal" in (tmp_path / "o.json").read_text(encoding="utf-8")


def test_what_is_asked_comes_first(samed: Path, scans: Path, tmp_path: Path) -> None:
    image, out = scans / "imagesTs/a.nii.gz", tmp_path / "o.nii.gz"
    words = ("--axis", "sagittal", "--detail", 0, "--no-smooth")
    assert run("segment", image, "--checkpoint", samed, "-o", out, *words) == 0
    labels = expected(samed, image, axis="sagittal", detail=None, smooth=False)
    np.testing.assert_array_equal(read_volume(out).data[0], labels)
    assert (labels != expected(samed, image)).any()
    network = load_network(samed, axis="axial", detail=0)
    assert str(network).endswith(
        "the scan's own spacing, axial slices, intensities clip 0 3 (asked)"
    )
    assert (network.classes, network.is_promptable, network.crop_size) == (CLASSES, False, SIDE)


def test_a_training_that_names_no_detail_had_all_of_it(tmp_path: Path) -> None:
    told = {"model_type": "samed_vit_b", "img_size": SIDE, "spacing": None, "intensity": "zscore"}
    network = load_network(save(lightning_content(small_samed(), **told), tmp_path / "s.ckpt"))
    assert (network.detail, network.axis, network.origin) == (None, "axial", "as in its training")


def test_it_is_judged_with_the_figures_of_its_paper(
    samed: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_name, vis = tmp_path / "r.json", tmp_path / "vis"
    words = ("--protocol", "automatic", "--legacy", "samed", "-cp", samed, "-tdp", scans)
    assert run("evaluate", *words, "--save_name", save_name, "-vp", vis) == 0
    found = read_results(save_name)
    assert [(case.class_name, case.case) for case in found.cases] == [
        ("label_1", "a"),
        ("label_1", "b"),
    ]
    labels = expected(samed, scans / "imagesTs/a.nii.gz") == 1
    dice = 2 * (labels * block()).sum() / (labels.sum() + block().sum())
    entry = found.cases[0].rounds[0]
    assert (entry.clicks, entry.dice, entry.legacy_dice) == (0, dice, dice)
    said = found.protocol
    assert (said["axis"], said["detail"], said["smooth"]) == ("coronal", 20, True)
    assert (said["legacy_figures"], said["spacing"]) == ("samed", "native")
    assert not {"overlap", "mirror", "max_windows"} & set(said)
    summary = json.loads(save_name.read_text(encoding="utf-8"))["summary"]["legacy_figures"]
    assert summary["by_class"]["label_1"]["volumes"] == 2
    assert "As SAMed reports it" in capsys.readouterr().out
    written = next(vis.rglob("a_pred.nii.gz"))
    assert read_volume(written).grid.same_as(read_volume(scans / "imagesTs/a.nii.gz").grid)


def test_a_published_file_needs_sams(
    two_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    base, additions = two_files
    assert run("segment", base, "--checkpoint", additions, "-o", "o.nii.gz") == 2
    assert (
        "epoch_159.pth (SAMed LoRA) holds a part of samed_vit_b without" in capsys.readouterr().err
    )
    network = load_network(additions, base=base, image_size=SIDE)
    assert (network.intensity, network.detail, network.axis) == ("clip -125 275", 224, "axial")
    assert network.classes == ("label_1", "label_2")
    assert "sam_vit_b.pth and" in str(network)
    assert "as its family was trained" in str(network)


def test_two_files_are_judged_together(
    two_files: tuple[Path, Path], scans: Path, tmp_path: Path
) -> None:
    base, additions = two_files
    words = ("--protocol", "automatic", "-cp", additions, "--base", base, "--crop_size", SIDE)
    save_name = tmp_path / "r.json"
    assert run("evaluate", *words, "-tdp", scans, "--save_name", save_name) == 0
    said = read_results(save_name).protocol
    assert len({said["checkpoint_sha256"], said["base_sha256"]}) == 2
    assert said["crop_size"] == SIDE


def test_a_plan_takes_it(two_files: tuple[Path, Path], scans: Path, tmp_path: Path) -> None:
    base, additions = two_files
    plan = tmp_path / "plan.yaml"
    method = {"name": "SAMed", "checkpoint": str(additions), "base": str(base), "crop_size": SIDE}
    content = {"test_data_path": str(scans), "pictures": 0, "out": str(tmp_path / "out")}
    content |= {"overlap": 0.5, "mirror": True}  # of methods that see windows
    plan.write_text(json.dumps({**content, "clicks": [1], "methods": [method]}), encoding="utf-8")
    assert run("compare", "--plan", plan) == 0
    (result,) = (tmp_path / "out/SAMed").glob("*.json")
    assert read_results(result).protocol["name"] == "automatic"


def test_a_trained_network_writes_the_scans_of_a_folder(
    samed: Path, scans: Path, tmp_path: Path
) -> None:
    planned = plan_unprompted(scans / "imagesTs", tmp_path / "p", origin=Origin("samed_vit_b", {}))
    segmenter = make_slice_segmenter(load_model(samed), CLASSES, **FED)  # type: ignore[arg-type]
    planned.segment(segmenter, "b.nii.gz")
    found = read_volume(tmp_path / "p/b.nii.gz").data[0]
    np.testing.assert_array_equal(found, expected(samed, scans / "imagesTs/b.nii.gz"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment", "{a}", "-o", "{o}", "--mirror"], "overlap and mirror are for networks of win"),
        (["segment", "{a}", "-o", "{o}", "--window_overlap", "0.5"], "one slice after the other"),
        (["segment", "{a}", "-o", "{o}", "--point", "1,1,1"], "which segments label_1, tumour by"),
        (["segment", "{a}", "-o", "{o}", "--detail", "-3"], "detail must be at least 1, got -3"),
        (["segment", "{a}", "-o", "{o}", "--base", "{c}"], "a base holds a whole network"),
        (["evaluate", "--protocol", "cvpr25", "--legacy", "samed"], "leaves no choice of legacy"),
    ],
)
def test_what_does_not_suit_it_is_told_in_one_sentence(
    samed: Path,
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    places = {"a": scans / "imagesTs/a.nii.gz", "o": tmp_path / "o.nii.gz", "c": samed}
    flag = "--checkpoint" if words[0] == "segment" else "-cp"
    assert run(*(word.format(**places) for word in words), flag, samed) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert sentence in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "axial"}, "--axis is for networks of slices, got"),
        ({"detail": 64}, "--detail is for networks of slices without prompts, got"),
    ],
)
def test_other_networks_have_no_slices(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    model = build_model("segresnet", num_classes=2, crop_size=(16, 16, 16))
    told = {"model_type": "segresnet", "crop_size": [16, 16, 16], "num_classes": 2}
    content = lightning_content(model, **told, spacing=None, intensity="none")
    path = save(content, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match=message):
        load_network(path, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="smooth is for networks of slices, got segresnet"):
        load_network(path).segmenter(smooth=False)
