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
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.tree import Tree, write_json

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
    assert listing.problems == {}


def make_listing() -> Listing:
    item = RawItem(
        Path("/x/i.mha"), Path("/x/s.mha"), (1, 3), "liver", "c", "p", 2, True, 0.25, "MRI"
    )
    lost = Problem(Kind.NO_LABEL, "no label belongs to /x/j.mha", "j")
    return Listing(
        name="A",
        modality=("CT", "MRI"),
        labels={(1, 3): "liver"},
        items={"Ts": (item,)},
        root=Path("/x"),
        problems={"Ts": (lost, Problem(Kind.NO_IMAGE, "no image belongs to /x/k.mha"))},
        raw_folder="A/raw",
        page="https://example.org",
        licence="CC BY",
    )


def test_json_round_trip() -> None:
    listing = make_listing()
    content = listing.to_json()
    required = ("name", "modality", "labels", "training", "validation", "testing")
    assert set(required) < content.keys()
    assert content["labels"] == {"1,3": "liver"}
    assert (content["training"], content["validation"]) == (None, None)
    assert content["testing"][0]["seg_index"] == [1, 3]
    assert content["problems"] == {
        "testing": [
            {
                "case": "j",
                "kind": "image without label",
                "sentence": "no label belongs to /x/j.mha",
            },
            {"case": "", "kind": "label without image", "sentence": "no image belongs to /x/k.mha"},
        ]
    }
    again = Listing.from_json(content, source="here", folder=Path("/elsewhere"))
    assert again.to_json() == content
    assert (again.items, again.problems) == (listing.items, listing.problems)
    assert (again.raw, again.page, again.licence) == (Path("/x/A/raw"), listing.page, "CC BY")


def test_what_is_not_set_is_left_out_of_the_json() -> None:
    content = Listing("A", ("CT",), {}, {}).to_json()
    assert list(content) == [
        "name",
        "modality",
        "labels",
        "training",
        "validation",
        "testing",
    ]


def test_cases_without_a_name_are_named_after_their_images() -> None:
    listing = parse(make_content(ITEM, {**ITEM, "image": "s1/T1.mha"}, {**ITEM, "image": "s2/T1"}))
    assert [item.case for item in listing.items["Tr"]] == ["a", "s1_T1", "s2_T1"]


def test_images_that_share_a_case_name_become_a_problem() -> None:
    first = {**ITEM, "case": "c", "image": "a.nii"}
    entries = [first, {**first, "image": "b.nii"}, {**ITEM, "case": "d", "image": "d.nii"}]
    listing = parse(make_content(*entries))
    assert [item.case for item in listing.items["Tr"]] == ["d"]
    (problem,) = listing.problems["Tr"]
    assert problem.kind is Kind.SAME_NAME
    assert problem.sentence == "case 'c' stands for two images, /raw/a.nii and /raw/b.nii"
    assert parse(make_content(first, {**first, "image": "b.nii"})).items == {}


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
        (make_content(ITEM, problems={"training": [{"kind": "?"}]}), "here, problems: an entry"),
        (
            make_content(problems={"training": [{"kind": "?", "sentence": "x", "case": ""}]}),
            "here, problems: an entry needs kind, case and sentence, got '\\?' is not a valid Kind",
        ),
    ],
)
def test_an_unfit_list_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(content)


def test_problems_are_summed_up_by_set_and_kind() -> None:
    lost = [Problem(Kind.NO_LABEL, f"no label belongs to {i}") for i in range(3)]
    orphan = Problem(Kind.NO_IMAGE, "no image belongs to x")
    problems = {"Tr": (lost[0], orphan, lost[1]), "Ts": (lost[2],)}
    listing = Listing("A", ("CT",), {}, {}, problems=problems)
    assert listing.sum_up_problems() == [
        "A_Tr: image without label: 2, the first: no label belongs to 0",
        "A_Tr: label without image: 1, the first: no image belongs to x",
        "A_Ts: image without label: 1, the first: no label belongs to 2",
    ]
    with pytest.raises(ValueError, match=r"^no image with a label in /raw; A_Tr: image without"):
        listing.require_items("in /raw")


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


def test_paths_of_a_list_may_be_relative_to_it(tmp_path: Path, monkeypatch: Any) -> None:
    write_json(Tree(tmp_path / "out").dataset_json("Kidney"), make_content(ITEM))
    monkeypatch.chdir(tmp_path)
    item = read_listing(Tree(Path("out")), "Kidney").items["Tr"][0]
    assert item.image == tmp_path / "out/Kidney/imagesTr/a.nii.gz"


def test_raw_files_can_be_found_in_another_folder() -> None:
    item = {**ITEM, "seg": "/elsewhere/a.nii.gz", "image": "/disk/Kidney/a.nii.gz"}
    moved = parse(make_content(item, root="/disk", raw_folder="Kidney")).moved_to(Path("/new/K"))
    assert moved.items["Tr"][0].image == Path("/new/K/a.nii.gz")
    assert moved.items["Tr"][0].seg == Path("/elsewhere/a.nii.gz")
    assert moved.moved_to(Path("/z")).items["Tr"][0].image == Path("/z/a.nii.gz")
    with pytest.raises(ValueError, match="without a root folder"):
        parse(make_content(ITEM)).moved_to(Path("/scratch"))


def test_given_patients_go_before_those_of_the_raw_data() -> None:
    items = [{**ITEM, "case": c, "image": c, **p} for c, p in (("a", {}), ("b", {"patient": "B"}))]
    listing = parse(make_content(*items, validation=[{**ITEM, "case": "v"}]))

    def patients(listing: Listing) -> list[str | None]:
        return [item.patient for item in listing.items["Tr"]]

    assert patients(listing.with_patients("Tr", {"a": "1", "x": "9"})) == ["1", "B"]
    assert patients(listing.with_patients("Tr", {"a": "1", "b": "1"})) == ["1", "1"]
    assert listing.with_patients("Ts", {}) == listing
    with pytest.raises(ValueError, match=r"Kidney_Tr: no patient is given for case 'a' \(1 miss"):
        listing.with_patients("Tr", {"b": "1"})


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("a.b.NII", "a.b"), ("a.mha", "a"), ("a", "a"), ("a.gz.nii.gz", "a.gz")],
)
def test_strip_suffix(name: str, stem: str) -> None:
    assert strip_suffix(Path(name)) == stem
