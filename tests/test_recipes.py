"""Finding recipes, ordering the command line, and reading the task."""

from pathlib import Path

import pytest

from neurosam3d import shipped
from neurosam3d.recipes import arrange, find_recipe, list_recipes, read_task

REPOSITORY = Path(__file__).parent.parent


def test_recipes_come_right_after_the_verb_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.touch()
    second.touch()
    words = ["--config", str(first), "fit", "--model.lr", "1", f"--config={second}", "--x=2"]
    arranged, found = arrange(words)
    assert arranged == [
        "fit",
        f"--config={first}",
        f"--config={second}",
        "--model.lr",
        "1",
        "--x=2",
    ]
    assert found == [first, second]


def test_only_fit_without_a_recipe_reads_all() -> None:
    default = REPOSITORY / "configs" / "all.yaml"
    assert arrange(["fit", "--model.lr=1"])[0] == ["fit", f"--config={default}", "--model.lr=1"]
    assert arrange(["test"]) == (["test"], [])
    assert arrange(["fit", "-c", "demo.yaml"])[1] == [REPOSITORY / "configs" / "demo.yaml"]
    assert arrange(["fit", "--help"]) == (["fit", "--help"], [])
    assert arrange([]) == (["--help"], [])


def test_a_file_here_wins_over_a_shipped_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_recipe("all.yaml") == REPOSITORY / "configs" / "all.yaml"
    (tmp_path / "all.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert find_recipe("all.yaml") == Path("all.yaml")


def test_without_a_checkout_recipes_are_package_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packaged.yaml").touch()
    (tmp_path / "notes.txt").touch()
    for folder in ("baselines", "evaluate"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "other.yaml").touch()
    monkeypatch.setattr(shipped, "CHECKOUT_CONFIGS", tmp_path / "nowhere")
    monkeypatch.setattr(shipped.resources, "files", lambda package: tmp_path)
    names = ("packaged.yaml", "baselines/other.yaml")
    assert list_recipes() == {name: tmp_path / name for name in names}
    assert find_recipe("baselines/other.yaml") == tmp_path / "baselines" / "other.yaml"


@pytest.mark.parametrize(
    ("flags", "task"),
    [([], "second"), (["--task=third"], "third"), (["--task", "a", "--task", "b"], "b")],
)
def test_the_task_is_the_last_one_said(tmp_path: Path, flags: list[str], task: str) -> None:
    (tmp_path / "1.yaml").write_text("task: first", encoding="utf-8")
    (tmp_path / "2.yaml").write_text("{task: second, data: {x: '${y}'}}", encoding="utf-8")
    (tmp_path / "3.yaml").write_text("data: {}", encoding="utf-8")
    assert read_task(flags, [tmp_path / f"{n}.yaml" for n in (1, 2, 3)]) == task


def test_without_a_word_the_task_is_promptable() -> None:
    assert read_task(["--model.lr=1"], []) == "promptable"
