"""Which labels belong to which images, and what is said of those that belong to none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from neurosam3d.data.prepare.pairing import Source, list_sources, pair_sources
from neurosam3d.data.prepare.problems import Kind

LABELS = {0: "background", 1: "left kidney", (1, 2): "both"}
Touch = Callable[..., None]


def pairs(root: Path, *sources: Source) -> list[tuple[str, str, str, str]]:
    return [
        (item.case, item.class_name, *(str(p.relative_to(root)) for p in (item.image, item.seg)))
        for item in pair_sources(root, sources, labels=LABELS).items
    ]


def problems(root: Path, *sources: Source) -> list[tuple[Kind, str, str]]:
    found = pair_sources(root, sources, labels=LABELS).problems
    return [(p.kind, p.case, p.sentence.replace(f"{root}/", "")) for p in found]


def test_one_item_per_class_in_the_order_of_the_cases(tmp_path: Path, touch: Touch) -> None:
    touch(*(f"{folder}Tr/{case}.nii.gz" for folder in ("i", "l") for case in "ba"))
    source = Source("iTr/{case}{ext}", "lTr/{case}{ext}")
    assert pairs(tmp_path, source) == [
        ("a", "left_kidney", "iTr/a.nii.gz", "lTr/a.nii.gz"),
        ("a", "both", "iTr/a.nii.gz", "lTr/a.nii.gz"),
        ("b", "left_kidney", "iTr/b.nii.gz", "lTr/b.nii.gz"),
        ("b", "both", "iTr/b.nii.gz", "lTr/b.nii.gz"),
    ]
    assert problems(tmp_path, source) == []


def test_image_and_label_may_be_of_different_formats(tmp_path: Path, touch: Touch) -> None:
    touch("i/a.mha", "l/a_seg.nii.gz", "l/ab_seg.nii.gz")
    found = pairs(tmp_path, Source("i/{case}{ext}", "l/{case}_seg{ext}"))
    assert {row[2:] for row in found} == {("i/a.mha", "l/a_seg.nii.gz")}


def test_what_has_no_partner_is_a_problem(tmp_path: Path, touch: Touch) -> None:
    touch("i/a.nii.gz", "i/b.nii.gz", "i/c.nii.gz", "l/b.nii.gz", "l/d.nii.gz")
    source = Source("i/{case}{ext}", "l/{case}{ext}")
    assert {case for case, *_ in pairs(tmp_path, source)} == {"b"}
    assert problems(tmp_path, source) == [
        (Kind.NO_LABEL, "a", "no label belongs to i/a.nii.gz; looked for l/a{ext}"),
        (Kind.NO_LABEL, "c", "no label belongs to i/c.nii.gz; looked for l/c{ext}"),
        (Kind.NO_IMAGE, "", "no image belongs to l/d.nii.gz; looked for i/{case}{ext}"),
    ]


def test_an_image_needs_the_label_of_one_source_only(tmp_path: Path, touch: Touch) -> None:
    touch("i/a.nii.gz", "i/b.nii.gz", "lung/a.nii.gz", "infection/a.nii.gz", "infection/b.nii.gz")
    sources = [Source("i/{case}{ext}", f"{name}/{{case}}{{ext}}") for name in ("lung", "infection")]
    assert problems(tmp_path, *sources) == []
    touch("lung/c.nii.gz")
    copy = Source("copies/{case}{ext}", "lung/{case}{ext}")
    assert [row[0] for row in problems(tmp_path, *sources, copy)] == [Kind.NO_IMAGE]  # once


def test_images_that_share_a_name_are_left_out(tmp_path: Path, touch: Touch) -> None:
    touch("s1/ct.nii.gz", "s1/mr.nii.gz", "s1/l.nii.gz", "s2/ct.nii.gz", "s2/l.nii.gz")
    source = Source("{case}/{kind}{ext}", "{case}/l{ext}", exclude=("/l.",))
    assert {row[0] for row in pairs(tmp_path, source)} == {"s2"}
    sentence = "case 's1' stands for two images, s1/ct.nii.gz and s1/mr.nii.gz"
    assert problems(tmp_path, source) == [(Kind.SAME_NAME, "s1", sentence)]


def test_labels_beside_their_images_are_none_of_them(tmp_path: Path, touch: Touch) -> None:
    touch("a.nii.gz", "a_seg.nii.gz")
    source = Source("{case}{ext}", "{case}_seg{ext}")
    assert {row[0] for row in pairs(tmp_path, source)} == {"a"}
    assert problems(tmp_path, source) == []


def test_sequences_of_a_subject_are_cases_of_one_patient(tmp_path: Path, touch: Touch) -> None:
    touch("i_T1/s1.nii.gz", "i_T2/s1.nii.gz", "l/s1.nii.gz")
    source = Source(
        "i{sequence}/{case}{ext}",
        "l/{case}{ext}",
        labels={1: "tumor"},
        case="{case}{sequence}",
        patient="{case}",
        channel=2,
        modality="MR",
    )
    items = pair_sources(tmp_path, [source], labels=LABELS).items
    assert [(i.case, i.patient, i.class_name, i.channel, i.modality) for i in items] == [
        ("s1_T1", "s1", "tumor", 2, "MR"),
        ("s1_T2", "s1", "tumor", 2, "MR"),
    ]


def test_mask_files_name_their_classes_and_belong_to_one_case(tmp_path: Path, touch: Touch) -> None:
    touch("s1/ct.nii.gz", "s1/masks/left lung.nii.gz", "s1/masks/aorta.nii.gz")
    touch("s10/ct.nii.gz", "s10/masks/liver.nii.gz", "s2/masks/liver.nii.gz")
    source = Source("{case}/ct.nii.gz", "{case}/masks/{class}.nii.gz", threshold=0.3)
    found = pair_sources(tmp_path, [source], labels={})
    assert [(i.case, i.class_name, i.values, i.binary, i.threshold) for i in found.items] == [
        ("s1", "aorta", (1,), True, 0.3),
        ("s1", "left_lung", (1,), True, 0.3),
        ("s10", "liver", (1,), True, 0.3),
    ]
    assert [problem.kind for problem in found.problems] == [Kind.NO_IMAGE]


def test_a_mask_that_fits_two_cases_is_the_longer_ones(tmp_path: Path, touch: Touch) -> None:
    touch("i/s1.nii.gz", "i/s1_b.nii.gz", "l/s1_b_liver.nii.gz", "l/s1_aorta.nii.gz")
    items = pair_sources(tmp_path, [Source("i/{case}{ext}", "l/{case}_{class}{ext}")], labels={})
    assert [(i.case, i.class_name) for i in items.items] == [("s1", "aorta"), ("s1_b", "liver")]


def test_a_placeholder_of_the_label_alone_stands_for_any_text(tmp_path: Path, touch: Touch) -> None:
    touch("i/a.nii.gz", "rater2/a.nii.gz", "rater1/a.nii.gz")
    found = pairs(tmp_path, Source("i/{case}{ext}", "{rater}/{case}{ext}", exclude=("rater",)))
    assert {row[3] for row in found} == {"rater1/a.nii.gz"}  # where two name a class, the first


def test_excluded_images_and_second_labels_of_a_class_are_left_out(
    tmp_path: Path, touch: Touch
) -> None:
    touch("i/a.nii.gz", "i/b.nii.gz", "i/b_FLAIR.nii.gz")
    touch("manual/a.nii.gz", "auto/a.nii.gz", "auto/b.nii.gz", "auto/b_FLAIR.nii.gz")
    table = {1: "tumor"}
    words = ("FLAIR",)
    manual = Source("i/{case}{ext}", "manual/{case}{ext}", labels=table, exclude=words)
    auto = Source("i/{case}{ext}", "auto/{case}{ext}", labels=table, exclude=words)
    found = pairs(tmp_path, manual, auto)
    assert [row[3] for row in found] == ["manual/a.nii.gz", "auto/b.nii.gz"]
    assert problems(tmp_path, manual, auto) == []


def test_folders_of_dicom_series_are_images(tmp_path: Path, touch: Touch) -> None:
    touch("s1/dicom/1.dcm", "s1/seg.nii.gz", "s2/dicom/1.dcm")
    source = Source("{case}/dicom/", "{case}/seg{ext}", labels={1: "liver"})
    assert pairs(tmp_path, source) == [("s1", "liver", "s1/dicom", "s1/seg.nii.gz")]
    assert [row[:2] for row in problems(tmp_path, source)] == [(Kind.NO_LABEL, "s2")]


def test_fractions_make_up_one_class(tmp_path: Path, touch: Touch) -> None:
    touch("i/a.nii.gz", "p/a.nii.gz")
    source = Source("i/{case}{ext}", "p/{case}{ext}", labels={2: "wm"}, threshold=0.4)
    (item,) = pair_sources(tmp_path, [source], labels={}).items
    assert (item.class_name, item.binary, item.threshold) == ("wm", True, 0.4)
    source = Source("i/{case}{ext}", "p/{case}{ext}", labels={1: "gm", 2: "wm"}, threshold=0.4)
    with pytest.raises(ValueError, match="need a table of one class, got gm, wm"):
        pair_sources(tmp_path, [source], labels={})


def test_label_files_without_a_table_are_refused(tmp_path: Path, touch: Touch) -> None:
    touch("i/a.nii.gz", "l/a.nii.gz")
    with pytest.raises(ValueError, match=r"l/\{case}\{ext} need a table of classes, got none"):
        pair_sources(tmp_path, [Source("i/{case}{ext}", "l/{case}{ext}")], labels={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "../{case}.nii"}, r"starts below the raw folder, got '\.\./\{case}\.nii'"),
        ({"label": "/abs/{case}.nii"}, "starts below the raw folder, got '/abs"),
        ({"images": "{subject}.nii"}, r"'\{subject}\.nii' lacks: \{case}"),
        ({"patient": "{site}"}, r"'\{case}\.nii' lacks: \{site}"),
    ],
)
def test_unfit_templates_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Source(**{"images": "{case}.nii", "label": "l/{case}.nii", **changes})


def test_a_listing_holds_the_sets_that_have_something(tmp_path: Path, touch: Touch) -> None:
    touch("iTr/a.nii.gz", "lTr/a.nii.gz", "iTs/b.nii.gz")
    sources = {
        name: [Source(f"i{name}/{{case}}{{ext}}", f"l{name}/{{case}}{{ext}}")]
        for name in ("Tr", "Val", "Ts")
    }
    listing = list_sources(tmp_path, "A", modality=["CT"], labels=LABELS, sources=sources)
    assert (listing.name, listing.modality, list(listing.items)) == ("A", ("CT",), ["Tr"])
    assert {name: len(found) for name, found in listing.problems.items()} == {"Ts": 1}
