"""Step 1: dataset classes, those of the catalogue and a user's own."""

from pathlib import Path
from typing import Any

import pytest

from neurosam3d.data.prepare import catalogue
from neurosam3d.data.prepare.generator import (
    BaseDatasetJSONGenerator,
    find_generators,
    list_dataset,
)
from neurosam3d.data.prepare.pairing import Source
from neurosam3d.data.prepare.problems import Kind

SAMPLE = Path(__file__).parents[2] / "sample"


class Liver(BaseDatasetJSONGenerator):
    dir = "LiverStudy"
    name = "Liver"
    modality = "CT"
    labels = {0: "background", 1: "liver", 2: "left tumor", (1, 2): "both"}  # noqa: RUF012


class Amos(BaseDatasetJSONGenerator):
    dir = "AMOS"
    record = catalogue.AMOS


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_class_with_four_attributes_lists_the_usual_folders(tmp_path: Path) -> None:
    touch(tmp_path, "LiverStudy/imagesTr/a.nii.gz", "LiverStudy/labelsTr/a.nii.gz")
    touch(tmp_path, "LiverStudy/imagesTs/b.mha", "LiverStudy/labelsTs/b.mha")
    content = list_dataset(Liver(), tmp_path).to_json()
    assert (content["name"], content["modality"]) == ("Liver", ["CT"])
    assert content["labels"] == {"0": "background", "1": "liver", "2": "left tumor", "1,2": "both"}
    assert [item["seg_index"] for item in content["training"]] == [1, 2, [1, 2]]
    assert [item["class"] for item in content["testing"]] == ["liver", "left_tumor", "both"]
    assert content["training"][0]["image"] == str(tmp_path / "LiverStudy/imagesTr/a.nii.gz")
    assert content["validation"] is None


def test_dir_and_num_seg_classes_can_be_given_to_the_constructor(tmp_path: Path) -> None:
    touch(tmp_path, "x/imagesTr/a.nii.gz", "x/labelsTr/a.nii.gz")
    listing = list_dataset(Liver(tmp_path / "x", 3), Path("/elsewhere"))
    assert len(listing.items["Tr"]) == 3


def test_num_seg_classes_must_count_every_class(tmp_path: Path) -> None:
    touch(tmp_path, "LiverStudy/imagesTr/a.nii.gz", "LiverStudy/labelsTr/a.nii.gz")
    with pytest.raises(ValueError, match=r"of Liver must equal the 3 classes .* names, got 2"):
        list_dataset(Liver(num_seg_classes=2), tmp_path)


def test_an_own_generate_returns_items_of_three_keys(tmp_path: Path) -> None:
    class Own(Liver):
        def generate(self) -> dict[str, Any]:
            items = [{"image": "scan.nii", "seg": "truth.nii", "seg_index": 2}]
            labels = {0: "background", 2: "tumor"}
            return {"name": "Own", "modality": ["MR"], "labels": labels, "training": items}

    (tmp_path / "LiverStudy").mkdir()
    (item,) = list_dataset(Own(), tmp_path).items["Tr"]
    assert item.image == tmp_path / "LiverStudy/scan.nii"
    assert (item.class_name, item.case) == ("tumor", "scan")


def test_sources_with_tables_of_their_own(tmp_path: Path) -> None:
    class Lung(BaseDatasetJSONGenerator):
        dir = "."
        name = "Lung"
        modality = ("CT",)
        sources = {  # noqa: RUF012
            "Tr": [
                Source("i/{case}{ext}", "lung/{case}{ext}", labels={1: "right", 2: "left"}),
                Source("i/{case}{ext}", "infection/{case}{ext}", labels={1: "infection"}),
            ]
        }

    touch(tmp_path, "i/a.nii.gz", "lung/a.nii.gz", "infection/a.nii.gz")
    listing = list_dataset(Lung(), tmp_path)
    assert [i.class_name for i in listing.items["Tr"]] == ["right", "left", "infection"]
    assert listing.to_json()["labels"]["infection/{case}{ext}"] == {"1": "infection"}


def test_a_missing_or_empty_raw_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Liver: no raw folder .*LiverStudy"):
        list_dataset(Liver(), tmp_path)
    touch(tmp_path, "LiverStudy/imagesTr/a.nii.gz")
    message = r"no image with a label .* imagesTr/\{case\}\{ext\}.*; Liver_Tr: image without"
    with pytest.raises(ValueError, match=message):
        list_dataset(Liver(), tmp_path)


