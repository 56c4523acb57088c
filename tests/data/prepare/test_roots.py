"""Where raw folders lie: the option, the variable, a YAML file, and which goes first."""

from pathlib import Path

import pytest

from neurosam3d.data.prepare.roots import VARIABLE, default_roots, read_roots


def test_the_option_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_roots(None) is None
    monkeypatch.setenv(VARIABLE, "")
    assert read_roots(None) is None
    monkeypatch.setenv(VARIABLE, "/variable")
    by_variable, by_option = read_roots(None), read_roots(Path("/option"))
    assert by_variable is not None
    assert by_option is not None
    assert (by_variable.find("A", "raw/a"), str(by_variable)) == (
        Path("/variable/raw/a"),
        "/variable (NEUROSAM3D_RAW)",
    )
    assert (by_option.find("A", "/abs/a"), str(by_option)) == (Path("/abs/a"), "/option (--root)")
    assert str(default_roots()).startswith("data_raw (the default; --root or NEUROSAM3D_RAW")


def test_a_file_names_folders_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "roots.yaml"
    path.write_text("root: /disk\nAMOS: amos22\nWORD: ~/word\n")
    roots = read_roots(path)
    assert roots is not None
    assert roots.find("AMOS", "AMOS") == tmp_path / "amos22"
    assert roots.find("WORD", "WORD-V0.1.0") == Path("~/word").expanduser()
    assert roots.find("LiTS", "LITS") == Path("/disk/LITS")
    assert str(roots) == f"/disk (--root {path})"
    path.write_text("AMOS: /amos\n")
    alone = read_roots(path)
    assert alone is not None
    assert alone.find("LiTS", "LITS") is None
    assert str(alone) == f"the named folders (--root {path})"


@pytest.mark.parametrize(
    ("text", "message"),
    [("AMOS: 3", "AMOS must name a folder, got 3"), ("[", "is not valid YAML")],
)
def test_an_unfit_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_roots(tmp_path / "r.yml")
    with pytest.raises(ValueError, match=r"cannot read .*none\.yaml"):
        read_roots(tmp_path / "none.yaml")
