"""Building the store: all of it once, whoever builds, and whatever stops them."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index, write_index
from neurosam3d.data.store import (
    MemoryVolumes,
    Preparation,
    VolumeStore,
    build,
    build_store,
    digests,
)

PREPARATION = Preparation((1.5, 1.25, 2.0), "none")
NUM_IMAGES = 7


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of seven images, the first class of all before the second of all."""
    folder = tmp_path_factory.mktemp("tree")
    generator = np.random.default_rng(0)
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    cases = []
    for number in range(NUM_IMAGES):
        image = folder / f"image{number}.nii.gz"
        voxels = generator.normal(100, 30, (24, 20, 16)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), image)
        for class_name, start in (("kidney", 2), ("liver", 9)):
            label = folder / f"{class_name}{number}.nii.gz"
            mask = np.zeros(voxels.shape, np.uint8)
            mask[start : start + 5, 3 : 9 + number, 4:10] = 1
            nibabel.save(nibabel.Nifti1Image(mask, affine), label)
            cases.append(Case(image, label, class_name, 300.0, (1.0, 1.5, 2.0)))
    write_index(folder / "TOY_Tr.json", [*cases[::2], *cases[1::2]])
    time.sleep(digests._LONGEST_TICK + 0.1)  # so that the digests of the files are remembered
    return folder / "TOY_Tr.json"


