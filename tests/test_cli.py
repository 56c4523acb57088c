"""The command line: values, checks, messages, and what a run leaves behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

from neurosam3d import recipes
from neurosam3d.checks import check_set_names, go_offline_without_account
from neurosam3d.cli import NeuroSamCLI, main, run
from neurosam3d.training.promptable import NeuroSamModel
from neurosam3d.volume import read_grid, read_volume

REPOSITORY = Path(__file__).parent.parent
RECIPE = """
seed_everything: 11
data:
  data_dir: {tree}
  training_sets: [Toy_Tr]
  validation_sets: [Toy_Val]
  img_size: 32
  spacing: [2.0, 2.0, 2.5]
  batch_size: 3
  num_workers: 0
  seed: ${{seed_everything}}
model:
  model_type: vit_tiny
  num_clicks: 2
  eval_clicks: 2
  test_pictures: 1
  work_dir: {work_dir}
  task_name: toy
trainer:
  accelerator: cpu
  max_steps: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  default_root_dir: ${{model.work_dir}}/${{model.task_name}}
  logger: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: ${{model.work_dir}}/${{model.task_name}}/checkpoints
        save_last: true
    - class_path: neurosam3d.training.callbacks.PredictionWriter
"""


@pytest.fixture(autouse=True)
def _keep_process_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a run sets for its whole process."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NEUROSAM3D_DEBUG"):
        monkeypatch.setenv(name, "")  # recorded, so that it is restored
        monkeypatch.delenv(name)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def toy(prepared_tree: Path, tmp_path: Path) -> Path:
    """Write a recipe of a two-step run on toy data and return its path."""
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE.format(tree=prepared_tree, work_dir=tmp_path / "runs"), encoding="utf-8")
    return path


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Namespace]:
    """Return a function from a command line to its resolved configuration; nothing runs."""

    def parse_only(args: list[str]) -> Namespace:
        with monkeypatch.context() as patch:
            for name in ("instantiate_classes", "after_instantiate_classes"):
                patch.setattr(NeuroSamCLI, name, lambda self: None)
            patch.setattr(NeuroSamCLI, "_run_subcommand", lambda self, verb: None)
            parsed = run(args).config
        settings = parsed[parsed.subcommand]
        settings.pop("config", None)  # which files the values came from
        return settings

    return parse_only


# Values


def test_an_interpolated_key_follows_an_override(toy: Path, parse: Callable) -> None:
    config = parse(["fit", f"--config={toy}", "--model.work_dir=/elsewhere"])
    assert config.trainer.default_root_dir == "/elsewhere/toy"
    assert config.trainer.callbacks[0].init_args.dirpath == "/elsewhere/toy/checkpoints"


def test_a_later_recipe_and_then_flags_win(toy: Path, tmp_path: Path, parse: Callable) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("{model: {task_name: other, lr: 0.5}, seed_everything: 5}", encoding="utf-8")
    config = parse(["fit", "--model.lr=0.25", f"--config={toy}", f"--config={other}"])
    assert config.model.lr == 0.25
    assert config.trainer.default_root_dir.endswith("/runs/other")
    assert config.model.model_type == "vit_tiny"
    assert config.data.seed == 5


def test_the_network_is_told_how_it_is_fed(toy: Path, parse: Callable) -> None:
    flags = ["--data.img_size=48", "--data.intensity=none", "--data.spacing=null", "--data.seed=3"]
    config = parse(["fit", f"--config={toy}", *flags])
    model = config.model
    assert (model.img_size, model.intensity, model.spacing, model.seed) == (48, "none", None, 3)


def test_the_seed_is_2024_unless_said(toy: Path, parse: Callable) -> None:
    recipe = yaml.safe_load(toy.read_text(encoding="utf-8"))
    del recipe["seed_everything"], recipe["data"]["seed"]
    toy.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert parse(["fit", f"--config={toy}"]).seed_everything == 2024


def test_a_printed_configuration_gives_the_same_run(
    toy: Path, tmp_path: Path, parse: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", f"--config={toy}", "--model.lr=0.125", "--data.batch_size=1"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print_config"])
    assert stop.value.code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    again, first = parse(["fit", f"--config={printed}"]), parse(words)
    assert first.model.lr == 0.125
    assert again.as_dict() == first.as_dict()


@pytest.mark.parametrize("verb", recipes.VERBS)
def test_every_argument_is_explained(verb: str, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers = {}

    def keep_parsers(self: NeuroSamCLI, *args: Any) -> None:
        parsers.update(self._subcommand_parsers)
        raise ValueError("seen enough")

    monkeypatch.setattr(NeuroSamCLI, "parse_arguments", keep_parsers)
    with pytest.raises(ValueError, match="seen enough"):
        run([verb, f"--config={toy}"])
    actions = {action.dest: action.help for action in parsers[verb]._actions}
    assert {"data.batch_size", "model.lr", "trainer.devices", "task", "ckpt_path"} <= set(actions)
    assert [dest for dest, text in actions.items() if not text] == []


# What a run leaves behind


@pytest.fixture
def trained(toy: Path) -> Path:
    """Run the toy recipe once and return its folder."""
    run(["fit", f"--config={toy}"])
    return toy.parent / "runs" / "toy"


def test_a_rerun_loses_nothing_and_keeps_both_recipes(toy: Path, trained: Path) -> None:
    checkpoints = trained / "checkpoints"
    before = {path: path.read_bytes() for path in checkpoints.glob("*.ckpt")}
    run(["fit", f"--config={toy}"])
    assert not (checkpoints / "config_1.yaml").exists()  # the same recipe once more
    run(["fit", f"--config={toy}", "--model.lr=0.5"])
    run(["fit", f"--config={toy}", "--model.lr=0.25"])

    names = ("config_1.yaml", "config_2.yaml", "config.yaml")
    kept = [yaml.safe_load((checkpoints / name).read_text(encoding="utf-8")) for name in names]
    assert [recipe["model"]["lr"] for recipe in kept] == [1e-3, 0.5, 0.25]
    assert len(before) == 2
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(checkpoints.glob("*.part"))


def test_the_saved_recipe_gives_the_same_run(toy: Path, trained: Path, parse: Callable) -> None:
    again, first = (
        parse(["fit", f"--config={path}"]) for path in (trained / "checkpoints/config.yaml", toy)
    )
    assert again.as_dict() == first.as_dict()


def test_last_is_the_newest_checkpoint_of_the_run(toy: Path, trained: Path) -> None:
    newest = trained / "checkpoints" / "last-v1.ckpt"
    newest.write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    os.utime(trained / "checkpoints" / "last.ckpt", (1, 1))
    finished = run(["test", f"--config={toy}", "--ckpt_path=last"])
    assert finished.trainer.ckpt_path == str(newest)
    assert (trained / "test" / "results.json").is_file()
    assert list((trained / "test").glob("*.png"))


def test_what_slurm_cut_short_counts_as_last(toy: Path, trained: Path) -> None:
    cut_short = trained / "hpc_ckpt_1.ckpt"
    cut_short.write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    os.utime(trained / "checkpoints" / "last.ckpt", (1, 1))
    finished = run(["test", f"--config={toy}", "--ckpt_path=last"])
    assert finished.trainer.ckpt_path == str(cut_short)


def test_samples_are_not_shared_out_twice(parse: Callable, toy: Path) -> None:
    assert parse(["fit", f"--config={toy}"]).trainer.use_distributed_sampler is False


def test_a_first_fit_may_ask_for_the_last_checkpoint(toy: Path) -> None:
    finished = run(["fit", f"--config={toy}", "--ckpt_path=last", "--model.lr=0"])
    assert (finished.trainer.global_step, finished.trainer.ckpt_path) == (2, None)
    resumed = run(["fit", f"--config={toy}", "--ckpt_path=last", "--trainer.max_steps=3"])
    assert resumed.trainer.global_step == 3
    assert resumed.model.hparams["lr"] == 1e-3  # the recipe's, not the checkpoint's


def test_predict_writes_masks_and_keeps_none_in_memory(toy: Path, trained: Path) -> None:
    finished = run(["predict", f"--config={toy}", "--ckpt_path=last"])
    written = {path.name for path in (trained / "predict/Toy_Val/rod").iterdir()}
    assert written == {"toy_Val0.nii.gz", "toy_Val1.nii.gz"}
    assert not finished.trainer.predict_loop.return_predictions


def test_predict_by_prompts_segments_a_folder(
    toy: Path, trained: Path, prepared_tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, prompts = prepared_tree / "Toy/imagesVal", toy.parent / "clicks.csv"
    prompts.write_text(
        "image,object,i,j,k\ntoy_Val0,ball,12,13,11\nnone,ball,1,1,1\n", encoding="utf-8"
    )
    words = [f"--data.predict_images={images}", f"--data.predict_prompts={prompts}"]
    run(["predict", f"--config={toy}", "--ckpt_path=last", *words])
    mask = read_volume(trained / "predict" / "toy_Val0.nii.gz")
    assert mask.grid.same_as(read_grid(images / "toy_Val0.nii.gz"))
    told = json.loads((trained / "predict" / "toy_Val0.json").read_text(encoding="utf-8"))
    assert "last.ckpt" in json.dumps(told)
    assert not (trained / "predict" / "toy_Val1.nii.gz").exists()
    assert "the prompts name none, which is no scan of" in caplog.text
    assert "1 scans of" in caplog.text

    prompts.write_text("image,object,i,j,k\nnone,ball,1,1,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"clicks\.csv must have prompts for a scan of"):
        run(["predict", f"--config={toy}", "--ckpt_path=last", *words])


# Label maps


@pytest.fixture
def patches(toy: Path) -> list[str]:
    """Return flags that make the toy recipe one of a network without prompts."""
    recipe = yaml.safe_load(toy.read_text(encoding="utf-8"))
    recipe["task"] = "supervised"
    recipe["data"] |= {"crop_size": [16, 24, 16], "classes": ["rod", "ball"], "transform": "none"}
    recipe["model"] |= {"model_type": "segresnet"}
    for block, name in (("data", "img_size"), ("model", "num_clicks"), ("model", "eval_clicks")):
        del recipe[block][name]
    del recipe["trainer"]["max_steps"]
    recipe["trainer"]["max_epochs"] = 2
    toy.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return [f"--config={toy}"]


def test_the_module_is_told_crops_and_classes(patches: list[str], parse: Callable) -> None:
    config = parse(["fit", *patches, "--data.spacing=null", "--data.seed=3"])
    model = config.model
    assert (model.crop_size, model.classes) == ((16, 24, 16), ["rod", "ball"])
    assert (model.intensity, model.spacing, model.seed) == ("sam_med3d", None, 3)


@pytest.mark.usefixtures("small_segresnet", "quick_pictures")
def test_a_network_without_prompts_goes_through_all_verbs(
    patches: list[str], toy: Path, prepared_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished = run(["fit", *patches])
    assert finished.trainer.global_step == 2  # a batch of three in each of two epochs
    folder = toy.parent / "runs" / "toy"
    run(["test", *patches, "--ckpt_path=last"])
    results = json.loads((folder / "test" / "results.json").read_text(encoding="utf-8"))
    assert {case["class"] for case in results["cases"]} == {"ball", "rod"}
    run(["predict", *patches, "--ckpt_path=last"])
    assert (folder / "predict" / "Toy_Val" / "ball" / "toy_Val0.nii.gz").is_file()
    images = prepared_tree / "Toy" / "imagesVal"
    run(["predict", *patches, "--ckpt_path=last", f"--data.predict_images={images}"])
    assert (folder / "predict" / "toy_Val0.nii.gz").is_file()

    other = ["test", *patches, "--ckpt_path=last", "--data.classes=[ball, rod]"]
    with pytest.raises(SystemExit):
        main(other)
    assert "made with classes ['rod', 'ball'], got ['ball', 'rod']" in capfd.readouterr().err


# Slices


@pytest.fixture
def slices(toy: Path) -> list[str]:
    """Return flags that make the toy recipe one of a network of slices."""
    recipe = yaml.safe_load(toy.read_text(encoding="utf-8"))
    recipe["task"] = "slices"
    recipe["data"] |= {"img_size": 32, "classes": ["rod", "ball"], "transform": "none"}
    recipe["data"] |= {"intensity": "clip 60 260", "batch_size": 22, "axis": "coronal"}
    recipe["model"] |= {"model_type": "samed_vit_b", "freeze_sam": False}
    for block, name in (("data", "spacing"), ("model", "num_clicks")):
        recipe[block].pop(name, None)
    del recipe["trainer"]["max_steps"]
    recipe["trainer"]["max_epochs"] = 1
    toy.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return [f"--config={toy}"]


@pytest.mark.usefixtures("small_vit_b", "quick_pictures")
def test_a_network_of_slices_goes_through_all_verbs(
    slices: list[str], toy: Path, prepared_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished = run(["fit", *slices])
    assert finished.trainer.global_step == 5  # 90 coronal slices of three scans
    folder = toy.parent / "runs" / "toy"
    run(["test", *slices, "--ckpt_path=last"])
    results = json.loads((folder / "test" / "results.json").read_text(encoding="utf-8"))
    assert {case["class"] for case in results["cases"]} == {"ball", "rod"}
    assert results["protocol"]["axis"] == "coronal"
    images = prepared_tree / "Toy" / "imagesVal"
    run(["predict", *slices, "--ckpt_path=last", f"--data.predict_images={images}"])
    labels = read_volume(folder / "predict" / "toy_Val0.nii.gz")
    assert labels.grid.same_as(read_grid(images / "toy_Val0.nii.gz"))

    other = ["test", *slices, "--ckpt_path=last", "--data.axis=axial"]
    with pytest.raises(SystemExit):
        main(other)
    assert "made with axis coronal, got axial" in capfd.readouterr().err


# Mistakes: one sentence, exit code 2


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


# Weights & Biases


@pytest.mark.parametrize(
    ("environment", "netrc", "mode"),
    [
        ({}, None, "offline"),
        ({}, "machine example.org login user password secret\n", "offline"),
        ({}, "machine api.wandb.ai login user password secret\n", None),
        ({"WANDB_API_KEY": "secret"}, None, None),
        ({"WANDB_MODE": "disabled"}, None, "disabled"),
        ({"WANDB_BASE_URL": "https://example.org/"}, "machine example.org password x\n", None),
    ],
)
def test_wandb_without_an_account_goes_offline(
    environment: dict[str, str],
    netrc: str | None,
    mode: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "netrc"
    if netrc is not None:
        file.write_text(netrc, encoding="utf-8")
        file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    go_offline_without_account()
    assert os.environ.get("WANDB_MODE") == mode
    assert len(caplog.messages) == (mode == "offline")


@pytest.mark.slow
def test_a_run_with_wandb_is_written_to_disk(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETRC", str(toy.parent / "none"))
    wandb_logger = "lightning.pytorch.loggers.WandbLogger"
    runs = toy.parent / "runs"
    main(["fit", f"--config={toy}", f"--trainer.logger={wandb_logger}",
          f"--trainer.logger.save_dir={runs / 'toy'}"])  # fmt: skip
    import wandb

    wandb.finish()
    assert capfd.readouterr().err.count("no Weights & Biases account found") == 1
    assert list(runs.glob("toy/wandb/offline-run-*/*.wandb"))


# As a user calls it


@pytest.mark.parametrize("program", [["train.py"], ["-m", "neurosam3d"]])
def test_a_process_ends_with_one_line_and_code_2(program: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(
        [sys.executable, *program, "fit", "--config=none.yaml"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: --config must be a file or a shipped recipe")


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ([], ["fit", "--config", "all.yaml"]),
        (["test", "--config", "a b.yaml"], ["test", "--config", "a b.yaml"]),
    ],
)
def test_the_slurm_script_hands_its_arguments_to_train(
    given: list[str], received: list[str], tmp_path: Path
) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" "$@"\n', encoding="utf-8")
    srun.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "PYTHON": "some-python",
    }
    finished = subprocess.run(
        ["bash", str(REPOSITORY / "mytrain.sh"), *given],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert finished.stdout.splitlines() == [str(tmp_path), "some-python", "train.py", *received]
