"""A small prepared tree whose every voxel tells where it lies."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from neurosam3d.data.case import Case
from neurosam3d.data.dataset import PromptableDataset
from neurosam3d.data.index import write_index
from neurosam3d.data.tree import Tree

SHAPE = (30, 26, 20)
# 1 x 1.5 x 2 mm voxels; the axes run towards P, L and S and are turned by a few degrees.
TURN = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
TILT = np.array([[1.0, 0.0, 0.0], [0.0, 0.995, -0.0998749], [0.0, 0.0998749, 0.995]])
ORIGIN = np.array([20.0, 15.0, -18.0])


def affine_of(patient: int) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = TILT @ TURN * (1.0, 1.5, 2.0)
    affine[:3, 3] = ORIGIN + patient
    return affine


def world(affine: np.ndarray, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """World position of every voxel, (3, D, H, W)."""
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def brightness(points: np.ndarray) -> np.ndarray:
    """The image's value at a position: linear, so linear resampling does not change it."""
    x, y, z = points
    return 300 + 2 * x - 3 * y + 5 * z


def ball(affine: np.ndarray, voxel: tuple[int, int, int], radius_mm: float) -> np.ndarray:
    points = world(affine)
    center = points[(slice(None), *voxel)].reshape(3, 1, 1, 1)
    return ((points - center) ** 2).sum(axis=0) <= radius_mm**2


def objects(affine: np.ndarray) -> dict[str, np.ndarray]:
    speck = np.zeros(SHAPE, bool)
    speck[27:29, 2:4, 2] = True
    return {
        "organ": ball(affine, (14, 12, 9), 8.0),
        # The centre of mass of the pair lies between its parts, outside both.
        "pair": ball(affine, (5, 6, 8), 5.0) | ball(affine, (22, 15, 9), 4.0),
        "scattered": ball(affine, (6, 18, 14), 6.0) | speck,
    }


@dataclass(frozen=True)
class ToyTree:
    """A prepared tree with the sets TOY_Tr (two patients) and TOY_Val (one)."""

    root: Path
    training: list[Case]
    validation: list[Case]

    def case(self, class_name: str) -> Case:
        """The first training case of a class."""
        return next(case for case in self.training if case.class_name == class_name)


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def write_patient(tree: Tree, set_name: str, patient: int) -> list[Case]:
    affine = affine_of(patient)
    image = tree.image("TOY", set_name, f"p{patient}")
    save(image, brightness(world(affine)).astype(np.float32), affine)
    cases = []
    for class_name, mask in objects(affine).items():
        label = tree.label("TOY", set_name, class_name, f"p{patient}")
        save(label, mask.astype(np.uint8), affine)
        volume = float(mask.sum()) * 3.0
        cases.append(Case(image, label, class_name, volume, (1.0, 1.5, 2.0), f"patient{patient}"))
    return cases


@pytest.fixture(scope="session")
def toy_tree(tmp_path_factory: pytest.TempPathFactory) -> ToyTree:
    """Write the tree once; tests must not change it."""
    tree = Tree(tmp_path_factory.mktemp("prepared"))
    training = write_patient(tree, "Tr", 1) + write_patient(tree, "Tr", 2)
    validation = write_patient(tree, "Val", 3)
    write_index(tree.index("TOY", "Tr"), training)
    write_index(tree.index("TOY", "Val"), validation)
    return ToyTree(tree.root, training, validation)


@pytest.fixture
def own_case(toy_tree: ToyTree, tmp_path: Path) -> Case:
    """A case whose files a test may change."""
    case = toy_tree.case("organ")
    image, label = tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"
    shutil.copy(case.image, image)
    shutil.copy(case.label, label)
    return replace(case, image=image, label=label)


@pytest.fixture
def make_dataset() -> Callable[..., PromptableDataset]:
    """A function that makes a dataset of cases: by default crops of 16 voxels at 1.5 mm."""

    def make(cases: Sequence[Case], **options: Any) -> PromptableDataset:
        defaults = {
            "img_size": 16,
            "spacing": (1.5, 1.5, 1.5),
            "intensity": "none",
            "transform": "sam_med3d",
            "training": False,
            "min_foreground": 1,
        }
        return PromptableDataset({"TOY_Tr": cases}, **{**defaults, **options})

    return make
