"""Where the commands look for raw folders: --root, NEUROSAM3D_RAW, a YAML file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurosam3d.data.prepare.command import list_command
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator
from neurosam3d.data.prepare.listing import read_listing
from neurosam3d.data.prepare.roots import VARIABLE
from neurosam3d.data.tree import Tree

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str]]


class Liver(BaseDatasetJSONGenerator):
    dir = "LiverStudy"
    name = "Liver"
    modality = "CT"
    labels = {1: "liver", 2: "tumor"}  # noqa: RUF012


@pytest.fixture
def place(tmp_path: Path, write_volume: Write, organs: np.ndarray) -> Callable[[str], Path]:
    """Put the raw folder of the dataset Liver somewhere."""

    def make(folder: str) -> Path:
        write_volume(tmp_path / folder / "imagesTr/a.nii.gz")
        write_volume(tmp_path / folder / "labelsTr/a.nii.gz", organs)
        return tmp_path / folder

    return make


@pytest.fixture
def step_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str]:
        out = ("--out", str(tmp_path / "out"))
        code = list_command(lambda: {"Liver": Liver()}, [*map(str, arguments), *out])
        return code, capsys.readouterr().err

    return call


def listed(tmp_path: Path) -> Path:
    return read_listing(Tree(tmp_path / "out"), "Liver").items["Tr"][0].image


def test_step_one_takes_the_option_then_the_variable_then_the_default(
    tmp_path: Path, place: Callable, step_one: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [place(f"{root}/LiverStudy") for root in ("option", "variable", "data_raw")]
    assert step_one()[0] == 0
    assert listed(tmp_path).is_relative_to(folders[2])
    monkeypatch.setenv(VARIABLE, str(tmp_path / "variable"))
    assert step_one()[0] == 0
    assert listed(tmp_path).is_relative_to(folders[1])
    assert step_one("--root", tmp_path / "option")[0] == 0
    assert listed(tmp_path).is_relative_to(folders[0])


@pytest.mark.parametrize("by_option", [True, False])
def test_a_file_may_name_the_folder_of_a_dataset(
    tmp_path: Path,
    place: Callable,
    step_one: Run,
    monkeypatch: pytest.MonkeyPatch,
    by_option: bool,
) -> None:
    folder = place("disk2/liver_v3")
    path = tmp_path / "roots.yaml"
    path.write_text("Liver: disk2/liver_v3\n")
    if not by_option:
        monkeypatch.setenv(VARIABLE, str(path))
    assert step_one(*(("--root", path) if by_option else ()))[0] == 0
    assert listed(tmp_path) == folder / "imagesTr/a.nii.gz"


def test_a_missing_raw_folder_is_one_sentence_that_says_who_named_it(
    tmp_path: Path, step_one: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = step_one("Liver")
    assert code == 1
    sentence = "error: Liver: no raw folder data_raw/LiverStudy in data_raw (the default; --root or"
    assert said.startswith(sentence)
    monkeypatch.setenv(VARIABLE, "/variable")
    assert step_one()[1] == (
        "error: no raw folder in /variable (NEUROSAM3D_RAW); looked for LiverStudy\n"
    )
    (tmp_path / "r.yaml").write_text("Other: x\n")
    said = step_one("Liver", "--root", "r.yaml")[1]
    assert said == "error: Liver: no raw folder is named by --root r.yaml\n"
    (tmp_path / "r.yaml").write_text("root: below\nLiver: disk2/nowhere\n")
    said = step_one("Liver", "--root", "r.yaml")[1]
    assert said == "error: Liver: no raw folder disk2/nowhere (--root r.yaml)\n"


@pytest.fixture
def moved(tmp_path: Path, place: Callable, step_one: Run, run: Run) -> Path:
    """List the dataset, then move its raw folder."""
    place("raw/LiverStudy")
    assert step_one("--root", tmp_path / "raw")[0] == 0
    (tmp_path / "raw").rename(tmp_path / "new")
    assert run("-dt", "Tr", "--datasets", "Liver", "--workers", 1)[0] == 1
    return tmp_path / "new"


@pytest.mark.parametrize("how", ["option", "variable", "file"])
def test_step_two_finds_a_folder_that_has_moved(
    moved: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    arguments = ["-dt", "Tr", "--datasets", "Liver", "--workers", "1"]
    if how == "option":
        arguments += ["--root", str(moved)]
    elif how == "variable":
        monkeypatch.setenv(VARIABLE, str(moved))
    else:
        (moved / "LiverStudy").rename(tmp_path / "elsewhere")
        (tmp_path / "roots.yaml").write_text("root: /nowhere\nLiver: elsewhere\n")
        arguments += ["--root", str(tmp_path / "roots.yaml")]
    code, said = run(*arguments)
    assert code == 0, said
    assert "labels 2" in said
    assert run("--check", "--workers", 1)[0] == 0


def test_step_two_stays_where_step_one_was_unless_told(
    tmp_path: Path, place: Callable, step_one: Run, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("raw/LiverStudy")
    assert step_one("--root", tmp_path / "raw")[0] == 0
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    arguments = ("-dt", "Tr", "--datasets", "Liver", "--workers", 1)
    assert run(*arguments)[0] == 0
    code, said = run(*arguments, "--root", tmp_path / "nowhere")
    assert code == 1
    folder = tmp_path / "nowhere"
    assert said == f"error: Liver: no raw folder {folder}/LiverStudy in {folder} (--root)\n"
