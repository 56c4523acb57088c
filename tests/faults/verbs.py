"""The verbs that are killed: how they are called, and what they must leave behind in the end."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import yaml
from matplotlib.image import imread

from neurosam3d.__main__ import main as neurosam3d
from neurosam3d.data.datamodule import NeuroSamDataModule
from neurosam3d.data.prepare.command import data_command
from neurosam3d.data.store.chunks import read_chunks
from tests.faults.processes import Main

SHAPE = (60, 48, 40)
SPACING_MM = (1.5, 1.25, 2.0)
NUM_SCANS = 8
NUM_STEPS = 6


def write_raw(folder: Path) -> Path:
    """Write an nnU-Net raw folder of noise with a bright ball and a brighter rod in it."""
    generator = np.random.default_rng(5)
    place = np.moveaxis(np.indices(SHAPE), 0, -1)  # (D, H, W, 3)
    for number in range(NUM_SCANS):
        offset = generator.integers(-3, 4, 3)
        ball = np.linalg.norm((place - offset - (20, 18, 18)) / (11, 12, 9), axis=-1) < 1
        rod = (abs(place - offset - (46, 36, 20)) < (5, 5, 13)).all(axis=-1)
        image = generator.normal(100, 10, SHAPE) + 80 * ball + 140 * rod
        label = (ball + 2 * (rod & ~ball)).astype(np.uint8)
        for path, data in (("imagesTr", image.astype(np.int16)), ("labelsTr", label)):
            suffix = "_0000" if path == "imagesTr" else ""
            file = folder / path / f"c{number}{suffix}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, np.diag([*SPACING_MM, 1.0])), file)
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1, "rod": 2},'
        f' "numTraining": {NUM_SCANS}, "file_ending": ".nii.gz"}}'
    )
    return folder


def prepare(words: Sequence[str]) -> int:
    """Be `python data.py`."""
    return data_command([], words)


def build(words: Sequence[str]) -> None:
    """Fill the store as `fit` does before its first step."""
    tree, cache, workers = words
    NeuroSamDataModule(
        data_dir=tree,
        cache_dir=cache,
        img_size=32,
        num_workers=int(workers),
        spacing=(1.2, 1.2, 1.2),
        training_sets=["Toy_Tr"],
        validation_sets=["Toy_Val"],
    ).prepare_data()


class Verb(ABC):
    """A command that works into a folder."""

    name: str
    main: Main

    @abstractmethod
    def words(self, folder: Path) -> list[str]:
        """Return the command line, the same for the first run and for all that go on with it."""

    @abstractmethod
    def result(self, folder: Path) -> Mapping[str, Any]:
        """Return what is in the folder after the end, as it must be whatever happened before."""


class Preparation(Verb):
    name = "preparation"
    main = staticmethod(prepare)

    def __init__(self, raw: Path, *, workers: int) -> None:
        self.raw, self.workers = raw, workers

    def words(self, folder: Path) -> list[str]:
        where = ["--raw", str(self.raw), "--name", "Toy", "--out", str(folder)]
        return ["-dt", "Tr", *where, "--workers", str(self.workers)]

    def result(self, folder: Path) -> Mapping[str, bytes]:
        return read_all(folder)


class StoreBuilding(Verb):
    name = "store building"
    main = staticmethod(build)

    def __init__(self, tree: Path, *, workers: int) -> None:
        self.tree, self.workers = tree, workers

    def words(self, folder: Path) -> list[str]:
        return [str(self.tree), str(folder / "cache"), str(self.workers)]

    def result(self, folder: Path) -> Mapping[str, bytes]:
        files = read_all(folder)  # what was hashed is remembered in files of random names
        return {name: content for name, content in files.items() if "digests" not in name}


RECIPE = """
seed_everything: 11
data:
  data_dir: {tree}
  training_sets: [Toy_Tr]
  validation_sets: [Toy_Val]
  img_size: 32
  spacing: [2.0, 2.0, 2.5]
  volume_threshold: 100.0
  batch_size: 2
  num_workers: 2
  seed: ${{seed_everything}}
model:
  model_type: vit_tiny
  num_clicks: 1
  eval_clicks: 1
  step_size: [{num_steps}]
  warmup_steps: 2
  work_dir: {folder}
  task_name: run
