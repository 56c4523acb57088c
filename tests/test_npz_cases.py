"""Cases of the CVPR25 challenge: what is read, what is refused, and that no code runs."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.npz_cases import read_npz_case

SHAPE = (3, 5, 4)
BOX = {
    **{"z_min": 0, "z_max": 2, "z_mid": 1},
    **{"z_mid_x_min": 1, "z_mid_y_min": 2, "z_mid_x_max": 3, "z_mid_y_max": 4},
}


class Intruder:
    """Pickles as a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def save(folder: Path, **changes: Any) -> Path:
    entries = {
        "imgs": np.arange(60, dtype=np.uint8).reshape(SHAPE),
        "spacing": np.array([2.5, 0.8, 0.7]),
        **changes,
    }
    path = folder / "case.npz"
    np.savez_compressed(path, **{key: value for key, value in entries.items() if value is not None})
    return path


def as_objects(*entries: Any) -> np.ndarray:
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array


def test_arrays_and_prompts_are_read_as_plain_data(tmp_path: Path) -> None:
    clicks = [
        {"fg": [[1, 2, 3], np.array([0, 4, 3])], "bg": []},
        {"fg": [], "bg": [(np.int64(2), 0, 1)]},
    ]
    path = save(
        tmp_path,
        gts=np.ones(SHAPE, np.int32),
        boxes=as_objects(BOX, {key: np.int64(value) for key, value in BOX.items()}),
        clicks=clicks,
        clicks_order=as_objects(["fg", "fg"], ["bg"]),
        text_prompts=np.array({"1": "liver"}, dtype=object),
    )
    case = read_npz_case(path)
    assert case["imgs"].tolist() == np.arange(60).reshape(SHAPE).tolist()
    assert case["spacing"].tolist() == [2.5, 0.8, 0.7]
    assert case["gts"].dtype == np.int32
    assert case["boxes"] == [BOX, BOX]
    assert type(case["boxes"][1]["z_min"]) is int
    assert case["clicks"] == [
        {"fg": [[1, 2, 3], [0, 4, 3]], "bg": []},
        {"fg": [], "bg": [[2, 0, 1]]},
    ]
    assert case["clicks_order"] == [["fg", "fg"], ["bg"]]
    assert case["text_prompts"] == {"1": "liver"}


@pytest.mark.parametrize(
    ("order", "expected"),
    [([["fg"], ["bg"]], [["fg"], ["bg"]]), ([[], []], [[], []]), ([], [])],
)
def test_lists_that_numpy_makes_arrays_of_come_back_as_lists(
    tmp_path: Path, order: list[list[str]], expected: list[list[str]]
) -> None:
    assert read_npz_case(save(tmp_path, clicks_order=order))["clicks_order"] == expected


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, folder = save(tmp_path), tmp_path / "intruded"
    content = pickle.dumps(as_objects({"fg": Intruder(folder)}), protocol=protocol)
    header = as_objects(None)
    with zipfile.ZipFile(path, "a") as archive, archive.open("clicks.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(header))
        file.write(content)
    with pytest.raises(ValueError, match=r"case\.npz: it holds (posix|nt)\.mkdir, and a case"):
        read_npz_case(path)
    assert not folder.exists()
    np.load(path, allow_pickle=True)["clicks"]  # what the refusal is for
    assert folder.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.ndarray.tofile"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    module, _, attribute = name.partition(".")
    names = b"".join(b"\x8c" + bytes([len(n)]) + n.encode() for n in (module, attribute))
    path, header = save(tmp_path), as_objects(None)
    with zipfile.ZipFile(path, "a") as archive, archive.open("boxes.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(header))
        file.write(b"\x80\x04" + names + b"\x93.")
    with pytest.raises(ValueError, match=f"it holds {name}, and a case holds data only"):
        read_npz_case(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"imgs": None}, r"imgs must be an image \(D, H, W\), got nothing"),
        ({"imgs": np.zeros((2, 3))}, r"imgs must be an image .* got float64 of shape \(2, 3\)"),
        ({"spacing": [1.0, 0.0, 1.0]}, "spacing must be three positive lengths in mm"),
        ({"spacing": None}, "spacing must be three positive lengths in mm"),
        ({"gts": np.zeros(SHAPE)}, r"gts must be whole numbers of imgs' shape \(3, 5, 4\)"),
        ({"prev_pred": np.zeros((3, 4, 5), int)}, "prev_pred must be whole .*, got int64 of shape"),
        ({"boxes": as_objects({"z_min": 1})}, "boxes must be a list, .* of dicts of z_min, z_max"),
        ({"boxes": as_objects({**BOX, "z_max": "2"})}, "boxes must be a list"),
        ({"clicks": as_objects({"fg": [[1, 2]], "bg": []})}, r"clicks must be .* \(z, y, x\)"),
        ({"clicks": as_objects({"fg": []})}, "clicks must be a list"),
        ({"clicks_order": [["up"]]}, 'clicks_order must be .* lists of "fg" and "bg"'),
    ],
)
def test_broken_rule_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot read .*case\.npz: {sentence}"):
        read_npz_case(save(tmp_path, **changes))


def test_files_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"case\.npz: it is no sound \.npz file"):
        read_npz_case(path)
    with pytest.raises(FileNotFoundError):
        read_npz_case(tmp_path / "none.npz")
