"""`neurosam3d compare`, as a user calls it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import neurosam3d.__main__ as program
from neurosam3d.evaluation.report import write_results
from tests.evaluation.made_up import PROTOCOL, many_cases


def main(arguments: Sequence[object]) -> int:
    with pytest.raises(SystemExit) as end:
        program.main(["compare", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Results of two methods, one of them as it is found with old tools."""
    paths = []
    for number, name in enumerate(("a", "b.py")):
        cases = many_cases(["liver"], 7, shift=0.05 * number)
        paths += write_results(tmp_path / name, cases, protocol={**PROTOCOL, "seed": number})
    return sorted(paths)


def test_methods_are_shown_and_written(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [tmp_path / "out" / "c.html", tmp_path / "out" / "c.csv"]
    arguments = [tmp_path / "a.json", tmp_path / "b.json", "--clicks", 1, 3, "--out", *out]
    assert main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Dice: difference to a" in shown
    assert "The protocols differ in seed: 0 (a), 1 (b)." in shown
    assert all(path.is_file() for path in out)


def test_names_reference_and_metric_are_the_users(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["--names", "old", "[new]", "--reference", "[new]", "--metric", "dice"]
    assert main([tmp_path / "a.csv", tmp_path / "b.json", *names]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Dice: difference to [new]" in shown
    assert "HD95 in mm" not in shown
    assert "The file of old does not tell its protocol" in shown


def test_files_of_one_name_are_called_by_their_paths(
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["a.json", "a.csv", "--metric", "dice"]) == 0
    assert "difference to a.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json"], "a comparison needs at least two methods, got 1"),
        (["a.json", "b.json", "--names", "x"], "2 methods need as many different names, got x"),
        (["a.json", "b.json", "--names", "x", "x"], "as many different names, got x, x"),
        (["a.json", "b.json", "--out", "c.pdf"], "is a .md, .html, .json, .csv file, got c.pdf"),
        (["a.json", "b.json", "--metric", "iou"], "invalid choice: 'iou'"),
        (["a.json", "none.json"], "cannot read none.json: No such file or directory"),
        (["a.json", "b.py"], "methods must share a number of clicks"),
        ([], "compare needs files with results, or --plan and a plan"),
        (["a.json", "b.json", "--restart"], "--restart is of --plan"),
        (
            ["a.json", "--plan", "p.yaml"],
            "a plan says all of the comparison, so files has no place",
        ),
        (["--plan", "p.yaml", "--out", "a", "b"], "--out of a plan is one folder, got 2"),
        (["--plan", "none.yaml"], "cannot read none.yaml: No such file or directory"),
    ],
)
def test_mistakes_are_one_sentence(
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
