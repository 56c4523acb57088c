"""What the operating system refuses: to read a file, to write one, to hold more of them."""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from neurosam3d.data.index import read_index
from neurosam3d.data.prepare.command import data_command
from tests.faults.holding import held

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An nnU-Net raw folder of six cases; images of noise, 130 kB each however compressed."""
    generator = np.random.default_rng(0)
    labels = np.zeros((44, 40, 38), np.uint8)
    labels[2:30, 3:30, 2:20], labels[31:40, 31:38, 21:30] = 1, 2
    for case in "abcdef":
        image = generator.integers(-30_000, 30_000, labels.shape).astype(np.int16)
        for path, data in ((f"imagesTr/{case}_0000", image), (f"labelsTr/{case}", labels)):
            path = tmp_path / f"raw/{path}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 1.5, 3.0, 1])), path)
    (tmp_path / "raw/dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumor": 2},'
        ' "numTraining": 6, "file_ending": ".nii.gz"}'
    )
    return tmp_path / "raw"


# Linux: what the superuser may do beyond the rights of a file's owner, bits of a capability set.
DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2
VERSION_3 = 0x20080522


@contextmanager
def rights_of_owner() -> Iterator[None]:
    """Let the rights of files hold for this thread, even if it is the superuser's."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits each
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~(DAC_OVERRIDE | DAC_READ_SEARCH)
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


def prepare(raw: Path) -> int:
    arguments = ["-dt", "Tr", "--raw", str(raw), "--name", "Liver"]
    return data_command([], [*arguments, "--out", str(raw.parent / "out"), "--workers", "1"])


@pytest.mark.parametrize("file", ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"])
def test_a_file_that_may_not_be_read_costs_its_case(
    raw: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / file).chmod(0)
    with rights_of_owner():
        assert prepare(raw) == 1
    said = capsys.readouterr().err
    sentence = f"a is skipped: cannot read {raw / file}: permission denied"
    assert sentence in said
    assert "│ no permission to read │" in said
    report = json.loads((raw.parent / "out/Liver/report_Tr.json").read_text())
    assert report["problems"] == {"no permission to read": 1}
    assert report["cases"][0]["problems"][0]["sentence"] == sentence
    assert {c.case_id for c in read_index(raw.parent / "out/Liver_Tr.json")} == set("bcdef")


def test_a_folder_that_may_not_be_entered_costs_its_cases(raw: Path) -> None:
    assert prepare(raw) == 0  # the raw files are listed
    listing = raw.parent / "out/Liver/dataset.json"
    content = json.loads(listing.read_text())
    (raw / "closed").mkdir()
    shutil.move(raw / "imagesTr/a_0000.nii.gz", raw / "closed")
    for item in content["training"]:
        item["image"] = item["image"].replace("imagesTr/a_", "closed/a_")
    listing.write_text(json.dumps(content))
    (raw / "closed").chmod(0)
    arguments = ["-dt", "Tr", "--datasets", "Liver", "--out", str(raw.parent / "out")]
    with rights_of_owner():
        assert data_command(["Liver"], [*arguments, "--workers", "1"]) == 1
    (raw / "closed").chmod(0o755)
    report = json.loads((raw.parent / "out/Liver/report_Tr.json").read_text())
    assert report["problems"] == {"no permission to read": 1}
    assert report["totals"]["cases"] == 5


def test_a_tree_that_may_not_be_written_stops_the_run_with_one_sentence(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(raw) == 0
    folder = raw.parent / "out/Liver"
    shutil.rmtree(folder / "labelsTr")
    folder.chmod(0o555)
    capsys.readouterr()
    with rights_of_owner():
        assert prepare(raw) == 1
    folder.chmod(0o755)
    said = capsys.readouterr().err
    assert f"cannot write in {folder}: Permission denied; run it again" in said
    assert said.count("error: ") == 1
    assert "skipped" not in said


def test_a_second_preparation_of_a_set_is_refused(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(raw.parent / "out/Liver/.Tr.lock") as pid:
        assert prepare(raw) == 1
        said = capsys.readouterr().err
        sentence = f"error: preparation of Liver_Tr is for one process at a time, got process {pid}"
        assert sentence in said
        assert not (raw.parent / "out/Liver_Tr.json").exists()
    assert prepare(raw) == 0
    assert not list((raw.parent / "out").rglob(".*"))


def no_space(path: str) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.parametrize("number", range(0, 21, 4))
def test_a_disk_that_becomes_full_stops_the_run_and_leaves_nothing_half(
    raw: Path,
    number: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is full at one moment or another: when the n-th file is to take its name."""
    replace, num_replaced = os.replace, 0

    def fail(source: Any, target: Any) -> None:
        nonlocal num_replaced
        num_replaced += 1
        if num_replaced > number:
            raise no_space(str(source))
        replace(source, target)

    out = raw.parent / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        assert prepare(raw) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert str(out) in errors[0]
    assert list(out.rglob(".part-*")) == []
    assert not (out / "Liver_Tr.json").exists()
    for path in out.rglob("*.nii.gz"):
        np.asarray(nibabel.load(path).dataobj)
    assert prepare(raw) == 0
    assert data_command([], ["--check", "--out", str(out), "--workers", "1"]) == 0
    assert list(out.rglob(".*")) == []


FILL = """
set -e
mkdir "$1"
mount -t tmpfs -o size=500k tmpfs "$1"
"$2" data.py -dt Tr --raw "$3" --name Liver --out "$1" --workers 2 && exit 9
find "$1" -name '.part-*' | grep . && exit 8
cp -r "$1" "$4"
mount -o remount,size=9m "$1"
"$2" data.py -dt Tr --raw "$3" --name Liver --out "$1" --workers 1
cp -r "$1" "$5"
"""


def can_mount() -> bool:
    """Whether this user may mount a file system in a name space of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", folder]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


@pytest.mark.skipif(not can_mount(), reason="needs to mount a small file system")
def test_a_disk_that_is_really_full_stops_the_run_and_a_larger_one_ends_it(
    raw: Path, tmp_path: Path
) -> None:
    paths = raw, full, whole = raw, tmp_path / "full", tmp_path / "whole"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FILL, "sh", tmp_path / "disk", sys.executable, *paths],
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert f"cannot write in {tmp_path / 'disk/Liver'}: No space left on device" in error
    assert "Traceback" not in done.stderr
    assert not (full / "Liver_Tr.json").exists()
    written = list(full.rglob("*.nii.gz"))
    assert 0 < len(written) < 18
    for path in written:
        np.asarray(nibabel.load(path).dataobj)
    assert len(list(whole.rglob("*.nii.gz"))) == 18
    assert len(read_index(whole / "Liver_Tr.json")) == 12
    assert list(whole.rglob(".*")) == []
