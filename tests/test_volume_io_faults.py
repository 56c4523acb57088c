"""Damaged files: a flipped byte is noticed, and every fault has its sentence and its kind."""

import gzip
import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from neurosam3d.volume import Volume, read_grid, read_volume, read_volume_counted, write_volume
from neurosam3d.volume_io import VolumeFileError
from neurosam3d.volume_io.checksums import decompress

AFFINE = np.diag([0.8, 2.0, 1.25, 1.0])
NOISE = np.random.default_rng(0).integers(0, 200, (1, 16, 12, 10), dtype=np.int16)
COMPRESSED = (".nii.gz", ".mgz", ".mha", ".nrrd")


def fault(path: Path, read: Callable[[Path], object] = read_volume) -> tuple[str, str]:
    """Return the kind and the sentence of the error that reading ends in."""
    with pytest.raises(VolumeFileError) as caught:
        read(path)
    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert "\n" not in str(caught.value)
    return caught.value.kind, str(caught.value).removeprefix(f"cannot read {path}: ")


def flip(content: bytes, at: int) -> bytes:
    """Flip one bit of the byte at a position."""
    changed = bytearray(content)
    changed[at] ^= 16
    return bytes(changed)


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A compressed file of noise, in the format of the parameter."""
    path = tmp_path / f"a{request.param}"
    write_volume(Volume(torch.from_numpy(NOISE), AFFINE), path)
    return path


# Checksums


@pytest.mark.parametrize("written", COMPRESSED, indirect=True)
def test_a_flipped_byte_among_the_voxels_is_noticed(written: Path) -> None:
    content = written.read_bytes()
    for at in range(len(content) - 1500, len(content), 11):
        written.write_bytes(flip(content, at))
        kind, sentence = fault(written)
        assert kind == "damaged"
        assert "truncated or damaged" in sentence


@pytest.mark.parametrize("written", COMPRESSED, indirect=True)
def test_the_checksum_itself_is_compared(written: Path) -> None:
    content = written.read_bytes()
    for at in range(len(content) - 4, len(content)):  # of gzip the length, of zlib the Adler-32
        written.write_bytes(flip(content, at))
        assert fault(written)[0] == "damaged"


@pytest.mark.parametrize(
    ("suffix", "packed"), [(".mha", True), (".mha", False), (".nrrd", True), (".nrrd", False)]
)
def test_fewer_voxels_than_announced_are_noticed_before_memory_is_taken(
    tmp_path: Path, suffix: str, packed: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(NOISE[0].T), str(path), useCompression=packed)
    assert np.array_equal(read_volume(path).data.numpy(), NOISE)
    content = path.read_bytes()
    assert content.count(b"16 12 10") == 1
    path.write_bytes(content.replace(b"16 12 10", b"16 12 11"))
    assert "(the data end too early)" in fault(path)[1]


@pytest.mark.parametrize("name", ["a%s.raw", "%9d%n.raw", "%"])
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_names_of_files_that_printf_would_obey_are_refused(
    tmp_path: Path, suffix: str, name: str
) -> None:
    header = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(NOISE[0].T), str(header))
    content = header.read_bytes()
    assert content.count(b"a.raw") == 1
    header.write_bytes(content.replace(b"a.raw", name.encode()))
    for read in (read_volume, read_grid):
        kind, sentence = fault(header, read)
        assert kind == "damaged"
        assert "its voxels cannot be in a file of the name" in sentence


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_voxels_in_a_file_of_their_own_are_checked_too(tmp_path: Path, suffix: str) -> None:
    header = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(NOISE[0].T), str(header), useCompression=True)
    [voxels] = [path for path in tmp_path.iterdir() if path != header]
    assert np.array_equal(read_volume(header).data.numpy(), NOISE)
    content = voxels.read_bytes()
    voxels.write_bytes(flip(content, len(content) // 2))
    assert fault(header)[0] == "damaged"
    voxels.write_bytes(content[:-30])
    assert fault(header)[0] == "damaged"


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
        lambda data: gzip.compress(data) + b"\0" * 600,
        lambda data: gzip.compress(data) + b"left by some tool",
        lambda data: gzip.compress(data[:9]) + b"\0" * 3 + gzip.compress(data[9:]) + b"\0\x1f",
    ],
)
def test_what_gzip_puts_up_with_is_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(pack(nib.Nifti1Image(NOISE[0], AFFINE).to_bytes()))
    assert np.array_equal(read_volume(path).data.numpy(), NOISE)


def test_decompress_begins_where_it_is_told_and_ends_with_the_data() -> None:
    packed = b"header" + zlib.compress(b"voxels")
    assert decompress(packed, 6, announced=6).read() == b"voxels"
    with pytest.raises(EOFError, match="end too early"):
        decompress(gzip.compress(b"voxels" * 99)[:-9], announced=594)
    with pytest.raises(EOFError, match="end too early"):
        decompress(b"header", 6, announced=6)


# Kinds


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize("suffix", [*COMPRESSED, ".nii", ".mgh", ".nhdr", ".mhd"])
def test_missing_and_empty_files_are_told_apart(
    tmp_path: Path, suffix: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / f"a{suffix}"
    assert fault(path, read) == ("missing", "no such file or folder")
    path.touch()
    assert fault(path, read) == ("empty", "the file is empty (0 bytes)")


@contextmanager
def no_rights() -> Iterator[None]:
    """Act as a user to whom nothing belongs, where tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="rights of another kind")
