"""`neurosam3d evaluate`: options, results, and how it ends; `validation.py` and `test.py` too."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from neurosam3d.__main__ import main
from neurosam3d.commands.evaluate_options import parse_options, parse_spacing
from neurosam3d.evaluation.report import read_results
from neurosam3d.shipped import CHECKOUT_CONFIGS
from tests.evaluation.scans import block, without_seconds
from tests.published import lightning_content, save, small_network

REPOSITORY = Path(__file__).parent.parent.parent
SAMPLE = REPOSITORY / "tests" / "sample"
Evaluate = Callable[..., int]

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write the weights of a tiny network, fed with coarse voxels so that it is quick."""
    told = {"mask_stride": 4, "box_prompts": False, "published_quirks": True}
    fed = {"intensity": "sam_med3d", "spacing": (4.0, 4.0, 6.0)}
    return save(lightning_content(small_network(3), **told, **fed), tmp_path / "tiny.ckpt")


@pytest.fixture
def evaluate(checkpoint: Path, prepared_tree: Path, tmp_path: Path) -> Evaluate:
    """Return a function that evaluates the toy validation set and returns the exit code."""

    def run(*words: str, save_name: str = "result.json", network: bool = True) -> int:
        options = ["-tdp", str(prepared_tree), "-dt", "Val", "-nc", "2"]
        options += ["--save_name", str(tmp_path / save_name)]
        options += ["-cp", str(checkpoint)] * network
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", *options, *words])
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return run


def protocol_of(path: Path) -> Any:
    return read_results(path).protocol


# Options


def test_short_and_long_flags_are_the_documented_ones() -> None:
    short = "-vp v -cp c -tdp t -nc 3 --save_name s.py --seed 7 -mt vit_b_ori -pm ritm -dt Val"
    rest = "--crop_size 96 --device cpu --threshold 50 --split_idx 1 --split_num 4"
    options = parse_options([*short.split(), *rest.split(), "--skip_existing_pred"])
    long = (
        "--vis_path v --checkpoint_path c --test_data_path t --num_clicks 3 --save_name s.py "
        "--seed 7 --model_type vit_b_ori --point_method ritm --data_type Val"
    )
    assert options == parse_options([*long.split(), *rest.split(), "--skip_existing_pred"])
    assert (options.num_clicks, options.point_method, options.data_type) == (3, "ritm", "Val")
    assert (options.crop_size, options.threshold, options.split_num) == (96, 50.0, 4)


def test_defaults_are_the_published_ones() -> None:
    options = parse_options([])
    assert (options.num_clicks, options.seed, options.point_method) == (5, 2023, "default")
    assert (options.data_type, options.threshold, options.protocol) == ("Ts", 0.0, ["prompt_roi"])


