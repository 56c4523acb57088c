"""Networks of label maps and of slices go through all verbs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from neurosam3d.cli import main, run
from neurosam3d.volume import read_grid, read_volume


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