@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "series"])
def test_forbidden_files_and_folders_are_told(name: str) -> None:
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, name)
        path.mkdir() if name == "series" else path.write_bytes(b"volume")
        path.chmod(0)
        with no_rights():
            found = fault(path)
        path.chmod(0o700)
    assert found == ("permission", "permission denied")


def header_with(edit: Callable[[nib.Nifti1Header], None]) -> bytes:
    """A NIfTI file whose header is edited after nibabel has made it."""
    image = nib.Nifti1Image(NOISE[0], AFFINE)
    image.set_qform(AFFINE, 1)
    edit(image.header)
    return image.header.binaryblock + b"\0" * 4 + NOISE[0].tobytes(order="F")


def set_sform(matrix: np.ndarray) -> Callable[[nib.Nifti1Header], None]:
    def edit(header: nib.Nifti1Header) -> None:
        header["sform_code"] = 1
        for name, row in zip(("srow_x", "srow_y", "srow_z"), matrix, strict=True):
            header[name] = row

    return edit


def set_qform(key: str, value: float) -> Callable[[nib.Nifti1Header], None]:
    def edit(header: nib.Nifti1Header) -> None:
        header["sform_code"] = 0
        header[key] = value

    return edit


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (set_sform(np.zeros((3, 4))), "three axes"),
        (set_sform(np.array([[1, 2, 0, 0], [2, 4, 0, 0], [0, 0, 3, 0]])), "three axes"),
        (set_sform(np.full((3, 4), np.nan)), "finite numbers"),
        (set_qform("qoffset_x", np.inf), "finite numbers"),
        (set_qform("quatern_b", np.nan), "finite numbers"),
        (set_qform("quatern_b", 3.0), "holds no rotation"),
    ],
)
def test_unusable_affines_are_a_kind_of_their_own(
    tmp_path: Path,
    edit: Callable[[nib.Nifti1Header], None],
    reason: str,
    read: Callable[[Path], object],
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(header_with(edit))
    kind, sentence = fault(path, read)
    assert kind == "affine"
    assert reason in sentence


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"ElementSpacing = 1 2 3", b"ElementSpacing = 1 0 3"),
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 0 1 0"),
    ],
)
def test_unusable_geometry_of_metaimage_is_seen_before_itk_stumbles(
    tmp_path: Path, good: bytes, bad: bytes, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.mha"
    image = sitk.GetImageFromArray(NOISE[0].T)
    image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, str(path))
    content = path.read_bytes()
    assert good in content
    path.write_bytes(content.replace(good, bad))
    kind, sentence = fault(path, read)
    assert kind == "affine"
    assert "three axes" in sentence


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.jpg", b"JFIF"),
        ("flat.nii", nib.Nifti1Image(NOISE[0, 0], AFFINE).to_bytes()),
        ("complex.nii", nib.Nifti1Image(NOISE[0].astype(np.complex64), AFFINE).to_bytes()),
    ],
)
def test_sound_files_that_are_no_volume_are_unsupported(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert fault(tmp_path / name)[0] == "unsupported"


def test_whatever_a_damaged_header_leads_to_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.mgh"
    write_volume(Volume(torch.from_numpy(NOISE), AFFINE), path)
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\0\0\1\4" + content[24:])  # an unknown type of number
    kind, sentence = fault(path)
    assert (kind, sentence) == ("damaged", "it is truncated or damaged (260)")
    for length in (b"\0\0\0\0", b"\x7f\xff\xff\xff"):
        path.write_bytes(content[:4] + length * 3 + content[16:])
        assert fault(path)[0] == "damaged"


def test_unknown_units_are_taken_as_millimetres(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(header_with(lambda header: header.__setitem__("xyzt_units", 7)))
    assert read_grid(path).spacing == pytest.approx((0.8, 2.0, 1.25))


def test_the_error_reaches_the_parent_of_a_worker_process_whole() -> None:
    error = pickle.loads(pickle.dumps(VolumeFileError("cannot read a: gone", "missing")))
    assert (str(error), error.kind) == ("cannot read a: gone", "missing")


# NaN and infinities


def test_voxels_that_are_not_finite_are_counted_by_channel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.ones((6, 4, 5, 3), dtype=np.float32)
    data[1, 2, 3, 0], data[0, 0, 0, 2], data[5, 3, 4, 2] = np.nan, np.inf, -np.inf
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "a.nii.gz")
    volume, num_not_finite = read_volume_counted(tmp_path / "a.nii.gz", dtype=torch.float64)
    assert num_not_finite == (1, 0, 2)
    assert volume.data.dtype == torch.float64
    assert int((volume.data == 0).sum()) == 3
    assert caplog.text == ""
    write_volume(Volume(torch.from_numpy(NOISE), AFFINE), tmp_path / "b.nii.gz")
    assert read_volume_counted(tmp_path / "b.nii.gz")[1] == (0,)