trainer:
  accelerator: cpu
  max_steps: {num_steps}
  val_check_interval: 3
  log_every_n_steps: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
  default_root_dir: ${{model.work_dir}}/${{model.task_name}}
  logger:
    - class_path: lightning.pytorch.loggers.CSVLogger
      init_args: {{save_dir: "${{model.work_dir}}/${{model.task_name}}", name: csv}}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        dirpath: ${{model.work_dir}}/${{model.task_name}}/checkpoints
        filename: best_val_loss
        monitor: val/loss
        enable_version_counter: false
    - class_path: neurosam3d.training.callbacks.LastCheckpoint
      init_args:
        dirpath: ${{model.work_dir}}/${{model.task_name}}/checkpoints
        every_n_train_steps: 2
    - class_path: neurosam3d.training.resume.ResumeState
"""


class Training(Verb):
    name = "training"
    main = staticmethod(neurosam3d)

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def words(self, folder: Path) -> list[str]:
        recipe = folder / "recipe.yaml"
        text = RECIPE.format(tree=self.tree, folder=folder, num_steps=NUM_STEPS)
        recipe.write_text(text, encoding="utf-8")
        return ["fit", f"--config={recipe}", "--ckpt_path=last"]

    def result(self, folder: Path) -> Mapping[str, Any]:
        checkpoints = folder / "run/checkpoints"
        last, best = (
            torch.load(checkpoints / name, weights_only=True)
            for name in ("last.ckpt", "best_val_loss.ckpt")
        )
        return {
            "files": sorted(path.name for path in checkpoints.iterdir()),
            "steps": (last["global_step"], best["global_step"], last["epoch"]),
            "last": last["state_dict"],
            "best": best["state_dict"],
            "optimizer": last["optimizer_states"][0]["state"],
        }


class Evaluation(Verb):
    name = "evaluation"
    main = staticmethod(neurosam3d)

    def __init__(self, tree: Path, checkpoint: Path) -> None:
        self.tree, self.checkpoint = tree, checkpoint

    def words(self, folder: Path) -> list[str]:
        data = ["-cp", str(self.checkpoint), "-tdp", str(self.tree), "-dt", "Val", "-nc", "2"]
        where = ["--save_name", str(folder / "result.json"), "--vis_path", str(folder / "masks")]
        return ["evaluate", *data, *where]

    def result(self, folder: Path) -> Mapping[str, Any]:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        for case in found["cases"]:
            case["rounds"] = [
                {key: value for key, value in played.items() if not key.endswith("seconds")}
                for played in case["rounds"]
            ]
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
        masks = {path.name: read_voxels(path) for path in folder.rglob("*_pred*.nii.gz")}
        return {"cases": found["cases"], "files": names, **masks}


def read_all(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read_voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def read_entry(path: Path) -> None:
    """Read all of an entry of the store, to every checksum."""
    arrays, _ = read_chunks(path)
    for array in arrays.values():
        array[tuple(slice(0, n) for n in array.shape)]


READERS: dict[str, Callable[[Path], object]] = {
    ".nii.gz": read_voxels,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    ".png": imread,
    ".image": read_entry,
    ".labels": read_entry,
    ".html": lambda path: path.read_text(encoding="utf-8").rindex("</html>"),
    ".md": lambda path: path.read_text(encoding="utf-8").rindex("\n"),
}
# They grow by lines, and end with half a one if their writer is killed; who reads them knows.
GROWING = (".jsonl", ".csv", ".yaml.tmp")


def check_whole(folder: Path) -> tuple[int, int]:
    """Read every file that has taken its name; return how many, and how many have not."""
    num_whole = num_partial = 0
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        if path.name.startswith(".part-"):
            num_partial += 1
            continue
        for suffix, read in READERS.items():
            if path.name.endswith(suffix):
                read(path)
                num_whole += 1
    return num_whole, num_partial


def differing(one: Any, other: Any, *, name: str = "") -> list[str]:
    """Name the parts in which two results differ, be it by a bit."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return [
            part for key in one for part in differing(one[key], other[key], name=f"{name}/{key}")
        ]
    if isinstance(one, torch.Tensor):
        is_same = torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        is_same = np.array_equal(one, other)
    else:
        is_same = one == other
    return [] if is_same else [name]
