"""Adding a dataset as documented: three edits in copied scripts, then the two commands."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.data.index import read_index

CHECKOUT = Path(__file__).parents[3]

NEW_CLASS = """
LIVER = "LiverStudy"


class LiverJSONGenerator(BaseDatasetJSONGenerator):
    dir = LIVER
    name = "Liver"
    modality = ["CT"]
    labels = {0: "background", 1: "liver", 2: "left tumor"}
    num_seg_classes = 2


if __name__"""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A copy of the scripts with the three documented edits."""
    folder = tmp_path / "checkout"
    shutil.copytree(
        CHECKOUT / "utils", folder / "utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(CHECKOUT / "data.py", folder)
    edit(folder / "utils/prepare_json_data.py", "\nif __name__", NEW_CLASS)
    edit(folder / "utils/prepare_data.py", '    "AMOS",\n', '    "AMOS",\n    "Liver",\n')
    edit(folder / "utils/data_list.py", '    "AMOS_Tr",\n', '    "AMOS_Tr",\n    "Liver_Tr",\n')
    return folder


def call(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("script", ["data.py", "utils/prepare_data.py"])
def test_a_constant_a_class_and_two_names_add_a_dataset(
    tmp_path: Path,
    scripts: Path,
    write_volume: Callable[..., Path],
    organs: np.ndarray,
    script: str,
) -> None:
    raw = tmp_path / "raw/LiverStudy"
    for case in ("a", "b"):
        write_volume(raw / f"imagesTr/{case}.nii.gz")
        write_volume(raw / f"labelsTr/{case}.nii.gz", organs)
    listed = call(scripts, "utils/prepare_json_data.py", "Liver", "--root", tmp_path / "raw")
    assert listed.returncode == 0, listed.stderr
    prepared = call(scripts, script, "-dt", "Tr", "--workers", 1)
    assert prepared.returncode == 0, prepared.stderr
    cases = read_index(scripts / "data_fixed/medical_preprocessed/Liver_Tr.json")
    assert [(case.case_id, case.class_name, case.volume_mm3) for case in cases] == [
        ("a", "liver", 108.0),
        ("a", "left_tumor", 18.0),
        ("b", "liver", 108.0),
        ("b", "left_tumor", 18.0),
    ]
    possible = call(scripts, "-c", "from utils.data_list import *; print(*POSSIBLE_DATASETS)")
    assert "Liver_Tr" in possible.stdout.split()


def test_the_shipped_scripts_know_their_datasets(tmp_path: Path) -> None:
    sample = CHECKOUT / "tests/sample"
    listed = call(
        CHECKOUT, "utils/prepare_json_data.py", "--root", sample, "--out", tmp_path / "out"
    )
    assert listed.returncode == 0, listed.stderr
    assert (tmp_path / "out/AMOS/dataset.json").is_file()
    unknown = call(CHECKOUT, "utils/prepare_json_data.py", "Nope", "--out", tmp_path / "out")
    assert unknown.returncode == 1
    known = unknown.stderr.strip().split("known: ")[1].split(", ")
    names = call(CHECKOUT, "-c", "from utils.prepare_data import *; print(*DATASET_LIST)")
    assert names.stdout.split() == known
