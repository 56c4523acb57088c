"""The verbs with networks that need no prompts, and 3DSAM-adapter's protocol."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosam3d.__main__ import main
from neurosam3d.checkpoints import load_model
from neurosam3d.commands.trained_network import make_segmenter, plan_unprompted
from neurosam3d.evaluation.report import read_results
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.inference.scan_files import Origin
from neurosam3d.models import build_model
from neurosam3d.volume import read_volume
from tests.evaluation.scans import AFFINES, block, write_pairs
from tests.published import lightning_content, save

pytestmark = pytest.mark.usefixtures("quick_pictures")

CROP = (16, 24, 16)
CLASSES = ("label_1", "tumour")
SPACING = (2.0, 3.0, 2.0)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    model = build_model("segresnet", num_classes=3, crop_size=CROP)
    told = {"model_type": "segresnet", "crop_size": list(CROP), "num_classes": 3}
    fed = {"classes": list(CLASSES), "spacing": list(SPACING), "intensity": "zscore"}
    return save(lightning_content(model, **told, **fed), tmp_path_factory.mktemp("b") / "b.ckpt")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    model = build_model("adapter3d_vit_tiny", crop_size=32)
    told = {"model_type": "adapter3d_vit_tiny", "crop_size": [32, 32, 32]}
    fed = {"spacing": [2.0, 2.0, 3.0], "intensity": "clip 0 3"}
    return save(lightning_content(model, **told, **fed), tmp_path_factory.mktemp("a") / "a.ckpt")


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
    settings = {"spacing": SPACING, "intensity": "zscore", **options}
    segmenter = PromptFreeSegmenter(load_model(checkpoint), CLASSES, **settings)  # type: ignore
    return segmenter.segment(image).labels


def test_a_scan_is_segmented_with_a_table_of_its_classes(
    baseline: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out, picture = scans / "imagesTs/a.nii.gz", tmp_path / "o.nii.gz", tmp_path / "o.png"
    words = ("--window_overlap", 0.25, "--mirror", "--save_picture", picture)
    assert run("segment", image, "--checkpoint", baseline, "-o", out, *words) == 0
    found, scan = read_volume(out), read_volume(image)
    labels = expected(baseline, image, overlap=0.25, mirror=True)
    assert found.grid.same_as(scan.grid)
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(found.data[0], labels)
    told = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert [(one["name"], one["result"]["value"]) for one in told["objects"]] == [
        ("label_1", 1),
        ("tumour", 2),
    ]
    assert [one["result"]["voxels"] for one in told["objects"]] == [
        (labels == value).sum() for value in (1, 2)
    ]
    assert picture.is_file()
    assert "segmenting" in capsys.readouterr().out


def test_a_folder_of_scans_needs_no_prompts_either(
    baseline: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("segment", scans / "imagesTs", "--checkpoint", baseline, "-o", out) == 0
    for case in ("a", "b"):
        image = scans / "imagesTs" / f"{case}.nii.gz"
        found = read_volume(out / f"{case}.nii.gz").data[0]
        np.testing.assert_array_equal(found, expected(baseline, image))


def test_a_trained_network_writes_the_scans_of_a_folder(
    baseline: Path, scans: Path, tmp_path: Path
) -> None:
    planned = plan_unprompted(scans / "imagesTs", tmp_path / "p", origin=Origin("segresnet", {}))
    assert list(planned.jobs) == ["a.nii.gz", "b.nii.gz"]
    model = load_model(baseline)
    feeding = {"spacing": SPACING, "intensity": "zscore"}
    options = {"overlap": 0.5, "weighting": "gaussian", "mirror": False}
    planned.segment(make_segmenter(model, CLASSES, **feeding, **options), "b.nii.gz")  # type: ignore
    found = read_volume(tmp_path / "p/b.nii.gz").data[0]
    np.testing.assert_array_equal(found, expected(baseline, scans / "imagesTs/b.nii.gz"))


def test_it_is_judged_by_the_automatic_protocol(
    baseline: Path, scans: Path, tmp_path: Path
) -> None:
    save_name, vis = tmp_path / "r.json", tmp_path / "vis"
    words = ("--protocol", "automatic", "-cp", baseline, "-tdp", scans, "--overlap", 0.25)
    assert run("evaluate", *words, "--save_name", save_name, "-vp", vis) == 0
    found = read_results(save_name)
    assert [(case.class_name, case.case) for case in found.cases] == [
        ("label_1", "a"),
        ("label_1", "b"),
    ]
    labels = expected(baseline, scans / "imagesTs/a.nii.gz", overlap=0.25) == 1
    dice = 2 * (labels * block()).sum() / (labels.sum() + block().sum())
    assert [(entry.clicks, entry.dice) for entry in found.cases[0].rounds] == [(0, dice)]
    said = found.protocol
    assert (said["name"], said["model"], said["crop_size"]) == ("automatic", "segresnet", [*CROP])
    assert (said["overlap"], said["mirror"], said["tolerance_mm"]) == (0.25, False, 5.0)
    assert not {"num_clicks", "click_rule", "max_windows", "seed"} & set(said)
    assert len(list(vis.rglob("*_pred.nii.gz"))) == 2


def test_an_adapter_is_judged_by_its_protocol(adapter: Path, scans: Path, tmp_path: Path) -> None:
    save_name = tmp_path / "r.json"
    words = ("--protocol", "adapter3d", "-cp", adapter, "-tdp", scans, "--save_name", save_name)
    assert run("evaluate", *words, "--num_prompts", 4, 1, "--max_windows", 1) == 0
    found = read_results(save_name)
    assert {tuple(entry.clicks for entry in case.rounds) for case in found.cases} == {(1, 4)}
    said = found.protocol
    assert (said["name"], said["num_prompts"], said["tolerance_mm"]) == ("adapter3d", [1, 4], 5.0)
    assert (said["max_windows"], said["crop_size"]) == (1, 32)
    assert (said["intensity"], said["click_rule"]) == ("clip 0 3", "uniform, with replacement")


def test_an_adapter_segments_by_clicks(adapter: Path, scans: Path, tmp_path: Path) -> None:
    image, out = scans / "imagesTs/a.nii.gz", tmp_path / "o.nrrd"
    words = ("segment", image, "--checkpoint", adapter, "-o", out, "--max_windows", 2)
    assert run(*words, "--point", "12,11,14", "--point", "2,2,2,0") == 0
    assert read_volume(out).grid.same_as(read_volume(image).grid)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment", "{a}", "-o", "{o}", "--point", "1,1,1"], "prompts need a promptable network"),
        (["segment", "{a}", "-o", "{o}", "--automatic"], "got segresnet in"),
        (["evaluate", "--protocol", "prompt_roi", "-tdp", "{s}"], "by itself"),
        (["evaluate", "--protocol", "automatic", "-tdp", "{s}", "--repeats", "2"], "of repeats"),
        (["segment", "{a}", "-o", "{o}", "--window_overlap", "1"], "overlap must be at least 0"),
    ],
)
def test_what_does_not_suit_the_network_is_told_in_one_sentence(
    baseline: Path,
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    names = {"a": scans / "imagesTs/a.nii.gz", "o": tmp_path / "o.nii.gz", "s": scans}
    assert run(*(word.format(**names) for word in words), *_network(words, baseline)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert sentence in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment", "{a}", "-o", "{o}"], "segment needs a prompt: --point"),
        (["segment", "{a}", "-o", "{o}", "--point", "1,1,1", "--mirror"], "--mirror is for"),
        (["evaluate", "--protocol", "automatic", "-tdp", "{s}"], "which needs prompts"),
    ],
)
def test_what_a_promptable_network_cannot_do_is_told_too(
    adapter: Path,
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    test_what_does_not_suit_the_network_is_told_in_one_sentence(
        adapter, scans, tmp_path, capsys, words, sentence
    )


def _network(words: list[str], checkpoint: Path) -> list[str]:
    return ["--checkpoint" if words[0] == "segment" else "-cp", str(checkpoint)]
