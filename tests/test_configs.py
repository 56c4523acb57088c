"""Every shipped recipe is a whole run: it parses, names known things, and trains."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
import yaml

from neurosam3d.cli import run
from neurosam3d.data.patch_datamodule import PatchDataModule
from neurosam3d.data.prepare.catalogue import RECORDS
from neurosam3d.data.slice_datamodule import SliceDataModule
from neurosam3d.data.tree import folder_name
from neurosam3d.models import list_models
from neurosam3d.recipes import list_recipes
from neurosam3d.training import SliceModel, SupervisedModel
from utils.data_list import POSSIBLE_DATASETS

CONFIGS = Path(__file__).parent.parent / "configs"
RECIPES = sorted(list_recipes())
# Prepared with --raw; a run knows such sets by finding them.
FROM_RAW_FOLDERS = {
    f"{name}_{part}" for name in ("MSD07_Pancreas", "MSD10_Colon") for part in ("Tr", "Val")
}

SYNAPSE = RECORDS["Synapse"].labels
SYNAPSE_ORGANS = [SYNAPSE[value] for value in (1, 2, 3, 4, 6, 7, 8, 11)]  # as SAMed orders them


def read(recipe: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / recipe).read_text(encoding="utf-8"))


def recipes_of(task: str) -> list[str]:
    return [recipe for recipe in RECIPES if read(recipe)["task"] == task]


SUPERVISED, PROMPTABLE, SLICES = map(recipes_of, ("supervised", "promptable", "slices"))


def small_run(recipe: str, tree: Path, work_dir: Path) -> list[str]:
    """Return the command line of a two-step run of a recipe on toy data with a tiny network."""
    network = ["--data.img_size=32", "--model.model_type=vit_tiny", "--model.model_cfg=null"]
    network += ["--model.num_clicks=2"]
    if recipe in SUPERVISED:
        tiny = "adapter3d_vit_tiny" if recipe.startswith("adapter3d") else "segresnet"
        network = [f"--model.model_type={tiny}", "--model.deep_supervision=false"]
        network += ["--data.crop_size=[32, 32, 32]", "--data.classes=[ball]"]
    batch_size = 2 if recipe in SUPERVISED else 3
    if recipe in SLICES:
        batch_size = 33  # two batches in an epoch
        small = read(recipe)["model"]["model_type"].replace("vit_h", "vit_b")
        network = ["--data.img_size=32", "--data.classes=[ball]", f"--model.model_type={small}"]
        network += ["--model.objects_per_slice=1", "--model.num_corrections=1"]
    return [
        "fit",
        f"--config={recipe}",
        *network,
        f"--data.data_dir={tree}",
        "--data.training_sets=[Toy_Tr]",
        "--data.validation_sets=[Toy_Val]",
        "--data.spacing=[2.0, 2.0, 2.5]",
        "--data.num_workers=0",
        f"--data.batch_size={batch_size}",
        f"--data.cache_dir={work_dir / 'cache'}",
        "--model.checkpoint=null",
        "--model.pretrained_weights=null",
        f"--model.work_dir={work_dir}",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--trainer.max_steps=2",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.accumulate_grad_batches=1",
        "--trainer.log_every_n_steps=1",
    ]


@pytest.fixture
def _quiet_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep a run's process-wide settings inside the test."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    precision = torch.get_float32_matmul_precision()
    yield
    wandb.finish()
    torch.set_float32_matmul_precision(precision)


@pytest.mark.usefixtures("_quiet_process", "small_segresnet", "small_vit_b")
@pytest.mark.parametrize(
    "recipe",
    [*PROMPTABLE, "adapter3d_kits.yaml", "baselines/unetr.yaml", "samed.yaml", "sam_med2d.yaml"],
)
def test_recipe_trains_and_leaves_everything_behind(
    recipe: str, prepared_tree: Path, tmp_path: Path
) -> None:
    cli = run(small_run(recipe, prepared_tree, tmp_path))

    run_dir = tmp_path / cli.model.hparams["task_name"]
    checkpoints = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert cli.trainer.global_step == 2
    assert {"config.yaml", "last.ckpt"} <= checkpoints
    assert any(name.startswith("best_val_dice") for name in checkpoints)
    assert list(run_dir.glob("tensorboard/*/events*"))
    (table,) = run_dir.glob("csv/*/metrics.csv")
    with table.open(encoding="utf-8") as file:
        columns = set(next(csv.reader(file)))
    assert {"train/loss", "val/loss", "val/dice", "speed/samples_per_second"} <= columns
    assert any(column.startswith("lr-") for column in columns)


def class_names(blocks: list[dict[str, Any]]) -> list[str]:
    return [block["class_path"].rpartition(".")[2] for block in blocks]


@pytest.mark.parametrize("recipe", SUPERVISED)
def test_supervised_recipe_asks_for_what_network_and_data_know(recipe: str) -> None:
    content = read(recipe)
    if content["model"]["model_type"].startswith("nnunet"):
        pytest.importorskip("dynamic_network_architectures")
    data = PatchDataModule(**content["data"])
    with torch.device("meta"):
        module = SupervisedModel(
            **content["model"], crop_size=data.crop_size, classes=data.classes, spacing=data.spacing
        )
    assert data.validation == ("crops" if module.takes_prompts else "scans")


@pytest.mark.parametrize("recipe", SLICES)
def test_recipe_of_slices_asks_for_what_network_and_data_know(recipe: str) -> None:
    content = read(recipe)
    data = SliceDataModule(**content["data"])
    feed = {name: getattr(data.feed, name) for name in ("img_size", "feeding", "detail")}
    with torch.device("meta"):
        module = SliceModel(**content["model"], **feed, classes=data.classes)
    assert data.validation == ("slices" if module.takes_prompts else "scans")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_names_known_sets_and_networks(recipe: str) -> None:
    content = read(recipe)
    data, model = content["data"], content["model"]
    named = {*data["training_sets"], *data["validation_sets"]} - FROM_RAW_FOLDERS
    assert named <= set(POSSIBLE_DATASETS)
    assert model["model_type"] in list_models()
    assert model["task_name"] == Path(recipe).stem


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_resumes_logs_and_samples_as_all_do(recipe: str) -> None:
    trainer = read(recipe)["trainer"]
    callbacks, loggers = class_names(trainer["callbacks"]), class_names(trainer["logger"])
    assert {"ResumeState", "ThroughputMonitor", "LearningRateMonitor"} <= set(callbacks)
    assert {"CSVLogger", "TensorBoardLogger"} <= set(loggers)
    assert trainer["use_distributed_sampler"] is False


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "demo.yaml"])
def test_recipe_keeps_the_best_of_four_measures(recipe: str) -> None:
    callbacks = read(recipe)["trainer"]["callbacks"]
    options = [c["init_args"] for c in callbacks if c["class_path"].endswith("ModelCheckpoint")]
    modes = {option["monitor"]: option["mode"] for option in options}
    assert modes == {"val/dice": "max", "val/loss": "min", "train/dice": "max", "train/loss": "min"}


def test_all_holds_the_documented_sets() -> None:
    data = read("all.yaml")["data"]
    assert len(data["training_sets"]) == 18
    assert data["validation_sets"] == [
        "AMOS_Val",
        "BRATS_Tr",
        "ONDRI_Val",
        "ProstateMRI_Ts",
        "WORD_Val",
    ]


def test_sam_med3d_feeds_the_published_weights_as_they_were_trained() -> None:
    content = read("sam_med3d.yaml")
    fed = {key: content["data"][key] for key in ("img_size", "spacing", "intensity")}
    assert fed == {"img_size": 128, "spacing": [1.5, 1.5, 1.5], "intensity": "sam_med3d"}
    network = {key: content["model"][key] for key in ("model_type", "mask_stride", "lr")}
    assert network == {"model_type": "vit_b_ori", "mask_stride": 4, "lr": 8e-5}
    assert content["model"]["published_quirks"] is True


def test_samed_trains_as_published() -> None:
    names = ("lr", "weight_decay", "warmup_steps", "lr_power", "schedule_epochs", "rank")
    published = {"samed.yaml": (200, 160, 0.9), "samed_h.yaml": (400, 300, 7.0)}
    for recipe, (schedule_epochs, max_epochs, power) in published.items():
        content = read(recipe)
        model = {name: content["model"][name] for name in names}
        assert model == dict(zip(names, (5e-3, 0.1, 250, power, schedule_epochs, 4), strict=True))
        assert content["trainer"]["max_epochs"] == max_epochs
        data = content["data"]
        fed = (data["img_size"], data["detail"], data["intensity"], data["batch_size"])
        assert fed == (512, 224, "clip -125 275", 24)
        assert [folder_name(label) for label in SYNAPSE_ORGANS] == data["classes"]


def test_networks_of_slices_that_take_prompts_train_as_published() -> None:
    names = ("recipe", "lr", "weight_decay", "lr_scheduler", "warmup_steps")
    organs = [folder_name(label) for label in list(RECORDS["WORD"].labels.values())[1:]]
    fed = {"sam_med2d.yaml": (256, 2, organs), "medsam.yaml": (1024, 8, organs)}
    for recipe, (side, batch_size, classes) in fed.items():
        content = read(recipe)
        name, decay = recipe.removesuffix(".yaml"), 0.01 if recipe == "medsam.yaml" else 0.0
        model = tuple(content["model"][key] for key in names)
        assert model == (name, 1e-4, decay, "constant", 0)
        data = content["data"]
        assert (data["feeding"], data["img_size"], data["batch_size"]) == (name, side, batch_size)
        without = {"duodenum"} if recipe == "medsam.yaml" else set()  # its authors left it out
        assert data["classes"] == [name for name in classes if name not in without]
