"""Which scans an evaluation is about, of a prepared tree and of plain folders."""

from pathlib import Path

import numpy as np
import pytest

from neurosam3d.commands.evaluation_scans import list_scans
from tests.evaluation.scans import block, write_pairs


def test_a_prepared_tree_has_the_masks_of_all_classes(prepared_tree: Path) -> None:
    scans = list_scans(prepared_tree, set_name="Val")
    assert [(s.dataset, s.set_name, s.case) for s in scans] == [
        ("Toy", "Val", "toy_Val0"),
        ("Toy", "Val", "toy_Val1"),
    ]
    assert scans[0].image == prepared_tree / "Toy/imagesVal/toy_Val0.nii.gz"
    assert [(file.mask_of, file.path) for file in scans[0].labels] == [
        (name, prepared_tree / f"Toy/labelsVal/{name}/toy_Val0.nii.gz") for name in ("ball", "rod")
    ]
    assert list_scans(prepared_tree, set_name="Val", datasets=["Toy"]) == scans
    assert len(list_scans(prepared_tree, set_name="Tr")) == 3


def test_a_set_that_is_not_prepared_is_named(prepared_tree: Path) -> None:
    with pytest.raises(ValueError, match=r"no index of AMOS_Val in .*found there: Toy_Tr, Toy_Val"):
        list_scans(prepared_tree, set_name="Val", datasets=["AMOS"])


def test_plain_folders_are_listed_beside_a_tree(prepared_tree: Path, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "plain", {"a": (block(), block()), "b": (block(), block())})
    assert [scan.case for scan in list_scans(root)] == ["a", "b"]
    given = list_scans(
        prepared_tree / "Toy/imagesVal", labels=prepared_tree / "Toy/labelsVal/rod", set_name="Val"
    )
    assert [(scan.dataset, scan.case) for scan in given] == [
        ("Toy", "toy_Val0"),
        ("Toy", "toy_Val1"),
    ]
    assert given[0].labels[0].mask_of == ""


def test_names_and_labels_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--datasets are of a prepared tree, --labels of plain"):
        list_scans(tmp_path, labels=tmp_path, datasets=["AMOS"])
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="must hold a prepared tree or one of the layouts"):
        list_scans(tmp_path)
