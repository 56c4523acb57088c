"""Small raw folders for the tests of the preparation."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from neurosam3d.data.prepare.command import data_command
from neurosam3d.data.prepare.convert import CaseJob, CaseResult, prepare_case
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.data.prepare.record import CaseRecord
from neurosam3d.data.tree import Tree

AFFINE = np.array([[2.0, 0, 0, -10], [0, 1.5, 0, 4], [0, 0, 3.0, 7], [0, 0, 0, 1]])
SHAPE = (9, 7, 5)

WriteVolume = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_raw_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine says of its raw folders is of no matter."""
    monkeypatch.delenv("NEUROSAM3D_RAW", raising=False)


@pytest.fixture
def affine() -> np.ndarray:
    """Affine of 2 x 1.5 x 3 mm voxels, 9 mm^3 each."""
    return AFFINE.copy()


@pytest.fixture
def write_volume() -> WriteVolume:
    """Write an array as NIfTI; without one, an image whose voxels are all different."""

    def write(path: Path, data: Any = None, affine: np.ndarray = AFFINE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        nibabel.save(nibabel.Nifti1Image(np.asarray(data), affine), path)
        return path

    return write


@pytest.fixture
def box() -> Callable[..., np.ndarray]:
    """Make a label map of boxes: value -> slices."""

    def make(boxes: dict[int, tuple[slice, ...]], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
        labels = np.zeros(shape, dtype=np.uint8)
        for value, where in boxes.items():
            labels[where] = value
        return labels

    return make


LIVER = np.s_[1:4, 2:4, 1:3]  # 12 voxels, 108 mm^3
TUMOR = np.s_[5:7, 3:4, 2:3]  # 2 voxels, 18 mm^3


@pytest.fixture
def organs(box: Callable[..., np.ndarray]) -> np.ndarray:
    """Label map: 1 liver, 12 voxels of 9 mm^3; 2 tumor, 2 voxels."""
    return box({1: LIVER, 2: TUMOR})


@pytest.fixture
def raw(tmp_path: Path, write_volume: WriteVolume, organs: np.ndarray) -> Path:
    """An nnU-Net v2 raw folder: cases a and b, liver and tumor in both."""
    folder = tmp_path / "raw" / "Dataset007_Liver"
    for case in ("a", "b"):
        write_volume(folder / f"imagesTr/{case}_0000.nii.gz")
        write_volume(folder / f"labelsTr/{case}.nii.gz", organs)
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "left tumor": 2},'
        ' "numTraining": 2, "file_ending": ".nii.gz"}'
    )
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where `prepare` puts the prepared dataset A."""
    return tmp_path / "out/A"


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., CaseResult]:
    """Prepare case c1 of the dataset A, by default with the classes liver (1) and tumor (2)."""

    def run(
        image: Path,
        label: Path,
        *,
        classes: dict[str, tuple[int, ...]] | None = None,
        channel: int = 0,
        binary: bool = False,
        threshold: float | None = None,
        known: CaseRecord | None = None,
    ) -> CaseResult:
        classes = {"liver": (1,), "tumor": (2,)} if classes is None else classes
        items = tuple(
            RawItem(image, label, values, name, "c1", None, channel, binary, threshold)
            for name, values in classes.items()
        )
        return prepare_case(CaseJob(Tree(tmp_path / "out"), "A", "Tr", items, ("CT",), known))

    return run


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., None]:
    """Make empty files, named from the test's folder on; enough for what is only listed."""

    def make(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `data.py` into the folder out; return the exit code and what it said."""

    def call(*arguments: object, known: Sequence[str] = ("AMOS", "WORD")) -> tuple[int, str]:
        try:
            code = data_command(known, [*map(str, arguments), "--out", str(tmp_path / "out")])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        return code, captured.err

    return call


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared tree: the training cases a and b with two classes each, and a test case t."""
    folder = tmp_path_factory.mktemp("check")
    affine = np.array([[2.0, 0, 0, -10], [0, 1.5, 0, 4], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    generator = np.random.default_rng(0)
    for case, set_name in (("a", "Tr"), ("b", "Tr"), ("t", "Ts")):
        image = generator.integers(-99, 99, (9, 7, 5)).astype(np.int16)
        labels = np.zeros((9, 7, 5), np.uint8)
        labels[1:4, 2:4, 1:3], labels[5:7, 3, 2] = 1, 2
        for kind, name, data in (("images", f"{case}_0000", image), ("labels", case, labels)):
            path = folder / f"raw/{kind}{set_name}/{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, affine), path)
    (folder / "raw/dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumor": 2},'
        ' "numTraining": 2, "file_ending": ".nii.gz"}'
    )
    for set_name in ("Tr", "Ts"):
        arguments = ["-dt", set_name, "--raw", str(folder / "raw"), "--name", "Liver"]
        arguments += ["--out", str(folder / "out"), "--workers", "1"]
        assert data_command([], arguments) == 0
    return folder / "out"


@pytest.fixture
def tree(sound: Path, tmp_path: Path) -> Tree:
    shutil.copytree(sound, tmp_path / "out")
    return Tree(tmp_path / "out")
