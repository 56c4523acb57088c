"""Written files are whole, hold no more than they must, and load without this package."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import safetensors
import torch

from neurosam3d.checkpoint_writing import LAYOUTS, Layout, layout_of, write_checkpoint

WEIGHTS = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "a.bias": torch.tensor([0.1, -0.2], dtype=torch.bfloat16),
}
ANY_NETWORK = [layout for layout in LAYOUTS if layout not in ("adapter3d", "samed")]
VALUES: dict[str, Any] = {"model_type": "vit_b", "img_size": 112, "spacing": None}


def _read(path: Path, layout: Layout) -> dict[str, torch.Tensor]:
    """Read as a program would that knows nothing of this package."""
    if layout == "safetensors":
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = torch.load(path, weights_only=True)
    keys = {"sam_med3d": "model_state_dict", "baseline": "network_dict", "sam_med2d": "model"}
    return content[keys[layout]] if layout in keys else content


@pytest.mark.parametrize("layout", ANY_NETWORK)
def test_every_layout_holds_the_same_bits(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "new" / "weights"
    write_checkpoint(path, WEIGHTS, layout=layout, values=VALUES)
    weights = _read(path, layout)
    assert weights.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert weights[name].dtype == value.dtype
        assert torch.equal(weights[name], value)
    assert [file.name for file in path.parent.iterdir()] == ["weights"]


@pytest.mark.parametrize("layout", ANY_NETWORK)
def test_files_are_as_readable_as_any_new_file(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "any").touch()
    path = tmp_path / "weights"
    write_checkpoint(path, WEIGHTS, layout=layout, values=VALUES)
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_what_is_said_of_the_network_lies_beside_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_checkpoint(path, WEIGHTS, layout="sam_med3d", values=VALUES)
    assert torch.load(path, weights_only=True)["args"] == VALUES
    write_checkpoint(path, WEIGHTS, layout="safetensors", values=VALUES)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata.pop("format") == "pt"
    assert metadata.pop("neurosam3d_format") == "1"
    assert metadata.pop("model_type") == "vit_b"
    assert {key: json.loads(text) for key, text in metadata.items()} == {
        "img_size": 112,
        "spacing": None,
    }


@pytest.mark.parametrize("layout", ANY_NETWORK)
def test_views_and_shared_memory_are_written_as_plain_tensors(
    tmp_path: Path, layout: Layout
) -> None:
    large = torch.arange(200_000.0).view(400, 500)
    weights = {"row": large[3], "columns": large[:, :2], "again": large[3]}
    tied = {"whole": large, "tied": large.view(500, 400)}
    for chosen, most_bytes in ((tied, 1_700_000), (weights, 20_000)):
        path = tmp_path / f"weights{len(chosen)}"
        write_checkpoint(path, chosen, layout=layout, values=VALUES)
        assert path.stat().st_size < most_bytes
        read = _read(path, layout)
        for name, value in chosen.items():
            assert torch.equal(read[name], value), name


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_text("old", encoding="utf-8")

    def fail(content: Any, target: BinaryIO) -> None:
        target.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="full"):
        write_checkpoint(path, WEIGHTS, layout="bare", values={})
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_layout_is_not_for_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pth.tar"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="holds networks of 3DSAM-adapter"):
        write_checkpoint(path, WEIGHTS, layout="adapter3d", values=VALUES)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_ending_gives_the_layout() -> None:
    endings = {
        "a.pth": "sam_med3d",
        "a.pt": "bare",
        "b/a.safetensors": "safetensors",
        "a.pth.tar": "adapter3d",
    }
    assert {name: layout_of(Path(name)) for name in endings} == endings
    with pytest.raises(
        ValueError, match=r"one of \.pth, \.pt, \.safetensors, \.tar, got 'a\.ckpt'"
    ):
        layout_of(Path("b/a.ckpt"))
