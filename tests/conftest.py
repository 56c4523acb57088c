"""Fixtures that more than one test file uses."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imsave
from monai.networks.nets.segresnet import SegResNet
from torch import nn

from neurosam3d.files import replacing
from neurosam3d.models import MODELS
from neurosam3d.models.baselines.inputs import CROP_SIZE, InputRule, rule_inputs, to_sides
from neurosam3d.models.sam2d_encoder import SAM2D_CONFIGS
from tests.models.sam2d_small import CONFIG as SMALL_SAM2D

SHAPE = (26, 30, 22)
SPACING_MM = (1.5, 1.25, 2.0)


@pytest.fixture
def prepared_tree(tmp_path: Path) -> Path:
    """Write a prepared tree of two toy sets and return its root.

    `Toy_Tr` has three scans and `Toy_Val` two, of other patients, each with the classes `ball` and
    `rod`: bright shapes in noise, on an oblique, non-cubic and anisotropic grid. Files and indexes
    are written by nibabel and json alone, so that no test depends on our own writers.
    """
    root = tmp_path / "prepared"
    generator = np.random.default_rng(7)
    for set_name, num_scans in (("Tr", 3), ("Val", 2)):
        entries = []
        for number in range(num_scans):
            entries += _write_scan(root, set_name, f"toy_{set_name}{number}", generator)
        (root / f"Toy_{set_name}.json").write_text(json.dumps(entries), encoding="utf-8")
    return root


@pytest.fixture
def small_segresnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build `segresnet` with eight channels and two levels."""

    def build(
        *, in_channels: int = 1, num_classes: int = 2, crop_size: Sequence[int] = CROP_SIZE
    ) -> nn.Module:
        network = SegResNet(
            init_filters=8,
            in_channels=in_channels,
            out_channels=num_classes,
            blocks_down=(1, 1),
            blocks_up=(1,),
        )
        return rule_inputs(network, InputRule(in_channels, to_sides(crop_size), step=(2, 2, 2)))

    monkeypatch.setitem(MODELS, "segresnet", build)


@pytest.fixture
def small_vit_b(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks of slices of the size vit_b have a small encoder."""
    monkeypatch.setitem(SAM2D_CONFIGS, "vit_b", SMALL_SAM2D)


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a pixel in place of the worst objects: what such a picture shows is tested elsewhere."""

    def draw(path: Path, *_: object, **options: object) -> None:
        with replacing(path) as partial:
            imsave(partial, np.zeros((1, 1, 3)), format="png")

    monkeypatch.setattr("neurosam3d.evaluation.worst_pictures.plot_case", draw)


def _write_scan(
    root: Path, set_name: str, case: str, generator: np.random.Generator
) -> list[dict[str, object]]:
    """Write one scan and its labels and return its index entries."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = generator.uniform(-40, 40, 3)
    cosine, sine = np.cos(0.2), np.sin(0.2)
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ affine[:3, :3]
    offset = generator.integers(-2, 3, size=3)
    position = np.moveaxis(np.indices(SHAPE), 0, -1) - offset  # (D, H, W, 3)
    masks = {
        "ball": np.linalg.norm((position - (10, 11, 11)) / (5, 6, 4), axis=-1) < 1,
        "rod": (abs(position - (20, 21, 11)) < (2, 3, 8)).all(axis=-1),
    }
    image = generator.normal(100, 10, SHAPE) + 80 * masks["ball"] + 140 * masks["rod"]
    image_path = root / "Toy" / f"images{set_name}" / f"{case}.nii.gz"
    _write_nifti(image_path, image.astype(np.float32), affine)
    entries = []
    for class_name, mask in masks.items():
        label_path = root / "Toy" / f"labels{set_name}" / class_name / f"{case}.nii.gz"
        _write_nifti(label_path, mask.astype(np.uint8), affine)
        entries.append(
            {
                "image": str(image_path.relative_to(root)),
                "label": str(label_path.relative_to(root)),
                "class": class_name,
                "volume": float(mask.sum() * np.prod(SPACING_MM)),
                "spacing": list(SPACING_MM),
                "patient": case,
            }
        )
    return entries


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
