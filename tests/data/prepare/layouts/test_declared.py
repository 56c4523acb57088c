"""Layouts that a YAML file declares."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from neurosam3d.data.prepare.layouts import RawFolder, list_declared, read_layout
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind

Touch = Callable[..., None]
LESIONS: dict[str, Any] = {
    "name": "Lesions",
    "modality": "MRI",
    "labels": {1: "white matter lesion"},
    "sources": {
        "Tr": {
            "images": "{patient}/{sequence}_N4{ext}",
            "label": "{patient}/truth{ext}",
            "case": "{patient}_{sequence}",
            "patient": "{patient}",
        }
    },
}


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., Path]:
    """Write a layout file; changes replace keys of its only source, or its own keys."""

    def write(changes: dict[str, Any] | None = None, **source: Any) -> Path:
        content = {**LESIONS, **(changes or {})}
        if source:
            content["sources"] = {"Tr": [{**LESIONS["sources"]["Tr"], **source}]}
        path = tmp_path / "layout.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def list_layout(path: Path, **options: Any) -> Listing:
    record = read_layout(path)
    return list_declared(RawFolder(path.parent / "raw", record.name, **options), record)


def test_sequences_of_a_patient(tmp_path: Path, touch: Touch, declare: Callable[..., Path]) -> None:
    touch("raw/p07/FLAIR_N4.nii.gz", "raw/p07/T1_N4.nii.gz", "raw/p07/truth.nii.gz")
    touch("raw/p26/FLAIR_N4.nii.gz", "raw/p26/truth.nii.gz", "raw/p27/FLAIR_N4.nii.gz")
    path = declare({"page": "https://example.org", "licence": "CC BY"})
    listing = list_layout(path)
    assert [(i.case, i.patient, i.class_name) for i in listing.items["Tr"]] == [
        ("p07_FLAIR", "p07", "white_matter_lesion"),
        ("p07_T1", "p07", "white_matter_lesion"),
        ("p26_FLAIR", "p26", "white_matter_lesion"),
    ]
    assert [(p.kind, p.case) for p in listing.problems["Tr"]] == [(Kind.NO_LABEL, "p27_FLAIR")]
    assert (listing.name, listing.modality) == ("Lesions", ("MRI",))
    assert (listing.page, listing.licence) == ("https://example.org", "CC BY")
    assert (listing.root, listing.raw_folder) == (tmp_path, "raw")
    assert read_layout(path, name="Other").name == "Other"


def test_every_field_of_a_source(touch: Touch, declare: Callable[..., Path]) -> None:
    touch("raw/p1/FLAIR_N4.nii.gz", "raw/p1/DWI_N4.nii.gz", "raw/p1/prob.nii.gz")
    path = declare(
        label="{patient}/prob{ext}",
        labels={"lesion": 1},
        exclude="FLAIR",
        channel=2,
        modality="DWI",
        threshold=0.25,
    )
    (item,) = list_layout(path).items["Tr"]
    assert (item.case, item.class_name, item.channel) == ("p1_DWI", "lesion", 2)
    assert (item.modality, item.threshold, item.binary) == ("DWI", 0.25, True)
    (item,) = list_layout(path, channel=1, threshold=0.75).items["Tr"]
    assert (item.channel, item.threshold) == (1, 0.75)


def test_a_single_case_is_named_after_the_dataset(
    tmp_path: Path, touch: Touch, declare: Callable[..., Path]
) -> None:
    touch("raw/dicom/1.dcm", "raw/seg.nii.gz", "tables/table.json")
    (tmp_path / "tables/table.json").write_text(json.dumps({"1": "spleen", "5": "liver"}))
    sources = {"Ts": [{"images": "dicom/", "label": "seg.nii.gz"}]}
    path = declare({"sources": sources, "labels": "tables/table.json"})
    listing = list_layout(path)
    assert [(i.case, i.image.name, i.values) for i in listing.items["Ts"]] == [
        ("Lesions", "dicom", (1,)),
        ("Lesions", "dicom", (5,)),
    ]
    given = list_layout(path, labels={6: "stomach"})
    assert [i.class_name for i in given.items["Ts"]] == ["stomach"]


def test_cases_without_a_name_are_called_by_all_placeholders(
    touch: Touch, declare: Callable[..., Path]
) -> None:
    touch("raw/p1/FLAIR_N4.nii.gz", "raw/p1/truth.nii.gz")
    assert list_layout(declare(case=None)).items["Tr"][0].case == "p1_FLAIR"


def test_label_table_lies_beside_the_layout_or_else_in_the_raw_folder(
    tmp_path: Path, declare: Callable[..., Path]
) -> None:
    path = declare({"labels": "table.json"})
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "table.json").write_text('{"1": "from the raw folder"}')
    assert read_layout(path, raw=raw).labels == {(1,): "from the raw folder"}
    (tmp_path / "table.json").write_text('{"1": "beside"}')
    assert read_layout(path, raw=raw).labels == {(1,): "beside"}


def test_the_documented_layouts_are_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    layouts = [block for block in blocks if "sources:" in block]
    (tmp_path / "aal.nii.txt").write_text("1 Precentral_L 2001\n")
    (tmp_path / "labels.json").write_text('{"1": "spleen"}')
    for number, layout in enumerate(layouts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(layout, encoding="utf-8")
        assert read_layout(path).sources["Tr"]
    assert len(layouts) == 3


def test_without_sources_the_usual_folders_are_meant(tmp_path: Path, touch: Touch) -> None:
    touch("raw/imagesVal/a.nii.gz", "raw/labelsVal/a.nii.gz")
    (tmp_path / "layout.yaml").write_text("name: A\nlabels: {liver: 1}\nmodality: [CT, MRI]\n")
    listing = list_layout(tmp_path / "layout.yaml")
    assert [i.case for i in listing.items["Val"]] == ["a"]
    assert listing.modality == ("CT", "MRI")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lables": {}}, "unknown key 'lables'; known: name, modality, labels, sources, page, lic"),
        ({"name": "a/b"}, "a dataset's name starts with a letter or digit .* got 'a/b'"),
        ({"labels": 3}, "labels are a table or the name of a file, got 3"),
        ({"labels": {"liver": "x"}}, "label values are integers of 0 or more, got 'x'"),
        ({"labels": "none.txt"}, r"cannot read .*none\.txt: No such file"),
        ({"sources": []}, r"sources are listed for Tr, Val, Ts, got \[\]"),
        ({"sources": {"Train": []}}, "sources are listed for Tr, Val, Ts, got {'Train'"),
        ({"sources": {"Tr": ["x"]}}, "a source needs images and label, got 'x'"),
        ({"sources": {"Tr": {"images": "x"}}}, "a source needs images and label, got {'images'"),
        ({"sources": {"Tr": 4}}, "a source needs images and label, got 4"),
        ({"modality": 4}, "modality is a text or a list of texts, got 4"),
    ],
)
def test_an_unfit_layout_is_one_sentence(
    declare: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"layout\.yaml: {message}") as error:
        read_layout(declare(changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"image": "x"},
            "unknown key 'image' of a source; known: images, label, labels, case",
        ),
        ({"channel": "T1"}, "channel is a number of 0 or more, got 'T1'"),
        ({"channel": -1}, "channel is a number of 0 or more, got -1"),
        ({"threshold": 2}, "threshold lies between 0 and 1, got 2"),
        ({"exclude": 3}, "exclude is a text or a list of texts, got 3"),
        ({"patient": "{subject}"}, r"lacks: \{subject\}"),
        ({"label": "../x.nii"}, "a template starts below the raw folder"),
    ],
)
def test_an_unfit_source_is_one_sentence(
    declare: Callable[..., Path], source: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"layout\.yaml: .*{message}"):
        read_layout(declare(**source))


def test_a_layout_that_finds_nothing_says_what_it_looked_for(
    touch: Touch, declare: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=r"^no raw folder .*raw$"):
        list_layout(declare())
    touch("raw/p1/truth.nii.gz")
    message = r"no image with a label in .*raw; looked for .*_N4\{ext\}; .*label without image: 1"
    with pytest.raises(ValueError, match=message):
        list_layout(declare())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML: while parsing"),
        ("- a", r"must hold keys and values, got \['a'\]"),
        ("", "must hold keys and values, got None"),
        ("!!python/object:os.system {}", "is not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_layout(tmp_path / "x.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"cannot read .*none\.yaml: No such file"):
        read_layout(tmp_path / "none.yaml")
