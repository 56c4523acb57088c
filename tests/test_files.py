"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from neurosam3d.files import replacing


def test_the_name_is_taken_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    with replacing(path) as partial:
        partial.write_text("1", encoding="utf-8")
        assert partial.parent == path.parent
        assert partial.name.endswith(path.name)
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as partial:  # noqa: PT012
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError("stop")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
