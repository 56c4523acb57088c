"""Files that are no checkpoints, or would run code: each is refused in a sentence, none is run."""

import argparse
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from safetensors.torch import save_file
from torch import nn

from neurosam3d.checkpoint_io import read_content


class Call:
    """Pickles into a call of a function, as a malicious file would."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def _traps(trap: Path) -> dict[str, Call]:
    return {
        "posix.system": Call(os.system, f"touch {trap}"),
        "eval": Call(eval, f"open({str(trap)!r}, 'w')"),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["posix.system", "eval"])
def test_malicious_pickles_are_refused_and_not_run(tmp_path: Path, zipped: bool, name: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    call = _traps(trap)[name]
    weights = {"a.weight": torch.ones(2, 3), "a.bias": call}
    for content in (call, {"state_dict": weights}, {"model_state_dict": weights, "args": call}):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            ValueError, match=f"{path} holds the Python object {re.escape(name)}, .* run code"
        ):
            read_content(path)
        assert not trap.exists()
    # The trap is a real one: without protection the file does run.
    torch.load(path, weights_only=False)
    assert trap.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, pickle.DEFAULT_PROTOCOL])
def test_plain_pickles_are_refused_too(tmp_path: Path, protocol: int) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {trap}"), protocol=protocol))
    with pytest.raises(ValueError, match=str(path)):
        read_content(path)
    assert not trap.exists()


def test_harmless_functions_of_builtins_are_not_called_either(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.ones(1), "x": Call(getattr, "text", "upper")}, path)
    with pytest.raises(ValueError, match="holds the Python object getattr"):
        read_content(path)


def test_a_pickled_network_is_refused_by_its_class(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(nn.Sequential(nn.Linear(2, 3)), path)
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.container\.Sequential, .* instead"):
        read_content(path)


def _training_content() -> dict[str, Any]:
    """Return what training scripts leave beside the weights."""
    return {
        "w": torch.arange(6.0).view(2, 3),
        "best_loss": np.float64(0.25),
        "best_dice": np.float32(0.5),
        "epoch": np.int64(7),
        "done": np.bool_(True),
        "losses": [np.float64(1.5), 2.5],
        "dices": np.array([[0.25, 0.5, 1.0]]),
        "args": argparse.Namespace(model_type="vit_b_ori", gpu_ids=[0, 1], device="cuda:0"),
        "hyper_parameters": AttributeDict(lr=1e-3, sizes=(1, 2)),
        "config": jsonargparse.Namespace(path=Path("a/b")),
        "folder": Path("work_dir/run"),
        "kinds": {torch.float16, torch.device("cpu")},
        "classes": {"list": [None, True, b"bytes", 2**70]},
    }


def _assert_same(content: Any, expected: dict[str, Any]) -> None:
    assert torch.equal(content["w"], expected["w"])
    for name in ("best_loss", "best_dice", "epoch", "done"):
        assert content[name] == expected[name]
        assert content[name].dtype == expected[name].dtype
    assert content["losses"] == expected["losses"]
    np.testing.assert_array_equal(content["dices"], expected["dices"])
    assert vars(content["args"]) == vars(expected["args"])
    assert content["hyper_parameters"] == {"lr": 1e-3, "sizes": (1, 2)}
    assert str(content["config"].path) == "a/b"
    assert content["folder"].parts == ("work_dir", "run")
    assert content["kinds"] == expected["kinds"]
    assert content["classes"] == expected["classes"]


@pytest.mark.parametrize("zipped", [True, False])
def test_inert_objects_of_training_scripts_load(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(_training_content(), path, _use_new_zipfile_serialization=zipped)
    _assert_same(read_content(path), _training_content())


@pytest.mark.parametrize("address", [b"numpy.core", b"numpy._core"])
def test_numpy_1_and_2_addresses_load(tmp_path: Path, address: bytes) -> None:
    path = tmp_path / "weights.pth"
    torch.save(_training_content(), path, _use_new_zipfile_serialization=False)
    content, count = re.subn(rb"cnumpy\._?core\.", b"c" + address + b".", path.read_bytes())
    assert count >= 2
    path.write_bytes(content)
    _assert_same(read_content(path), _training_content())


def test_safetensors_are_told_by_content(tmp_path: Path) -> None:
    weights = {"w": torch.arange(6.0).view(2, 3)}
    for name in ("weights.safetensors", "weights.pth"):
        save_file(weights, tmp_path / name)
        assert torch.equal(read_content(tmp_path / name)["w"], weights["w"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, zipped: bool, share: float) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.ones(5000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{path} cannot be read as a checkpoint: it is damaged"):
        read_content(path)


@pytest.mark.parametrize("name", ["notes.txt", "all.yaml", "weights.pth", "weights.safetensors"])
def test_text_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("model:\n  model_type: vit_b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"{path} cannot be read as a checkpoint"):
        read_content(path)


def test_missing_empty_folder_and_other_content_are_named(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.pth", tmp_path / "list.pth"
    empty.touch()
    torch.save([torch.ones(2)], other)
    for path, sentence in (
        (tmp_path / "none.pth", "there is no checkpoint"),
        (empty, r"empty\.pth is empty"),
        (tmp_path, "must be a file, got the folder"),
        (other, r"must hold named tensors, .*list\.pth holds a list"),
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            read_content(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
