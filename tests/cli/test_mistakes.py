"""Mistakes end in one sentence and exit code 2, bugs in a traceback."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from neurosam3d.checks import check_set_names
from neurosam3d.cli import main, run
from neurosam3d.data.case import check_entry
from neurosam3d.mistakes import told_in_one_sentence
from neurosam3d.training.promptable import NeuroSamModel


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment"], "the command must begin with one of fit, validate, test, predict, got 'segm"),
        (["--model.lr=1", "fit"], "must begin with one of fit, validate, test, predict, got '--m"),
        (["fit", "--config"], "--config must be followed by a value"),
        (["fit", "--config=dem.yaml"], "got 'dem.yaml'; did you mean demo.yaml?"),
        (
            ["fit", "--config={toy}", "--task=slabs"],
            "unknown task 'slabs'; known: promptable, superv",
        ),
        (["fit", "--config={toy}", "--model.depth=3"], "--model.depth"),
        (["fit", "--config={toy}", "--model.lr=fast"], "model.lr"),
        (["fit", "--config={toy}", "--model.task_name=${{model.nam}}"], "model.nam' not found"),
        (["fit", "--config={toy}", "--model.model_type=vit_x"], "unknown model 'vit_x'"),
        (["fit", "--config={toy}", "--data.spacing=[1, 0, 2]"], "spacing"),
        (["fit", "--config={toy}", "--data.training_sets=[Toi_Tr]"], "Toi_Tr"),
        (["fit", "--config={toy}", "--ckpt_path=none.ckpt"], "--ckpt_path must be a file"),
        (["fit", "--config={toy}", "--ckpt_path={toy}"], "must be a checkpoint that fit wrote"),
        (["test", "--config={toy}", "--ckpt_path=last"], "--ckpt_path last needs a last.ckpt in"),
        (["fit", "--config={toy}", "--trainer.devices=0"], "devices"),
        (["fit", "--config={toy}", "--trainer.strategy=foo"], "foo"),
        (["fit", "--config={toy}", "--trainer.devices=abc"], "the trainer refuses its arguments"),
        (["fit", "--config={toy}", "--model.work_dir={toy}/runs"], "Not a directory: "),
        (["fit", "--config={toy}", "--data.cache_dir={toy}/cache"], "Not a directory: "),
        (
            ["fit", "--config={toy}", "--model.lr=1e30", "--trainer.max_steps=4"],
            "be finite, got nan",
        ),
        (["test"], "validation_sets names at least one prepared set"),
        (
            ["predict", "--data.predict_images=x"],
            "predict_images and predict_prompts are given tog",
        ),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    words: list[str],
    sentence: str,
    toy: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(toy.parent)
    with pytest.raises(SystemExit) as stop:
        main([word.format(toy=toy) for word in words])
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 2
    assert sentence in line


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_to_resume_from_runs_no_code(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"hyper_parameters": {}, "state_dict": {"x": Payload(tmp_path / "ran")}}, path)
    with pytest.raises(ValueError, match="must be a checkpoint that fit wrote"):
        run(["fit", f"--config={toy}", f"--ckpt_path={path}"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["data: {training: [Toy_Tr]}", "nonsense: 1"])
def test_an_unknown_key_of_a_recipe_is_refused(
    content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={path}"])
    assert stop.value.code == 2
    assert content.split(":")[0] in capfd.readouterr().err


@pytest.mark.parametrize("place", ["callbacks", "logger", "strategy"])
def test_a_recipe_builds_nothing_but_parts_of_a_trainer(
    place: str, toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = yaml.safe_load(toy.read_text(encoding="utf-8"))
    call = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", f"{tmp_path}/ran"]}}
    recipe["trainer"][place] = [call] if place == "callbacks" else call
    toy.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={toy}"])
    assert stop.value.code == 2
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_sentence_is_never_pages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), told_in_one_sentence([]):
        check_entry("a" * 100_000 + "z")
    told = capsys.readouterr().err
    assert told.startswith("error: must be an object, got 'aaa")
    assert told.endswith("aaz'\n")
    assert len(told) < 5000


@pytest.mark.parametrize("content", ["- data\n- model", "data: [", "\udcff"])
def test_a_recipe_must_be_a_mapping(content: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"wrong\.yaml must (be a YAML file|hold a YAML mapping)"):
        run(["fit", f"--config={path}"])


def test_a_set_that_is_neither_listed_nor_prepared_is_refused(prepared_tree: Path) -> None:
    check_set_names(["AMOS_Tr", "Toy_Val"], ["AMOS_Tr"], data_dir=prepared_tree)
    with pytest.raises(ValueError, match=r"got 'AMOS_Tt'; close names: AMOS_Tr"):
        check_set_names(["AMOS_Tr", "AMOS_Tt"], ["AMOS_Tr"], data_dir=prepared_tree)


def test_main_checks_sets_only_against_a_list(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["fit", f"--config={toy}", "--data.validation_sets=[Toi_Val]"]
    with pytest.raises(SystemExit):
        main(words, possible_datasets=["AMOS_Tr"])
    assert "close names: Toy_Val" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        main(words)  # without a list the DataModule says what is prepared
    assert "POSSIBLE_DATASETS" not in capfd.readouterr().err


def test_a_checkpoint_of_another_network_is_refused(toy: Path, trained: Path) -> None:
    words = ["test", f"--config={toy}", "--ckpt_path=last"]
    with pytest.raises(ValueError, match=r"made with img_size 32, got 48"):
        run([*words, "--data.img_size=48"])
    with pytest.raises(ValueError, match=r"made with spacing \(2\.0, 2\.0, 2\.5\), got None"):
        run([*words, "--data.spacing=null"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_scan_is_named(
    num_workers: int, toy: Path, prepared_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for scan in prepared_tree.glob("Toy/imagesTr/*.nii.gz"):
        scan.write_bytes(scan.read_bytes()[:3000])
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={toy}", f"--data.num_workers={num_workers}"])
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 2
    assert "imagesTr/toy_Tr" in line
    assert "Traceback" not in line


def test_a_bug_keeps_its_traceback(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        torch.zeros(2).reshape(3, 5)

    monkeypatch.setattr(NeuroSamModel, "training_step", fail)
    with pytest.raises(RuntimeError, match="shape"):
        main(["fit", f"--config={toy}"])


def test_a_value_error_from_elsewhere_is_a_bug(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NeuroSamModel, "training_step", lambda *args: int("five"))
    with pytest.raises(ValueError, match="five"):
        main(["fit", f"--config={toy}"])


@pytest.mark.parametrize("by_flag", [True, False])
def test_debug_shows_a_mistakes_traceback(
    by_flag: bool, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", f"--config={toy}", "--ckpt_path=none.ckpt"]
    if not by_flag:
        monkeypatch.setenv("NEUROSAM3D_DEBUG", "1")
    with pytest.raises(ValueError, match=r"none\.ckpt"):
        main([*words, "--debug"] if by_flag else words)


def test_a_step_that_does_not_fit_says_what_to_lower(
    toy: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def training_step(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    monkeypatch.setattr(NeuroSamModel, "training_step", training_step)
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={toy}"])
    assert stop.value.code == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: out of memory: in float32 a training step needs 0.2 GiB for we")
    assert line.endswith(
        "; lower data.batch_size (3), data.img_size (32), model.num_clicks (2); or set "
        "model.checkpoint_blocks true, model.checkpoint_upscaling true, trainer.precision "
        "bf16-mixed"
    )