def test_the_list_keeps_what_has_no_partner_and_where_it_lies(tmp_path: Path) -> None:
    touch(tmp_path, "LiverStudy/imagesTr/a.nii.gz", "LiverStudy/labelsTr/a.nii.gz")
    touch(tmp_path, "LiverStudy/imagesTr/b.nii.gz", "LiverStudy/labelsTr/c.nii.gz")
    listing = list_dataset(Liver(), tmp_path)
    kinds = [(problem.kind, problem.case) for problem in listing.problems["Tr"]]
    assert kinds == [(Kind.NO_LABEL, "b"), (Kind.NO_IMAGE, "")]
    assert (listing.root, listing.raw_folder) == (tmp_path, "LiverStudy")
    elsewhere = list_dataset(Liver(tmp_path / "LiverStudy"), Path("/raw"))
    assert (elsewhere.root, elsewhere.raw_folder) == (tmp_path, "LiverStudy")


def test_a_record_tells_page_and_licence(tmp_path: Path) -> None:
    touch(tmp_path, "AMOS/imagesTr/a.nii.gz", "AMOS/labelsTr/a.nii.gz")
    content = list_dataset(Amos(), tmp_path).to_json()
    assert content["page"] == catalogue.AMOS.page != ""
    assert content["licence"] == catalogue.AMOS.licence != ""


def test_an_own_generate_that_names_a_case_twice_loses_its_images(tmp_path: Path) -> None:
    class Own(Liver):
        def generate(self) -> dict[str, Any]:
            items = [
                {"image": f"{i}.nii", "seg": "l.nii", "seg_index": 1, "case": c}
                for i, c in enumerate("xxy")
            ]
            return {"name": "Own", "modality": ["MR"], "labels": {1: "liver"}, "training": items}

    (tmp_path / "LiverStudy").mkdir()
    listing = list_dataset(Own(), tmp_path)
    assert [item.case for item in listing.items["Tr"]] == ["y"]
    assert [problem.kind for problem in listing.problems["Tr"]] == [Kind.SAME_NAME]


def test_amos_lists_the_sample() -> None:
    listing = list_dataset(Amos(), SAMPLE)
    assert (listing.name, listing.modality) == ("AMOS", ("CT", "MRI"))
    assert list(listing.items) == ["Tr"]
    assert {item.case for item in listing.items["Tr"]} == {"amos_0501"}
    assert [item.values for item in listing.items["Tr"]] == [(v,) for v in range(1, 16)]
    assert listing.items["Tr"][8].class_name == "inferior_vena_cava"
    assert Amos().num_seg_classes == 15


@pytest.mark.parametrize("suffix", ["Va", "Val"])
def test_amos_validation_folders_have_two_names(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"AMOS/images{suffix}/amos_0008.nii.gz")
    touch(tmp_path, f"AMOS/labels{suffix}/amos_0008.nii.gz")
    assert len(list_dataset(Amos(), tmp_path).items["Val"]) == 15


def test_totalsegmentator_is_read_in_its_own_layout(tmp_path: Path) -> None:
    class TotalSegmentator(BaseDatasetJSONGenerator):
        dir = "."
        record = catalogue.TOTALSEGMENTATOR

    touch(tmp_path, "s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz", "meta.csv")
    touch(tmp_path, "s00010/ct.nii.gz", "s00010/segmentations/aorta.nii.gz")
    items = list_dataset(TotalSegmentator(), tmp_path).items["Tr"]
    assert [(i.case, i.class_name) for i in items] == [("s0001", "liver"), ("s00010", "aorta")]


def test_word_has_sixteen_classes_and_three_sets(tmp_path: Path) -> None:
    class Word(BaseDatasetJSONGenerator):
        dir = "."
        record = catalogue.WORD

    for set_name in ("Tr", "Val", "Ts"):
        name = f"word_{set_name}.nii.gz"
        touch(tmp_path, f"images{set_name}/{name}", f"labels{set_name}/{name}")
    items = list_dataset(Word(), tmp_path).items
    assert {name: len(found) for name, found in items.items()} == {"Tr": 16, "Val": 16, "Ts": 16}
    assert items["Tr"][15].class_name == "head_of_femur_right"


def test_find_generators_takes_the_classes_of_a_module() -> None:
    namespace = {"__name__": __name__, "Liver": Liver, "Base": BaseDatasetJSONGenerator, "x": 3}
    assert {name: type(g) for name, g in find_generators(namespace).items()} == {"Liver": Liver}


def test_classes_need_names_and_no_arguments() -> None:
    class Nameless(BaseDatasetJSONGenerator):
        pass

    class Demanding(BaseDatasetJSONGenerator):
        def __init__(self, where: str) -> None:
            super().__init__(where)

    with pytest.raises(ValueError, match="Nameless needs a name of its own, got ''"):
        find_generators({"__name__": __name__, "Nameless": Nameless})
    with pytest.raises(ValueError, match="Demanding must be made without arguments"):
        find_generators({"__name__": __name__, "Demanding": Demanding})
    with pytest.raises(ValueError, match="Liver needs a name of its own, got 'Liver'"):
        find_generators({"__name__": __name__, "A": Liver, "B": Liver})
