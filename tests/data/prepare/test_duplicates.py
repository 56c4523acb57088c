"""Images that show the same, under whatever names."""

from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.prepare.duplicates import find_duplicates, name_places


def make_case(image: str, content: str | None, class_name: str = "liver") -> Case:
    extra = {} if content is None else {"content": content}
    path = Path(f"/tree/{image}.nii.gz")
    return Case(path, path.with_name(class_name), class_name, 9.0, (2.0, 1.5, 3.0), None, extra)


def test_files_of_one_content_are_grouped_across_sets() -> None:
    sets = {
        "A_Tr": [make_case("A/x", "1"), make_case("A/x", "1", "tumor"), make_case("A/y", "2")],
        "B_Ts": [make_case("B/z", "2"), make_case("B/x", "1"), make_case("B/w", "1")],
        "C_Val": [make_case("C/x", "3"), make_case("C/y", "3")],
    }
    groups = find_duplicates(sets)
    assert [[str(place) for place in group] for group in groups] == [
        ["x of A_Tr", "x of B_Ts", "w of B_Ts"],
        ["y of A_Tr", "z of B_Ts"],
        ["x of C_Val", "y of C_Val"],
    ]
    assert [[place.is_training for place in group] for group in groups] == [
        [True, False, False],
        [True, False],
        [False, False],
    ]


def test_classes_of_one_file_and_a_file_of_two_sets_are_no_duplicates() -> None:
    moved = [make_case("A/x", "1"), make_case("A/x", "1", "tumor")]
    assert find_duplicates({"A_Tr": moved, "A_Val": moved}) == []


def test_entries_without_a_digest_are_not_compared() -> None:
    old = [make_case("A/x", None), make_case("A/y", None)]
    assert find_duplicates({"A_Tr": old}) == []


def test_of_many_places_a_few_are_named() -> None:
    cases = [make_case(f"A/{name}", "1") for name in "abcdefgh"]
    (group,) = find_duplicates({"A_Tr": cases})
    assert name_places(group[:2]) == "a of A_Tr, b of A_Tr"
    some = ", ".join(f"{name} of A_Tr" for name in "abcde")
    assert name_places(group) == f"{some} and 3 more"
