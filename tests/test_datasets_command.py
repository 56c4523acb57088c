"""The verbs of `neurosam3d`, and what `neurosam3d datasets` prints, draws and refuses."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from neurosam3d import recipes
from neurosam3d.__main__ import VERBS, main
from neurosam3d.data import datasets_command


def run(*words: str) -> int:
    """Carry out a command line and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def refusal(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one sentence that a command line is refused with."""
    assert run(*words) == 2
    output = capfd.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line


# Verbs


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 0
    lines = capfd.readouterr().out.splitlines()
    for name, verb in VERBS.items():
        assert f"  {name:8}  {verb.summary}" in lines


def test_every_verb_can_be_called() -> None:
    assert set(recipes.VERBS) < set(VERBS)
    for verb in VERBS.values():
        assert callable(import_module(verb.module).main)


def test_an_unknown_verb_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    expected = f"error: unknown verb 'dataset'; known: {', '.join(VERBS)}"
    assert refusal(capfd, "dataset") == expected


@pytest.mark.parametrize("words", [["fit", "--config=x.yaml"], ["--config", "x.yaml", "fit"]])
def test_training_verbs_go_to_their_own_parser(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert "--config must be a file or a shipped recipe" in refusal(capfd, *words)


def test_a_verb_loads_only_what_it_needs() -> None:
    code = (
        "import sys; from neurosam3d.__main__ import main\n"
        "try: main(['datasets', '--help'])\n"
        "except SystemExit: print({'lightning', 'torchio', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("set()\n"), result.stderr


def test_an_interrupt_ends_quietly(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(words: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets_command, "main", interrupt)
    assert run("datasets") == 130
    assert capfd.readouterr().err == "stopped\n"


# datasets: the table


def test_the_table_shows_known_and_prepared(
    prepared_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("datasets", "--out", str(prepared_tree)) == 0
    lines = [" ".join(line.split()) for line in capfd.readouterr().out.splitlines()]
    assert "Toy_Tr 3 3 6 2 1.5 x 1.25 x 2" in lines
    assert "Toy_Val 2 2 4 2 1.5 x 1.25 x 2" in lines
    assert "Toy - 2 Tr Val own data" in lines
    assert any(line.startswith("AMOS CT, MRI 15 - ") for line in lines)


def test_names_give_details(prepared_tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("datasets", "Toy", "WORD", "--out", str(prepared_tree)) == 0
    output = capfd.readouterr().out
    assert "own data" in output
    assert "head_of_femur_left" in output
    assert "AMOS" not in output


def test_json_holds_all(prepared_tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("datasets", "--json", "--out", str(prepared_tree)) == 0
    by_name = {facts["name"]: facts for facts in json.loads(capfd.readouterr().out)}
    assert by_name["Toy"]["sets"]["Val"]["cases"] == 2
    assert by_name["AMOS"]["sets"] == {}
    assert run("datasets", "Toy", "--json", "--out", str(prepared_tree)) == 0
    (toy,) = json.loads(capfd.readouterr().out)
    assert toy == by_name["Toy"]


@pytest.mark.parametrize("way", ["folder", "yaml", "variable"])
def test_raw_folders_are_found(
    way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw" / "AMOS").mkdir(parents=True)
    (tmp_path / "roots.yaml").write_text("AMOS: raw/AMOS\n", encoding="utf-8")
    root = tmp_path / ("roots.yaml" if way == "yaml" else "raw")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEUROSAM3D_RAW", raising=False)
    if way == "variable":
        monkeypatch.setenv("NEUROSAM3D_RAW", str(root))
    words = [] if way == "variable" else ["--root", str(root)]
    assert run("datasets", "--json", *words) == 0
    raw = {facts["name"]: facts["raw"] for facts in json.loads(capfd.readouterr().out)}
    assert raw.pop("AMOS") == str(tmp_path / "raw" / "AMOS")
    assert set(raw.values()) == {None}


def test_a_broken_index_is_told_and_the_rest_is_shown(
    prepared_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (prepared_tree / "Toy_Val.json").write_text("[", encoding="utf-8")
    assert run("datasets", "--out", str(prepared_tree)) == 1
    output = capfd.readouterr()
    assert "Toy_Tr" in output.out
    (line,) = output.err.splitlines()
    assert line.startswith(f"error: {prepared_tree / 'Toy_Val.json'} is not valid JSON")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["Toi"], "unknown dataset 'Toi'; known: AbdomenCT, "),
        (["Toi"], "prepared: Toy"),
        (["--out", "nowhere"], "--out must be a folder, got nowhere"),
        (["--root", "nowhere"], "--root must be a folder or a YAML file, got nowhere"),
        (["--picture", "Toy"], "--picture goes with one NAME, written before it, got none"),
        (["Toy", "AMOS", "--picture"], "written before it, got Toy, AMOS"),
        (["Toy", "--picture", "toy.jpg"], "--picture writes a .png file, got toy.jpg"),
        (["Toy", "--picture", "--cases", "0"], "--cases must be from 1 to 200, got 0"),
        (["Toy", "--picture", "--workers", "0"], "--workers must be 1 or more, got 0"),
        (["Toy", "--picture", "--planes", "oblique"], "invalid choice: 'oblique'"),
        (["Toy", "--picture", "--json"], "not allowed with argument"),
        (["AMOS", "--picture"], "nothing of AMOS is prepared in"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    words: list[str], sentence: str, prepared_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree = [] if "--out" in words else ["--out", str(prepared_tree)]
    line = refusal(capfd, "datasets", *tree, *words)
    assert line.startswith("error: ")
    assert sentence in line


# datasets: the picture


def test_a_picture_is_drawn_and_its_path_printed(
    prepared_tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["Toy", "--picture", "--planes=all", "--workers=1", f"--out={prepared_tree}"]
    assert run("datasets", *words) == 0
    assert capfd.readouterr().out == "Toy.png\n"
    assert (tmp_path / "Toy.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_scan_is_told_and_the_others_are_drawn(
    prepared_tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = prepared_tree / "Toy" / "imagesTr" / "toy_Tr1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    sheet = tmp_path / "sheets" / "toy.png"
    words = ["Toy", "--picture", str(sheet), "--workers", "1", "--out", str(prepared_tree)]
    assert run("datasets", *words) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert str(damaged) in errors[0]
    assert sheet.is_file()


def test_nothing_is_drawn_if_no_scan_can_be_read(
    prepared_tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in prepared_tree.glob("Toy/images*/*"):
        path.write_bytes(b"")
    sheet = tmp_path / "toy.png"
    words = ["Toy", "--picture", str(sheet), "--workers", "1", "--out", str(prepared_tree)]
    assert run("datasets", *words) == 2
    assert "error: no scan of Toy can be drawn: " in capfd.readouterr().err
    assert not sheet.exists()
