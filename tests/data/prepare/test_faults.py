"""One fault in a raw folder: what is said, where it is counted, and that nothing else suffers."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.index import read_index
from neurosam3d.data.prepare.command import data_command
from neurosam3d.data.prepare.problems import MEANINGS, Kind
from neurosam3d.data.prepare.progress import console

SHAPE = (19, 17, 13)
AFFINE = np.array([[0, 2.0, 0, -10], [-1.5, 0, 0, 4], [0, 0, 3.0, 7], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Fault:
    """A fault of case a, and what comes of it.

    Args:
        plant: Puts it into the raw folder.
        kind: What it is called.
        sentence: Part of what is said of it.
        is_lost: Whether it costs the case or a file, else it is noted.
        case: The case that it is the matter of; "" for none.
        classes: What is prepared of case a.
    """

    plant: Callable[[Path], object]
    kind: Kind
    sentence: str
    is_lost: bool = True
    case: str = "a"
    classes: tuple[str, ...] = ()


def image_of(raw: Path) -> Path:
    return raw / "imagesTr/a_0000.nii.gz"


def label_of(raw: Path) -> Path:
    return raw / "labelsTr/a.nii.gz"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, share: float = 0.6) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 8
    path.write_bytes(content)


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """Write a volume again with its voxels edited, in place or as another array."""
    volume = nibabel.load(path)
    data = np.array(volume.dataobj).astype(np.float32)
    edited = edit(data)
    nibabel.save(nibabel.Nifti1Image(data if edited is None else edited, volume.affine), path)


def put(value: float) -> Callable[[np.ndarray], None]:
    def edit(data: np.ndarray) -> None:
        data[2:4, 5, 6] = value

    return edit


def flatten(path: Path) -> None:
    """Take the third axis out of an affine; the library refuses to, so in the header's bytes."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:328] = np.array([[2, 0, 2, 0], [0, 2, 2, 0], [0, 0, 0, 0]], "<f4").tobytes()
    path.write_bytes(gzip.compress(content))


def move(path: Path) -> None:
    volume = nibabel.load(path)
    affine = volume.affine.copy()
    affine[:3, 3] += 500
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume.dataobj), affine), path)