def open_store(index: Path, folder: Path) -> VolumeStore:
    return VolumeStore(read_index(index), PREPARATION, cache_dir=folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Read the entries; hidden files are those that are still being written, and may vanish."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("??/[!.]*"))}


@pytest.fixture(scope="module")
def expected(index: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a store of all images holds."""
    folder = tmp_path_factory.mktemp("expected")
    build_store(open_store(index, folder), workers=1, title="cache")
    found = contents(folder)
    assert len(found) == 2 * NUM_IMAGES
    return found


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_built_store_serves_without_sources_or_hashing(
    index: Path, expected: dict[str, bytes], tmp_path: Path, workers: int, monkeypatch
) -> None:
    build_store(open_store(index, tmp_path), workers=workers, title="cache")
    assert contents(tmp_path) == expected
    monkeypatch.setattr(digests, "hash_file", None)
    monkeypatch.setattr(Preparation, "prepare_image", None)
    monkeypatch.setattr(Preparation, "prepare_object", None)
    store = open_store(index, tmp_path)
    build_store(store, workers=workers, title="cache")
    for row in range(2 * NUM_IMAGES):
        center = store.object_mask(row).center
        assert store.image(row).crop((8, 9, 10), center=center, fill=0).data.any()


def record_jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the images that are built from now on."""
    built: list[str] = []
    build_image = build._build_image

    def record(files, **options):
        built.append(files.image.name.removesuffix(".nii.gz"))
        return build_image(files, **options)

    monkeypatch.setattr(build, "_build_image", record)
    return built


def test_only_what_is_missing_is_made(
    index: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = read_index(index).select([2, 3, 4, 9, 10, 11])
    build_store(VolumeStore(three, PREPARATION, cache_dir=tmp_path), workers=1, title="cache")
    built = record_jobs(monkeypatch)
    build_store(open_store(index, tmp_path), workers=1, title="cache")
    assert built == ["image0", "image1", "image5", "image6"]
    next(tmp_path.glob("??/*.labels")).unlink()
    build_store(open_store(index, tmp_path), workers=1, title="cache")
    assert len(built) == 5
    assert contents(tmp_path) == expected


def test_nodes_begin_at_different_images_and_take_what_others_made(
    index: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, made = record_jobs(monkeypatch), []
    make = build.EntryMaker.make
    monkeypatch.setattr(build.EntryMaker, "make", lambda *args: made.append(0) or make(*args))
    monkeypatch.setattr(build, "_is_made", lambda *args: False)  # as when both begin at once
    for node in range(2):
        store = open_store(index, tmp_path)
        build_store(store, workers=1, title="cache", node=node, num_nodes=2)
    numbers = [int(name.removeprefix("image")) for name in built]
    assert numbers == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 0, 1, 2]
    assert len(made) == 2 * NUM_IMAGES
    assert contents(tmp_path) == expected


def broken_index(index: Path, folder: Path) -> Path:
    """Copy a tree, truncate one of its images and take a label away."""
    shutil.copytree(index.parent, folder)
    image = folder / "image3.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    (folder / "liver5.nii.gz").unlink()
    return folder / index.name


def test_what_cannot_be_prepared_is_said_at_the_end(index: Path, tmp_path: Path) -> None:
    store = open_store(broken_index(index, tmp_path / "tree"), tmp_path / "cache")
    sentence = r"2 of 7 images cannot be prepared for the cache: .*image3.nii.gz.*; .*liver5.nii.gz"
    with pytest.raises(ValueError, match=sentence):
        build_store(store, workers=1, title="cache")
    assert len(contents(tmp_path / "cache")) == 2 * 5


def test_a_full_disk_ends_the_build_with_one_sentence(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path, contents):
        if len(list(tmp_path.glob("??/*"))) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(path, contents)

    save = build.save
    monkeypatch.setattr(build, "save", fill)
    sentence = f"No space left on device: nothing can be written to cache_dir {tmp_path}; make room"
    with pytest.raises(ValueError, match=sentence):
        build_store(open_store(index, tmp_path), workers=1, title="cache")
    assert len(contents(tmp_path)) == 4
    assert not list(tmp_path.rglob(".part-*"))


def test_a_folder_that_cannot_be_made_ends_the_build_with_one_sentence(
    index: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"Not a directory: .* cache_dir {tmp_path}/file/cache"):
        build_store(open_store(index, tmp_path / "file/cache"), workers=1, title="cache")


# Processes


BUILDER = """
import sys
from pathlib import Path
from neurosam3d.data.index import read_index
from neurosam3d.data.store import Preparation, VolumeStore, build_store

if __name__ == "__main__":
    index, folder, workers = sys.argv[1:]
    store = VolumeStore(
        read_index(index), Preparation((1.5, 1.25, 2.0), "none"), cache_dir=Path(folder)
    )
    build_store(store, workers=int(workers), title="cache")
"""


@pytest.fixture
def start_builder(index: Path, tmp_path: Path) -> Callable[[int], subprocess.Popen[bytes]]:
    """A function that starts a process, which builds the store in tmp_path / "cache"."""
    script = tmp_path / "builder.py"
    script.write_text(BUILDER, encoding="utf-8")

    def start(workers: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, str(script), str(index), str(tmp_path / "cache"), str(workers)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)

    return start


@pytest.mark.slow
def test_builders_killed_at_any_moment_are_taken_up(
    index: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    start_builder: Callable[[int], subprocess.Popen[bytes]],
) -> None:
    folder = tmp_path / "cache"
    for wanted in (1, 4, 9):
        builder = start_builder(1 if wanted == 4 else 2)
        while builder.poll() is None and len(contents(folder)) < wanted:
            time.sleep(0.001)
        builder.kill()
        builder.wait()
        assert contents(folder).items() <= expected.items()  # what is there is whole
    build_store(open_store(index, folder), workers=1, title="cache")
    assert contents(folder) == expected
    assert not list(folder.rglob(".part-*"))


def read_and_write(index: Path, folder: Path, seed: int) -> None:
    """Read random crops while entries vanish and are damaged under everybody's hands."""
    generator = np.random.default_rng(seed)
    store, truth = open_store(index, folder), MemoryVolumes(read_index(index), PREPARATION)
    size = (9, 7, 8)
    for _ in range(120):
        row, *center = generator.integers(0, (2 * NUM_IMAGES, 16, 16, 16)).tolist()
        crops = [volumes.image(row).crop(size, center=center, fill=0) for volumes in (store, truth)]
        assert torch.equal(crops[0].data, crops[1].data)
        masks = [volumes.object_mask(row).crop(size, center=center) for volumes in (store, truth)]
        assert torch.equal(*masks)
        paths = list(folder.glob("??/*"))
        path = paths[int(generator.integers(len(paths)))]
        if seed % 2:
            path.unlink(missing_ok=True)
        else:
            with suppress(FileNotFoundError), path.open("r+b") as file:
                file.seek(int(generator.integers(400)))
                file.write(b"damage")


@pytest.mark.slow
def test_many_readers_and_writers_at_once_see_the_truth(index: Path, tmp_path: Path) -> None:
    context = get_context("spawn")
    readers = [
        context.Process(target=read_and_write, args=(index, tmp_path, seed)) for seed in range(4)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0] * 4
