"""The list of raw files: its JSON form, and what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.prepare.listing import (
    Listing,
    RawItem,
    read_listing,
    strip_suffix,
    write_listing,
)
from neurosam3d.data.tree import Tree

ITEM = {"image": "imagesTr/a.nii.gz", "seg": "labelsTr/a.nii.gz", "seg_index": 1}


def make_content(*items: Any, **changes: Any) -> dict[str, Any]:
    labels = {"0": "background", "1": "left kidney", "2": "tumor", "1,2": "both"}
    content = {"name": "Kidney", "modality": ["CT"], "labels": labels, "training": list(items)}
    return {**content, **changes}


def parse(content: Any) -> Listing:
    return Listing.from_json(content, source="here", folder=Path("/raw"))


def test_the_three_required_keys_of_an_item_are_enough() -> None:
    listing = parse(make_content(ITEM, {**ITEM, "seg_index": [1, 2]}, validation=None))
    image, seg = Path("/raw/imagesTr/a.nii.gz"), Path("/raw/labelsTr/a.nii.gz")
    assert listing.items == {
        "Tr": (
            RawItem(image, seg, (1,), "left_kidney", "a"),
            RawItem(image, seg, (1, 2), "both", "a"),
        )
    }


def test_json_round_trip() -> None:
    item = RawItem(Path("/x/i.mha"), Path("/x/s.mha"), (1, 3), "liver", "c", "p", 2, binary=True)
    listing = Listing("A", ("CT", "MRI"), {(1, 3): "liver"}, {"Ts": (item,)}, Path("/x"))
    content = listing.to_json()
    assert list(content) == [
        "name", "modality", "labels", "root", "training", "validation", "testing"
    ]  # fmt: skip
    assert content["training"] is None
    assert content["testing"][0]["seg_index"] == [1, 3]
    again = parse(content)
    assert again.items == listing.items
    assert again.to_json() == content


def test_images_of_one_name_are_told_apart_by_their_folders() -> None:
    items = [{**ITEM, "image": f"images_{sequence}/a.nii.gz"} for sequence in ("T1", "T2")]
    assert [item.case for item in parse(make_content(*items)).items["Tr"]] == [
        "images_T1_a",
        "images_T2_a",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "here must hold an object, got list"),
        ({"name": "A"}, "here lacks modality, labels"),
        (make_content({"image": "a"}), "here, training: an item needs image, seg and seg_index"),
        (make_content({**ITEM, "seg_index": 7}), "labels names no class for seg_index 7"),
        (make_content({**ITEM, "seg_index": "x"}), "integers of 0 or more, got 'x'"),
        (make_content(ITEM, name="a/b"), "got 'a/b'"),
        (make_content(ITEM, {**ITEM, "seg": "b"}), "case 'a' has two labels for class 'left_k"),
        (
            make_content({**ITEM, "case": "c"}, {**ITEM, "case": "c", "image": "b.nii.gz"}),
            "case 'c' stands for two images, /raw/imagesTr/a.nii.gz and /raw/b.nii.gz",
        ),
    ],
)
def test_an_unfit_list_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(content)


def test_an_unchanged_list_keeps_its_date(tmp_path: Path) -> None:
    tree, raw = Tree(tmp_path / "out"), tmp_path / "raw"
    path = write_listing(tree, parse(make_content(ITEM)), raw=raw)
    os.utime(path, (1000, 1000))
    write_listing(tree, parse(make_content(ITEM)), raw=raw)
    assert path.stat().st_mtime == 1000
    write_listing(tree, parse(make_content({**ITEM, "seg_index": 2})), raw=raw)
    assert path.stat().st_mtime > 1000
    assert read_listing(tree, "Kidney").items["Tr"][0].values == (2,)


@pytest.mark.parametrize("raw", ["out/Kidney", "out/Kidney/raw", "out", "."])
def test_nothing_is_written_to_a_raw_folder(tmp_path: Path, raw: str) -> None:
    folder = tmp_path / raw
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(ValueError, match="prepared files go to another folder than"):
        write_listing(Tree(tmp_path / "out"), parse(make_content(ITEM)), raw=folder)
    assert not list(tmp_path.rglob("dataset.json"))


def test_a_missing_list_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"python utils/prepare_json_data\.py Liver --out"):
        read_listing(Tree(tmp_path), "Liver")


def test_raw_files_can_be_found_below_another_root() -> None:
    item = {**ITEM, "seg": "/elsewhere/a.nii.gz"}
    listing = parse(make_content(item, root="/raw")).moved_to(Path("/scratch"))
    assert listing.items["Tr"][0].image == Path("/scratch/imagesTr/a.nii.gz")
    assert listing.items["Tr"][0].seg == Path("/elsewhere/a.nii.gz")
    with pytest.raises(ValueError, match="without a root folder"):
        parse(make_content(ITEM)).moved_to(Path("/scratch"))


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("a.b.NII", "a.b"), ("a.mha", "a"), ("a", "a"), ("a.gz.nii.gz", "a.gz")],
)
def test_strip_suffix(name: str, stem: str) -> None:
    assert strip_suffix(Path(name)) == stem