def test_the_shipped_file_holds_every_option_and_the_defaults() -> None:
    path = CHECKOUT_CONFIGS / "evaluate" / "evaluate.yaml"
    options, plain = vars(parse_options(["--config", "evaluate.yaml"])), vars(parse_options([]))
    keys = set(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert keys == set(options) - {"config", "debug"}
    assert {key for key in keys if options[key] != plain[key]} == {"checkpoint_path", "vis_path"}


@pytest.mark.parametrize(
    ("words", "spacing"),
    [(None, None), (["native"], "native"), (["1", "1.5", "3"], (1.0, 1.5, 3.0))],
)
def test_a_spacing_is_three_lengths_or_native(words: Any, spacing: Any) -> None:
    assert parse_spacing(words) == spacing


def test_an_unfit_option_is_refused() -> None:
    with pytest.raises(ValueError, match="must be three lengths in mm or native, got 1 2"):
        parse_spacing(["1", "2"])
    with pytest.raises(argparse.ArgumentError, match="invalid choice: 'union'"):
        parse_options(["--protocol", "union"])


# What comes out


def test_results_say_how_they_came_about(
    evaluate: Evaluate, checkpoint: Path, prepared_tree: Path, tmp_path: Path
) -> None:
    assert evaluate("--spacing", "5", "5", "8", "--threshold", "9", "--max_windows", "2") == 0
    said = protocol_of(tmp_path / "result.json")
    assert len(said.pop("checkpoint_sha256")) == 64
    assert said.pop("neurosam3d")
    assert said == {
        "name": "prompt_roi",
        "click_rule": "default",
        "seed": 2023,
        "model": "vit_tiny",
        "checkpoint": str(checkpoint),
        "crop_size": 32,
        "spacing": [5.0, 5.0, 8.0],
        "intensity": "sam_med3d",
        "max_windows": 2,
        "num_clicks": 2,
        "repeats": 1,
        "tolerance_mm": 1.0,
        "threshold_mm3": 9.0,
        "classes": [],
        "data": str(prepared_tree),
        "labels": None,
        "set": "Val",
        "datasets": [],
        "channel": 0,
        "left_out": [],
        "unreadable": [],
    }


def test_the_network_is_fed_as_its_checkpoint_says(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate() == 0
    said = protocol_of(tmp_path / "result.json")
    assert (said["spacing"], said["intensity"]) == ([4.0, 4.0, 6.0], "sam_med3d")
    assert evaluate("--spacing", "native", "--intensity", "none", "--crop_size", "48") == 0
    said = protocol_of(tmp_path / "result.json")
    assert (said["spacing"], said["intensity"], said["crop_size"]) == ("native", "none", 48)


def test_several_protocols_have_a_result_and_a_folder_each(
    evaluate: Evaluate, prepared_tree: Path, tmp_path: Path
) -> None:
    vis = tmp_path / "vis"
    assert evaluate("--protocol", "oracle_roi", "prompt_roi", "-vp", str(vis)) == 0
    for name in ("oracle_roi", "prompt_roi"):
        assert protocol_of(tmp_path / f"result_{name}.json")["name"] == name
        folder = vis / name / "Toy_Val" / "ball"
        image = nib.load(prepared_tree / "Toy/imagesVal/toy_Val0.nii.gz")
        for kind in ("pred0", "pred1", "clicks0", "clicks1"):
            written = nib.load(folder / f"toy_Val0_{kind}.nii.gz")
            assert written.shape == image.shape
            np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
            assert written.get_data_dtype() == np.uint8
        assert (folder / "toy_Val0_clicks.json").is_file()
    assert not (tmp_path / "result.json").exists()


def test_parts_carry_their_numbers(evaluate: Evaluate, tmp_path: Path) -> None:
    for index in range(3):
        code = evaluate("--split_num", "3", "--split_idx", str(index), save_name="r.py")
        assert code == 0  # two scans make two parts, the third is empty
        part = read_results(tmp_path / f"r_s3i{index}.json")
        assert (part.protocol["split_num"], part.protocol["split_idx"]) == (3, index)
        assert {case.case for case in part.cases} == ({f"toy_Val{index}"} if index < 2 else set())
    assert (tmp_path / "r_s3i0.py").is_file()


def test_masks_can_be_scored_without_a_network(evaluate: Evaluate, tmp_path: Path) -> None:
    vis = ["-vp", str(tmp_path / "vis")]
    assert evaluate(*vis) == 0
    assert evaluate(*vis, "--skip_existing_pred", network=False, save_name="again.json") == 0
    first, again = (read_results(tmp_path / f"{name}.json") for name in ("result", "again"))
    assert without_seconds(first.cases) == without_seconds(again.cases)
    assert "checkpoint" not in again.protocol


def test_a_file_of_options_is_read_and_flags_win(evaluate: Evaluate, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("{num_clicks: 4, repeats: 2, datasets: [Toy]}", encoding="utf-8")
    assert evaluate("--config", str(path)) == 0
    said = protocol_of(tmp_path / "result.json")
    assert (said["num_clicks"], said["repeats"], said["datasets"]) == (2, 2, ["Toy"])


def test_a_broken_scan_is_told_at_once_and_the_rest_goes_on(
    evaluate: Evaluate,
    prepared_tree: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scan = prepared_tree / "Toy/imagesVal/toy_Val0.nii.gz"
    scan.write_bytes(scan.read_bytes()[:3000])
    assert evaluate() == 1
    assert f"error: cannot read {scan}" in capfd.readouterr().err
    results = read_results(tmp_path / "result.json")
    assert [case.case for case in results.cases] == ["toy_Val1"] * 2
    assert [entry["path"] for entry in results.protocol["unreadable"]] == [str(scan)]


def test_objects_left_out_are_told(
    evaluate: Evaluate, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--threshold", "100000") == 1
    shown = capfd.readouterr()
    assert shown.out.count("left out: toy_Val") == 4
    assert "error: no object of 2 scans was judged" in shown.err


def test_challenge_cases_are_judged_by_the_challenges_protocol(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder, name, entries in (
        ("cases", "a", {"imgs": 200 * block(), "spacing": [3.0, 1.0, 1.0]}),
        ("truths", "a", {"gts": block()}),
    ):
        (tmp_path / folder).mkdir()
        np.savez_compressed(tmp_path / folder / f"{name}.npz", **entries)
    words = ["--protocol", "cvpr25", "-cp", str(checkpoint), "-tdp", str(tmp_path / "cases")]
    words += ["--labels", str(tmp_path / "truths"), "-vp", str(tmp_path / "vis")]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *words, "--save_name", str(tmp_path / "r.json"), "--max_windows", "1"])
    assert stop.value.code == 0, capfd.readouterr().err
    results = read_results(tmp_path / "r.json")
    assert {**results.protocol, "num_clicks": 5, "tolerance_mm": 2.0} == results.protocol
    (case,) = results.cases
    assert [entry.clicks for entry in case.rounds] == [0, 1, 2, 3, 4, 5]
    assert len(list((tmp_path / "vis/cases_Ts").glob("a_pred?.nii.gz"))) == 5  # no box, no answer


# How it ends


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-nc", "0"], "num_clicks must be at least 1, got 0"),
        (["-nc", "x"], "argument -nc/--num_clicks: invalid int value: 'x'"),
        (
            ["--split_idx", "2"],
            "split_idx must be one of split_num parts counted from 0, got 2 of 1",
        ),
        (["-dt", "Ts"], "must hold a prepared tree or one of the layouts"),
        (["-cp", "gone.pth"], "gone.pth"),
        (["--device", "cuda:99"], "--device must be there"),
        (["--config", "gone.yaml"], "--config must be a file or a shipped one (evaluate.yaml)"),
        (["--skip_existing_pred"], "existing predictions can only be scored where --vis_path says"),
        (["--groups", "gone.yaml"], "gone.yaml"),
        (["--protocol", "cvpr25", "prompt_roi"], "cvpr25 has data of its own and stands alone"),
        (["--protocol", "cvpr25"], "cvpr25 leaves no choice of num_clicks, got 2"),
        (["--protocol", "cvpr25", "-nc", "5"], "cvpr25 needs cases, .npz files, got none at"),
        (["--intensity", "bright"], "unknown intensity preset 'bright'; known: sam_med3d"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    words: list[str], sentence: str, evaluate: Evaluate, capfd: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*words) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert sentence in lines[0]


def test_a_network_is_needed(evaluate: Evaluate, capfd: pytest.CaptureFixture[str]) -> None:
    assert evaluate(network=False) == 2
    assert "evaluate needs a network to judge: -cp, --checkpoint_path" in capfd.readouterr().err


def test_another_checkpoint_does_not_go_on_with_a_run(
    evaluate: Evaluate,
    checkpoint: Path,
    prepared_tree: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (prepared_tree / "Toy/labelsVal/rod/toy_Val1.nii.gz").write_bytes(b"")
    assert evaluate() == 1
    told = {"mask_stride": 4, "box_prompts": False, "published_quirks": True}
    save(lightning_content(small_network(4), **told), checkpoint)
    assert evaluate() == 2
    assert "is of an unfinished evaluation with checkpoint_sha256" in capfd.readouterr().err
    assert evaluate("--restart") == 1


# As a user calls it


def run_script(script: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / script), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_validation_judges_the_real_sample(checkpoint: Path, tmp_path: Path) -> None:
    words = ["-vp", "vis", "-cp", checkpoint.name, "-nc", "2", "-dt", "Tr", "--save_name", "r.py"]
    words += ["-tdp", str(SAMPLE / "AMOS"), "--spacing", "12", "12", "12", "--threshold", "100000"]
    finished = run_script("validation.py", *words, folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "results: r.json, r.csv, r.md, r.html, r.py" in finished.stdout
    results = read_results(tmp_path / "r.json")
    assert [case.class_name for case in results.cases] == ["label_6", "label_7"]  # liver, stomach
    assert {case.dataset for case in results.cases} == {"AMOS"}
    assert len(results.protocol["left_out"]) == 10
    assert all(len(case.rounds) == 2 for case in results.cases)
    assert len(list((tmp_path / "vis/AMOS_Tr").rglob("*_pred1.nii.gz"))) == len(results.cases)
    assert len(list((tmp_path / "r_worst").glob("*.png"))) == len(results.cases)
    classic = (tmp_path / "r.py").read_text(encoding="utf-8")
    assert "dice_Ts = {" in classic


def test_test_takes_its_flags(tmp_path: Path) -> None:
    words = ["--seed", "1", "-vp", "vis", "-cp", "gone.pth", "-tdp"]
    finished = run_script("test.py", *words, str(SAMPLE / "AMOS"), "-nc", "5", folder=tmp_path)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert "must hold a prepared tree or one of the layouts imagesTs and labelsTs" in line


@pytest.mark.parametrize(
    ("gpus", "codes", "ends"),
    [
        ("", [0], 0),
        ("0\n1\n3", [0, 1, 0], 1),
        ("0 0", [0, 2], 2),
    ],
)
def test_val_sh_shares_the_scans_among_gpus(
    gpus: str, codes: list[int], ends: int, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"""#!/usr/bin/env {sys.executable}
import json, sys
from pathlib import Path
words = sys.argv[1:]
part = words[words.index("--split_idx") + 1] if "--split_idx" in words else "sum"
(Path({str(tmp_path)!r}) / f"{{part}}.json").write_text(json.dumps(words))
sys.exit({codes}[int(part)] if part != "sum" else 0)
""",
        encoding="utf-8",
    )
    python.chmod(0o755)
    finished = subprocess.run(
        ["bash", str(REPOSITORY / "val.sh"), "-nc", "9"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python), "GPUS": gpus, "SAVE_NAME": "r"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == ends, finished.stderr
    devices = [f"cuda:{gpu}" for gpu in gpus.split()] or ["cpu"]
    for index, device in enumerate(devices):
        words = json.loads((tmp_path / f"{index}.json").read_text(encoding="utf-8"))
        options = parse_options(words[1:])
        assert words[0] == "validation.py"
        assert (options.device, options.split_num, options.split_idx) == (
            device,
            len(devices),
            index,
        )
        assert options.num_clicks == 9
    summary = tmp_path / "sum.json"
    assert summary.exists() == (ends <= 1)
    if summary.exists():
        num = len(devices)
        names = [f"r_s{num}i{n}.json" for n in range(num)] if num > 1 else ["r.json"]
        assert json.loads(summary.read_text(encoding="utf-8")) == ["sum_result.py", *names]
