"""What a run leaves behind."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from neurosam3d.cli import run
from neurosam3d.volume import read_grid, read_volume


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
