"""Files of compressed chunks: any window is exact, and no damage goes unnoticed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosam3d.data.store.chunks import DamagedFileError, read_chunks, write_chunks

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays() -> Arrays:
    generator = np.random.default_rng(3)
    return {
        "image": generator.normal(size=(65, 40, 31)).astype(np.float32),
        "mask": (generator.random((3, 5, 7)) < 0.3).astype(np.uint8),
        "numbers": np.arange(0, 300_000, 4, dtype=np.int32),  # more than two chunks
        "nothing": np.zeros(0, np.uint8),
    }


def whole(array: Any) -> np.ndarray:
    return array[tuple(slice(0, n) for n in array.shape)]


def read_all(path: Path) -> Arrays:
    return {name: whole(array) for name, array in read_chunks(path)[0].items()}


def test_everything_comes_back(tmp_path: Path, arrays: Arrays) -> None:
    about = {"affine": np.eye(4).tolist(), "name": "Gänge"}
    write_chunks(tmp_path / "file", arrays, about=about)
    assert read_chunks(tmp_path / "file")[1] == about
    stored = read_all(tmp_path / "file")
    assert list(stored) == list(arrays)
    for name, array in arrays.items():
        assert stored[name].dtype == array.dtype
        assert np.array_equal(stored[name], array)


def test_any_window_is_exact(tmp_path: Path, arrays: Arrays) -> None:
    write_chunks(tmp_path / "file", arrays, about={})
    stored, _ = read_chunks(tmp_path / "file")
    generator = np.random.default_rng(5)
    for name in ("image", "mask", "numbers"):
        for _ in range(60):
            ends = [np.sort(generator.integers(0, n + 1, 2)).tolist() for n in stored[name].shape]
            window = tuple(slice(*pair) for pair in ends)
            assert np.array_equal(stored[name][window], arrays[name][window])


def test_a_window_reads_only_the_chunks_it_touches(tmp_path: Path, arrays: Arrays) -> None:
    """With all other chunks destroyed it still comes."""
    path = tmp_path / "file"
    image = arrays["image"]  # noise: the first of its 3 x 2 x 1 chunks takes a quarter of the file
    write_chunks(path, {"image": image}, about={})
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(half))
    stored, _ = read_chunks(path)
    first = (slice(0, 32), slice(0, 32), slice(0, 31))
    assert np.array_equal(stored["image"][first], image[first])
    with pytest.raises(DamagedFileError, match=r"chunk \d is not what was written"):
        whole(stored["image"])


def test_damage_to_any_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    generator = np.random.default_rng(0)
    arrays = {
        "image": generator.normal(size=(3, 33, 2)).astype(np.float32),  # two chunks
        "numbers": np.arange(40, dtype=np.int32),
    }
    write_chunks(path, arrays, about={"start": [1, 2, 3]})
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            read_all(path)


@pytest.mark.parametrize("kept", [0, 5, 60, 300, -1])
def test_a_shorter_file_is_noticed(tmp_path: Path, arrays: Arrays, kept: int) -> None:
    path = tmp_path / "file"
    write_chunks(path, arrays, about={})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFileError):
        read_all(path)
