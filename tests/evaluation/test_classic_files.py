"""Classic result files: written for old readers, read from old writers, and never run."""

import ast
import json
import logging
from pathlib import Path

import pytest

from neurosam3d.evaluation.classic_files import read_classic, read_classic_json, to_classic
from neurosam3d.evaluation.result_files import read_results
from neurosam3d.evaluation.results import BEST_OVER_CLICKS, RoundResult
from tests.evaluation.made_up import case

CASES = [
    case("s1", "liver", RoundResult(1, 0.5), RoundResult(2, 0.9), RoundResult(3, 0.7)),
    case("s'2", "left kidney", RoundResult(1, 0.25), dataset="Total"),
]


def test_the_best_over_clicks_is_written_and_labelled() -> None:
    comment, *rest = to_classic(CASES).splitlines()
    assert comment == "# mean Dice 0.575000 of 2 objects (legacy: best over clicks)"
    name, _, value = "\n".join(rest).partition(" = ")
    assert name == "dice_Ts"
    assert ast.literal_eval(value) == {
        "tree/AMOS/labelsTs/liver/s1.nii.gz": 0.9,
        "tree/Total/labelsTs/left kidney/s'2.nii.gz": 0.25,
    }


def test_repeats_are_averaged_and_missing_paths_made_up() -> None:
    cases = [
        case("s1", "liver", RoundResult(1, dice), repeat=repeat)
        for repeat, dice in enumerate((0.5, 0.7))
    ]
    assert "s1.nii.gz': 0.6," in to_classic(cases)
    bare = type(cases[0])("D", "Val", "c", "s", "", "", (RoundResult(1, 0.5),))
    assert "'D/labelsVal/c/s.nii.gz': 0.5," in to_classic([bare])


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(to_classic(CASES), encoding="utf-8")
    results = read_results(tmp_path / "r.py")
    assert [c.object for c in results.cases] == [c.object for c in CASES]
    assert [c.label for c in results.cases] == [c.label for c in CASES]
    assert results.cases[0].rounds == (RoundResult(BEST_OVER_CLICKS, 0.9),)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/AMOS/labelsVal/liver/a_1.nii.gz", ("AMOS", "Val", "liver", "a_1")),
        ("data/AMOS/labelsTr_x/liver/a.nii", ("AMOS", "Tr", "liver", "a")),
        # SAM-Med3D's: the fourth part from the end is what its summary groups by.
        ("val/liver/AMOS/imagesTs/a.nii.gz", ("AMOS", "Ts", "liver", "a")),
        ("val\\liver\\AMOS\\labelsTs\\a.nii.gz", ("AMOS", "Ts", "liver", "a")),
        ("/x/one/two/three/a.mha", ("two", "", "one", "a.mha")),
        ("a.nii.gz", ("", "", "", "a")),
    ],
)
def test_paths_tell_data_set_set_and_class(path: str, name: tuple[str, ...]) -> None:
    (found,) = read_classic(f"dice_Ts = {{{path!r}: 0.5}}").cases
    assert found.object == (name[0], name[1], name[2], name[3])
    assert found.label == path


def test_numbers_as_numpy_writes_them(caplog: pytest.LogCaptureFixture) -> None:
    text = "# 0.5\ndice_Ts = {'a': np.float64(0.25), 'b': nan, 'c': numpy.float32(1), 'd': 0}"
    with caplog.at_level(logging.WARNING):
        results = read_classic(text)
    assert [c.rounds[0].dice for c in results.cases] == [0.25, 1.0, 0.0]
    assert "left out: 1 object whose Dice is nan" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no dictionary dice_Ts"),
        ("x = {}", "it has no dictionary dice_Ts"),
        ("dice_Ts = {", "it is no classic file"),
        ("dice_Ts = [0.5]", "must map paths to numbers in 0..1: got list"),
        ("dice_Ts = {'a': 'b'}", "must map paths to numbers in 0..1: got 'a': 'b'"),
        ("dice_Ts = {1: 0.5}", "must map paths to numbers in 0..1: got 1: 0.5"),
        ("dice_Ts = {'a': 7}", "must map paths to numbers in 0..1: got 'a': 7"),
        ("dice_Ts = {'a': True}", "must map paths to numbers in 0..1: got 'a': True"),
        ("dice_Ts = load('x')", "must map paths to numbers in 0..1: malformed"),
    ],
)
def test_what_is_no_classic_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_classic(text)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    attack = f"open({str(trap)!r}, 'w').close()"
    texts = (
        f"{attack}\ndice_Ts = {{'a': 0.5}}",
        f"dice_Ts = {{'a': {attack}}}",
        f"dice_Ts = {{'a': np.float64({attack})}}",
        f"import os\ndice_Ts = {{**{attack}}}",
    )
    for text in texts:
        (tmp_path / "r.py").write_text(text, encoding="utf-8")
        try:
            read_results(tmp_path / "r.py")
        except ValueError as error:
            assert "holds no results" in str(error)  # noqa: PT017
    assert not trap.exists()


def test_the_json_of_older_tools_has_every_round(tmp_path: Path) -> None:
    dice = {"liver": {"val/liver/AMOS/imagesTs/a.nii.gz": {"1": 0.7, "0": 0.5, "2": float("nan")}}}
    (tmp_path / "old.json").write_text(json.dumps(dice), encoding="utf-8")
    (found,) = read_results(tmp_path / "old.json").cases
    assert found.object == ("AMOS", "Ts", "liver", "a")
    assert found.rounds == (RoundResult(1, 0.5), RoundResult(2, 0.7))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "AMOS"}, "it has no 'cases'"),
        ({"training": {}}, "it has no 'cases'"),
        ({"a": {"b": {"clicks": 1}}}, "it has no 'cases'"),
        ({"a": {"b": {"0": "much"}}}, "the Dice of b must be in 0..1"),
    ],
)
def test_other_json_is_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_classic_json(content)
