"""FreeSurfer subjects: which of their images and labels are taken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.prepare.layouts import RawFolder, list_raw_folder
from neurosam3d.data.prepare.problems import Kind

Touch = Callable[..., None]
TABLE = {
    (3,): "Left-Cerebral-Cortex",
    (17,): "Left-Hippocampus",
    (1006,): "ctx-lh-entorhinal",
    (11101,): "ctx_lh_G_and_S_frontomargin",
}


def test_the_first_image_of_a_subject_counts(tmp_path: Path, touch: Touch) -> None:
    touch("s1/mri/orig.mgz", "s1/mri/T1.mgz", "s1/mri/aseg.mgz", "s1/mri/transforms/x.mgz")
    touch("s2/mri/brain.mgz", "s2/mri/norm.mgz", "s2/mri/aseg.mgz", "fsaverage/mri/T1.mgz")
    touch("s3/mri/norm.mgz", "s4/mri/aseg.mgz", "s5/surf/lh.white", "fsaverage/mri/aseg.mgz")
    listing = list_raw_folder(RawFolder(tmp_path, "A", channel=1))
    items = listing.items["Tr"]
    assert {(i.case, i.patient, i.image.name, i.channel) for i in items} == {
        ("s1", "s1", "T1.mgz", 1),
        ("s2", "s2", "norm.mgz", 1),
    }
    assert [(p.kind, p.case) for p in listing.problems["Tr"]] == [
        (Kind.NO_LABEL, "s3"),
        (Kind.NO_IMAGE, "s4"),
    ]
    names = {i.values: i.class_name for i in items}
    assert (names[17,], names[53,]) == ("Left-Hippocampus", "Right-Hippocampus")
    assert max(names) < (1000,)


def test_parts_of_the_cortex_are_taken_from_their_atlas(tmp_path: Path, touch: Touch) -> None:
    files = ("norm", "aseg", "aparc+aseg", "aparc.a2009s+aseg")
    touch(*(f"s1/mri/{name}.mgz" for name in files))
    items = list_raw_folder(RawFolder(tmp_path, "A", labels=TABLE)).items["Tr"]
    assert {i.class_name: i.seg.name for i in items} == {
        "Left-Cerebral-Cortex": "aseg.mgz",
        "Left-Hippocampus": "aseg.mgz",
        "ctx-lh-entorhinal": "aparc+aseg.mgz",
        "ctx_lh_G_and_S_frontomargin": "aparc.a2009s+aseg.mgz",
    }
    standard = list_raw_folder(RawFolder(tmp_path, "A")).items["Tr"]
    assert {"ctx-lh-entorhinal", "ctx_lh_G_and_S_frontomargin"} < {i.class_name for i in standard}


def test_a_raw_folder_may_be_one_subject_with_its_own_table(tmp_path: Path, touch: Touch) -> None:
    touch("bert/mri/norm.mgz", "bert/mri/aparc.a2009s+aseg.mgz")
    table = {values[0]: name for values, name in TABLE.items()}
    (tmp_path / "bert/labels.json").write_text(json.dumps(table))
    items = list_raw_folder(RawFolder(tmp_path / "bert", "A")).items["Tr"]
    assert {(i.case, i.patient) for i in items} == {("bert", "bert")}
    assert [i.values for i in items] == [(3,), (17,), (11101,)]


def test_subjects_without_labels_are_one_sentence(tmp_path: Path, touch: Touch) -> None:
    touch("s1/mri/norm.mgz", "s2/mri/norm.mgz")
    with pytest.raises(ValueError, match=r"read as FreeSurfer .*: image without label: 2"):
        list_raw_folder(RawFolder(tmp_path, "A"))
