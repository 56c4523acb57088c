"""`neurosam3d summary` and `python sum_result.py`, as a user calls them."""

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import neurosam3d.__main__ as program
from neurosam3d.evaluation.report import read_results, write_results
from tests.evaluation.made_up import PROTOCOL, many_cases

SCRIPT = Path(__file__).parent.parent.parent / "sum_result.py"
CASES = many_cases(["liver", "thing"], 6)


def main(arguments: Sequence[object]) -> int:
    with pytest.raises(SystemExit) as end:
        program.main(["summary", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with an evaluation in two parts, each as .json, .csv and .py."""
    for index in (0, 1):
        own = [case for case in CASES if int(case.case[1:]) % 2 == index]
        protocol = {**PROTOCOL, "split_num": 2, "split_idx": index}
        write_results(tmp_path / f"run_s2i{index}.py", own, protocol=protocol)
    return tmp_path


@pytest.mark.parametrize("suffix", [".json", ".csv", ".py"])
def test_parts_are_put_together_from_any_kind_of_file(
    parts: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    assert main(sorted(parts.glob(f"run_s2i*{suffix}"))) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in ("AMOS", "all"):
        assert any(line[:2] == [name, "12"] for line in lines)
    assert any(line[:4] == ["abdomen", "and", "thorax", "6"] for line in lines)
    assert any(line[:2] == ["liver", "6"] for line in lines)
    assert any(line[:2] == ["other", "6"] for line in lines)


def test_other_files_are_shown_one_by_one(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_results(parts / "whole", CASES, protocol=PROTOCOL)
    assert main([parts / "run_s2i0.json", whole[0], whole[1]]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert shown.count("over12objectsof6scans.") == 2
    assert shown.count("over6objectsof3scans.") == 1


def test_what_was_put_together_is_written_as_if_never_divided(parts: Path) -> None:
    whole = write_results(
        parts / "whole.py", sorted(CASES, key=lambda c: c.object), protocol=PROTOCOL
    )
    assert main([*sorted(parts.glob("run_s2i*.json"))[::-1], "--out", parts / "run.py"]) == 0
    for path in whole:
        merged = (parts / f"run{path.suffix}").read_text(encoding="utf-8")
        assert merged.replace(">run<", ">whole<").replace("# run", "# whole") == path.read_text(
            encoding="utf-8"
        )


def test_a_missing_part_is_told(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, case in enumerate(CASES[:2]):
        protocol = {**PROTOCOL, "split_num": 3, "split_idx": index}
        write_results(parts / f"x_s3i{index}", [case], protocol=protocol)
    assert main(sorted(parts.glob("x_s3i*.json"))) == 0
    assert "missing parts, counted from 0: 2" in capsys.readouterr().out


def test_groups_are_the_users(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (parts / "mine.yaml").write_text("groups: {mine: [thing, liver]}", encoding="utf-8")
    arguments = [parts / "run_s2i0.json", "--groups", parts / "mine.yaml"]
    assert main([*arguments, "--out", parts / "new"]) == 0
    assert any(line.split()[:2] == ["mine", "6"] for line in capsys.readouterr().out.splitlines())
    assert {case.group for case in read_results(parts / "new.json").cases} == {"mine"}


def test_the_script_is_the_same_command(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sum_result.py", str(parts / "run_s2i0.py")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "best over clicks" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["sum_result.py", str(parts / "none.py")])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot read")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run_s2i0.json", "run_s2i0.csv", "--out", "x"], "in the results once, got AMOS Ts liver"),
        (["run_s2i0.json", "other.json", "--out", "x"], "have one protocol, got seed: 7 and 8"),
        (["text.json"], "text.json holds no results of an evaluation: it is no JSON"),
        (["run_s2i0.html"], "results are in a .json, .csv or .py file, got run_s2i0.html"),
    ],
)
def test_mistakes_are_one_sentence(
    parts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(parts)
    (parts / "text.json").write_text("hello", encoding="utf-8")
    content = json.loads((parts / "run_s2i1.json").read_text(encoding="utf-8"))
    content["protocol"]["seed"] = 8
    (parts / "other.json").write_text(json.dumps(content), encoding="utf-8")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (parts / "x.json").exists()
