"""BIDS: which derivative belongs to which image, and what its classes are."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.prepare.layouts import RawFolder, list_raw_folder
from neurosam3d.data.prepare.layouts.layout import DEFAULT_THRESHOLD
from neurosam3d.data.prepare.listing import Listing, RawItem
from neurosam3d.data.prepare.problems import Kind

Touch = Callable[..., None]
TSV = "index\tname\n0\tBackground\n17\tLeft-Hippocampus\n53\tRight-Hippocampus\n"


def list_bids(root: Path, **options: object) -> Listing:
    return list_raw_folder(RawFolder(root, "A", **options))  # type: ignore[arg-type]


def labels(items: tuple[RawItem, ...]) -> dict[tuple[str, str], str]:
    """Case and class -> label file."""
    return {(item.case, item.class_name): item.seg.name for item in items}


def kinds(listing: Listing) -> list[tuple[Kind, str]]:
    return [(problem.kind, problem.case) for problem in listing.problems.get("Tr", ())]


def test_the_spinal_cord_convention(tmp_path: Path, touch: Touch) -> None:
    touch("sub-a/anat/sub-a_T2w.nii.gz", "sub-b/anat/sub-b_T1w.nii.gz")
    folder = "derivatives/labels"
    touch(f"{folder}/sub-a/anat/sub-a_T2w_seg-manual.nii.gz", f"{folder}/README.md")
    touch(f"{folder}/sub-a/anat/sub-a_T2w_seg-labeled.nii.gz")
    touch(f"{folder}/sub-b/anat/sub-b_T1w_lesion-manual.nii.gz")
    touch(f"{folder}/sub-b/anat/sub-b_T1w_labels-disc-manual.nii.gz")  # points
    listing = list_bids(tmp_path)
    items = {item.class_name: item for item in listing.items["Tr"]}
    cord, level, lesion = items["spinal_cord"], items["cord_level_7"], items["lesion"]
    assert (cord.case, cord.patient, cord.modality, cord.binary) == (
        "sub-a_T2w",
        "sub-a",
        "T2w",
        True,
    )
    assert (level.values, level.binary, level.seg.name) == (
        (7,),
        False,
        "sub-a_T2w_seg-labeled.nii.gz",
    )
    assert (lesion.case, lesion.patient) == ("sub-b_T1w", "sub-b")
    assert listing.modality == ("T1w", "T2w")
    assert kinds(listing) == []
    given = list_bids(tmp_path, labels={3: "C3", 4: "C4"})
    names = {i.class_name: i.values for i in given.items["Tr"] if i.case == "sub-a_T2w"}
    assert names == {"spinal_cord": (1,), "C3": (3,), "C4": (4,)}


@pytest.mark.parametrize(
    "table",
    [
        "derivatives/fs/sub-1/ses-2/anat/sub-1_ses-2_desc-aseg_dseg.tsv",
        "derivatives/fs/sub-1/ses-2/sub-1_desc-aseg_dseg.tsv",
        "derivatives/fs/desc-aseg_dseg.tsv",
        "derivatives/fs/dseg.tsv",
        "dseg.tsv",
    ],
)
def test_tables_lie_beside_or_above(tmp_path: Path, touch: Touch, table: str) -> None:
    touch("sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz")
    touch("derivatives/fs/sub-1/ses-2/anat/sub-1_ses-2_desc-aseg_dseg.nii.gz", table)
    touch("derivatives/fs/desc-other_dseg.tsv", "derivatives/fs/sub-2_desc-aseg_dseg.tsv")
    (tmp_path / table).write_text(TSV)
    items = list_bids(tmp_path).items["Tr"]
    assert [(i.class_name, i.values) for i in items] == [
        ("Left-Hippocampus", (17,)),
        ("Right-Hippocampus", (53,)),
    ]


def test_the_nearest_and_fullest_table_counts(tmp_path: Path, touch: Touch) -> None:
    touch("sub-1/anat/sub-1_T1w.nii.gz", "derivatives/fs/sub-1/anat/sub-1_desc-a_dseg.nii.gz")
    for name, text in {"fs/dseg.tsv": "c", "fs/desc-a_dseg.tsv": "b", "dseg.tsv": "a"}.items():
        (tmp_path / "derivatives" / name).write_text(f"index\tname\n1\t{text}\n")
    assert list_bids(tmp_path).items["Tr"][0].class_name == "b"
    assert list_bids(tmp_path, labels={1: "given"}).items["Tr"][0].class_name == "given"


def test_labels_json_serves_where_there_is_no_tsv(tmp_path: Path, touch: Touch) -> None:
    touch("sub-1/anat/sub-1_T1w.nii.gz", "derivatives/x/sub-1/anat/sub-1_dseg.nii.gz")
    with pytest.raises(ValueError, match=r"unusable label: 1, the first: no table names the class"):
        list_bids(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps({"1": "gm", "2": "wm"}))
    assert [i.class_name for i in list_bids(tmp_path).items["Tr"]] == ["gm", "wm"]


def test_masks_and_probabilities_are_named_by_their_entities(tmp_path: Path, touch: Touch) -> None:
    touch("sub-1/anat/sub-1_T1w.nii.gz")
    folder = "derivatives/fmriprep/sub-1/anat"
    touch(f"{folder}/sub-1_desc-brain_mask.nii.gz", f"{folder}/sub-1_label-GM_probseg.nii.gz")
    touch(f"{folder}/sub-1_T1w_label-SC_seg.nii.gz", f"{folder}/sub-1_T1w_seg.nii.gz")
    touch(f"{folder}/sub-1_desc-preproc_T1w.nii.gz", f"{folder}/sub-1_from-T1w_to-MNI_xfm.h5")
    found = {i.class_name: (i.binary, i.threshold) for i in list_bids(tmp_path).items["Tr"]}
    assert found == {
        "brain": (True, None),
        "GM": (True, DEFAULT_THRESHOLD),
        "SC": (True, None),
        "seg": (True, None),
    }
    found = {i.class_name: i.threshold for i in list_bids(tmp_path, threshold=0.3).items["Tr"]}
    assert found == {"brain": None, "GM": 0.3, "SC": None, "seg": None}
    given = list_bids(tmp_path, labels={1: "cord", 2: "canal"}).items["Tr"]
    assert {i.class_name for i in given} == {"brain", "GM", "SC", "cord", "canal"}


def test_a_label_belongs_to_the_image_that_its_name_means(
    tmp_path: Path, touch: Touch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(*(f"sub-1/anat/sub-1_{name}.nii.gz" for name in ("T1w", "T2w", "acq-hi_T1w")))
    touch("sub-1/func/sub-1_task-rest_bold.nii.gz", "sub-10/anat/sub-10_T1w.nii.gz")
    folder = "derivatives/d/sub-1"
    names = {
        "anat/sub-1_label-a_mask": "sub-1_T1w",  # nothing said: T1w
        "anat/sub-1_space-T2w_label-b_mask": "sub-1_T2w",
        "anat/sub-1_acq-hi_label-c_mask": "sub-1_acq-hi_T1w",
        "anat/sub-1_T2w_label-d_mask": "sub-1_T2w",
        "anat/sub-1_acq-hi_T1w_label-e_mask": "sub-1_acq-hi_T1w",
        "func/sub-1_task-rest_label-f_mask": "sub-1_task-rest_bold",
        "func/sub-1_label-k_mask": "sub-1_task-rest_bold",
        "anat/sub-1_T2w_label-l_mask_desc-rater1": "sub-1_T2w",
        "anat/sub-1_space-orig_label-g_mask": "sub-1_T1w",
        "anat/sub-1_space-MNI152_label-h_mask": None,
        "anat/sub-1_run-2_label-i_mask": None,
    }
    touch(*(f"{folder}/{name}.nii.gz" for name in names), "derivatives/d/tpl-x_label-j_mask.nii.gz")
    with caplog.at_level(logging.INFO):
        listing = list_bids(tmp_path)
    assert "1 labels in the space MNI152, which no image has, are left out" in caplog.messages
    found = {
        seg.removesuffix(".nii.gz"): case for (case, _), seg in labels(listing.items["Tr"]).items()
    }
    assert found == {name.split("/")[1]: case for name, case in names.items() if case}
    assert kinds(listing) == [*[(Kind.NO_IMAGE, "")] * 2, (Kind.NO_LABEL, "sub-10_T1w")]


def test_a_label_that_fits_several_images_belongs_to_none(tmp_path: Path, touch: Touch) -> None:
    touch("sub-1/anat/sub-1_run-1_T1w.nii.gz", "sub-1/anat/sub-1_run-2_T1w.nii.gz")
    touch("derivatives/d/sub-1/anat/sub-1_label-a_mask.nii.gz")
    touch("derivatives/d/sub-1/anat/sub-1_run-2_label-b_mask.nii.gz")
    listing = list_bids(tmp_path)
    assert set(labels(listing.items["Tr"])) == {("sub-1_run-2_T1w", "b")}
    ambiguous = listing.problems["Tr"][0]
    assert ambiguous.kind is Kind.NO_IMAGE
    assert "sub-1_label-a_mask.nii.gz may belong to " in ambiguous.sentence
    assert "_run-1_T1w.nii.gz and " in ambiguous.sentence


def test_several_derivatives_are_several_labels_of_an_image(tmp_path: Path, touch: Touch) -> None:
    touch("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_FLAIR.nii.gz")
    touch("derivatives/b/sub-1/anat/sub-1_T1w_label-x_mask.nii.gz")
    touch("derivatives/a/sub-1/anat/sub-1_T1w_label-x_mask.nii.gz")
    touch("derivatives/a/sub-1/anat/sub-1_T1w_label-y_mask.nii.gz")
    listing = list_bids(tmp_path, channel=3)
    found = {(i.class_name, i.seg.parts[-4], i.channel) for i in listing.items["Tr"]}
    assert found == {("x", "a", 3), ("y", "a", 3)}  # of one class the first counts
    assert kinds(listing) == []  # FLAIR is never labelled here