def keep_only(value: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda data: np.where(data == value, data, 0).astype(np.uint8)


def same_name(raw: Path) -> None:
    """A list by hand, in which two images go by the name of a."""
    content = json.loads((raw / "dataset.json").read_text())
    content |= {"name": "Liver", "modality": ["CT"], "labels": {"1": "liver", "2": "tumor"}}
    content["training"] = [
        {
            "image": str(raw / f"imagesTr/{image}_0000.nii.gz"),
            "seg": str(raw / f"labelsTr/{image}.nii.gz"),
            "seg_index": value,
            "case": case,
        }
        for image, case in (("a", "a"), ("c", "a"), ("b", "b"))
        for value in (1, 2)
    ]
    out = raw.parent / "out/Liver"
    out.mkdir(parents=True)
    (out / "dataset.json").write_text(json.dumps(content))


BOTH = ("liver", "tumor")
FAULTS = {
    "truncated image": Fault(
        lambda raw: cut(image_of(raw)), Kind.DAMAGED, "a is skipped: cannot read"
    ),
    "truncated label": Fault(
        lambda raw: cut(label_of(raw)), Kind.DAMAGED, "a is skipped: cannot read"
    ),
    "flipped bit in an image": Fault(
        lambda raw: flip(image_of(raw)), Kind.DAMAGED, "a is skipped: cannot read"
    ),
    "flipped bit in a label": Fault(
        lambda raw: flip(label_of(raw)), Kind.DAMAGED, "a is skipped: cannot read"
    ),
    "flipped bit in a checksum": Fault(
        lambda raw: flip(image_of(raw), 1 - 1e-9), Kind.DAMAGED, "a is skipped: cannot read"
    ),
    "image of 0 bytes": Fault(
        lambda raw: image_of(raw).write_bytes(b""), Kind.EMPTY_FILE, "the file is empty (0 bytes)"
    ),
    "label of 0 bytes": Fault(
        lambda raw: label_of(raw).write_bytes(b""), Kind.EMPTY_FILE, "the file is empty (0 bytes)"
    ),
    "image without label": Fault(
        lambda raw: label_of(raw).unlink(), Kind.NO_LABEL, "a_0000.nii.gz"
    ),
    "label without image": Fault(
        lambda raw: image_of(raw).unlink(), Kind.NO_IMAGE, "labelsTr/a.nii.gz", case=""
    ),
    "case name used twice": Fault(same_name, Kind.SAME_NAME, "case 'a' stands for two images"),
    "NaN in an image": Fault(
        lambda raw: change(image_of(raw), put(np.nan)),
        Kind.NOT_FINITE,
        "a_0000.nii.gz has 2 NaN or infinite voxels; they are set to 0",
        is_lost=False,
        classes=BOTH,
    ),
    "infinity in an image": Fault(
        lambda raw: change(image_of(raw), put(-np.inf)),
        Kind.NOT_FINITE,
        "a_0000.nii.gz has 2 NaN or infinite voxels; they are set to 0",
        is_lost=False,
        classes=BOTH,
    ),
    "NaN in a label": Fault(
        lambda raw: change(label_of(raw), put(np.nan)),
        Kind.NOT_FINITE,
        "a.nii.gz has 2 NaN or infinite voxels; they are set to 0",
        is_lost=False,
        classes=BOTH,
    ),
    "image of NaN": Fault(
        lambda raw: change(image_of(raw), lambda data: data.fill(np.nan)),
        Kind.CONSTANT,
        "are NaN or infinite",
    ),
    "label beside its image": Fault(
        lambda raw: move(label_of(raw)), Kind.NO_OVERLAP, "does not overlap its image"
    ),
    "singular affine of an image": Fault(
        lambda raw: flatten(image_of(raw)), Kind.BAD_AFFINE, "an affine spans three axes"
    ),
    "singular affine of a label": Fault(
        lambda raw: flatten(label_of(raw)), Kind.BAD_AFFINE, "an affine spans three axes"
    ),
    "4-D image": Fault(
        lambda raw: change(image_of(raw), lambda data: np.stack([data, data**2], axis=-1)),
        Kind.SEVERAL_CHANNELS,
        "a_0000.nii.gz has 2 channels; number 0 is stored",
        is_lost=False,
        classes=BOTH,
    ),
    "2-D image": Fault(
        lambda raw: change(image_of(raw), lambda data: data[:, :, 0]),
        Kind.BAD_IMAGE,
        "a volume has three axes",
    ),
    "2-D label": Fault(
        lambda raw: change(label_of(raw), lambda data: data[:, :, 0]),
        Kind.BAD_LABEL,
        "a volume has three axes",
    ),
    "4-D label": Fault(
        lambda raw: change(label_of(raw), lambda data: np.stack([data, data], axis=-1)),
        Kind.BAD_LABEL,
        "a label has one channel",
    ),
    "fractions without a threshold": Fault(
        lambda raw: change(label_of(raw), put(0.5)), Kind.BAD_LABEL, "a label holds integers"
    ),
    "class without a voxel": Fault(
        lambda raw: change(label_of(raw), keep_only(1)),
        Kind.EMPTY_CLASS,
        "no voxel of tumor",
        is_lost=False,
        classes=("liver",),
    ),
    "no class with a voxel": Fault(
        lambda raw: change(label_of(raw), keep_only(9)),
        Kind.EMPTY_CLASS,
        "no voxel of liver, tumor",
        is_lost=False,
    ),
    "the same image twice": Fault(
        lambda raw: shutil.copy(raw / "imagesTr/b_0000.nii.gz", image_of(raw)),
        Kind.DUPLICATE,
        "a shows the same as b of Liver_Tr",
        is_lost=False,
        classes=BOTH,
    ),
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An nnU-Net raw folder of the sound cases a, b and c, all different."""
    generator = np.random.default_rng(0)
    for case in "abc":
        image = generator.normal(0, 99, SHAPE).astype(np.int16)
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:9, 3:9, 2:8], labels[11:14, 11:15, 9:12] = 1, 2
        for path, data in ((f"imagesTr/{case}_0000", image), (f"labelsTr/{case}", labels)):
            path = tmp_path / f"raw/{path}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, AFFINE), path)
    (tmp_path / "raw/dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumor": 2},'
        ' "numTraining": 3, "file_ending": ".nii.gz"}'
    )
    return tmp_path / "raw"


def prepare(raw: Path) -> int:
    """Run the command on the raw folder, or on the list that is there already."""
    out = raw.parent / "out"
    way = ["--raw", raw, "--name", "Liver"]
    if (out / "Liver/dataset.json").exists():
        way = ["--datasets", "Liver"]
    arguments = ["-dt", "Tr", *way, "--out", out, "--workers", 1]
    return data_command(["Liver"], [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_a_sentence_and_its_place_in_table_and_json(
    raw: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)
    fault, out = FAULTS[name], raw.parent / "out"
    fault.plant(raw)
    code = prepare(raw)
    said = capsys.readouterr().err
    assert code == (1 if fault.is_lost else 0)
    assert "Traceback" not in said

    report = json.loads((out / "Liver/report_Tr.json").read_text())
    assert report["problems"][fault.kind] >= 1
    cases = {case["case"]: case for case in report["cases"]}
    problems = cases[fault.case]["problems"] if fault.case else report["general"]
    (sentence,) = [p["sentence"] for p in problems if p["kind"] == fault.kind]
    assert fault.sentence in sentence
    if fault.case:
        assert (cases["a"]["status"] == "skipped") == fault.is_lost
        assert sorted(cases["a"].get("labels", ())) == sorted(fault.classes)

    rows = [line.split("│") for line in said.splitlines() if line.count("│") == 5]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows]
    (row,) = [row for row in cells if row[1] == fault.kind]
    assert row[2] == MEANINGS[fault.kind]
    assert fault.case in row[3].split(", ")
    # What the first step has told already is told again in the report alone.
    assert (fault.sentence in said) == (fault.kind is not Kind.SAME_NAME)

    # The other cases are there, and so is what the index names.
    entries = {(c.case_id, c.class_name) for c in read_index(out / "Liver_Tr.json")}
    whole = {("b", name) for name in BOTH}
    assert entries >= whole | {("a", name) for name in fault.classes}
    assert {name for case, name in entries if case == "a"} == set(fault.classes)
    assert data_command([], ["--check", "--out", str(out), "--workers", "1"]) == 0


def test_the_sound_folder_has_no_problem_at_all(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(raw) == 0
    report = json.loads((raw.parent / "out/Liver/report_Tr.json").read_text())
    assert report["problems"] == {}
    assert [case["problems"] for case in report["cases"]] == [[], [], []]
    assert "│" not in capsys.readouterr().err


def test_a_mended_case_is_prepared_by_the_next_run(raw: Path) -> None:
    whole = image_of(raw).read_bytes()
    cut(image_of(raw))
    assert prepare(raw) == 1
    image_of(raw).write_bytes(whole)
    assert prepare(raw) == 0
    report = json.loads((raw.parent / "out/Liver/report_Tr.json").read_text())
    assert (report["problems"], report["totals"]["cases"]) == ({}, 3)


def test_every_fault_at_once_costs_only_its_own_case(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("truncated image", "4-D label", "label beside its image")):
        for kind, suffix in (("images", "_0000"), ("labels", "")):
            source = raw / f"{kind}Tr/c{suffix}.nii.gz"
            shutil.copy(source, raw / f"{kind}Tr/a{suffix}.nii.gz")
        FAULTS[name].plant(raw)
        for kind, suffix in (("images", "_0000"), ("labels", "")):
            bad = raw / f"{kind}Tr/a{suffix}.nii.gz"
            bad.rename(raw / f"{kind}Tr/bad{number}{suffix}.nii.gz")
    assert prepare(raw) == 1
    entries = read_index(raw.parent / "out/Liver_Tr.json")
    assert {case.case_id for case in entries} == {"b", "c"}
    assert "skipped cases 3" in capsys.readouterr().err
