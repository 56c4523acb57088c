"""Names of cases: where they come from, and what is done when two images share one."""

from pathlib import Path

import pytest

from neurosam3d.data.prepare.case_names import check_cases, name_cases, part_same_names
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.data.prepare.raw_item import RawItem


def item(image: str, case: str, class_name: str = "liver") -> RawItem:
    return RawItem(Path(image), Path("seg.nii"), (1,), class_name, case)


def test_cases_are_named_after_their_files_and_if_need_be_their_folders() -> None:
    items = [item("s1/t1.nii.gz", ""), item("s2/t1.nii.gz", ""), item("s2/t2.nii.gz", "")]
    items.append(item("x.nii", "own"))
    assert [i.case for i in name_cases(items)] == ["s1_t1", "s2_t1", "t2", "own"]


def test_images_of_one_name_are_left_out_and_the_others_stay() -> None:
    items = [item("a/x.nii", "x"), item("b/y.nii", "y"), item("b/x.nii", "x")]
    items += [item("a/x.nii", "x", "tumor"), item("c/x.nii", "x"), item("b/y.nii", "y", "tumor")]
    kept, problems = part_same_names(items)
    assert [(i.case, i.class_name) for i in kept] == [("y", "liver"), ("y", "tumor")]
    (problem,) = problems
    assert (problem.kind, problem.case) == (Kind.SAME_NAME, "x")
    expected = "case 'x' stands for 3 images, a/x.nii and b/x.nii and c/x.nii"
    assert problem.sentence == expected


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([item("a", "x"), item("b", "x")], r"A_Tr: case 'x' stands for two images, a and b"),
        ([item("a", "x"), item("a", "x")], "A_Tr: case 'x' has two labels for class 'liver'"),
    ],
)
def test_a_list_with_one_name_for_two_things_is_refused(items: list[RawItem], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cases(items, "A_Tr")
