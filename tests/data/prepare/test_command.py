"""The commands as users type them: what is written, what is said, and the exit code."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.index import find_sets, read_index
from neurosam3d.data.prepare import catalogue
from neurosam3d.data.prepare.command import data_command, list_command
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator

SAMPLE = Path(__file__).parents[2] / "sample"
Write = Callable[..., Path]
Run = Callable[..., tuple[int, str]]


class Amos(BaseDatasetJSONGenerator):
    dir = "AMOS"
    record = catalogue.AMOS


class Word(BaseDatasetJSONGenerator):
    dir = "WORD"
    record = catalogue.WORD


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def step_one(out: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `prepare_json_data.py` with the classes AMOS and WORD."""

    def call(*arguments: object) -> tuple[int, str]:
        generators = {"AMOS": Amos(), "WORD": Word()}
        code = list_command(lambda: generators, [str(a) for a in (*arguments, "--out", out)])
        return code, capsys.readouterr().err

    return call


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_two_steps_prepare_the_sample(out: Path, step_one: Run, run: Run) -> None:
    before = contents(SAMPLE)
    code, said = step_one("--root", SAMPLE)
    assert code == 0
    assert "AMOS: Tr images 1 classes 15" in said
    assert "of WORD" in said
    content = json.loads((out / "AMOS/dataset.json").read_text())
    assert {"name", "modality", "labels", "training", "validation", "testing"} <= content.keys()
    assert {"image", "seg", "seg_index"} <= content["training"][0].keys()
    code, said = run("-dt", "Tr", "--workers", 2)
    assert code == 0
    assert "cases 1, labels 12, classes without a voxel 3, skipped cases 0" in said
    cases = {case.class_name: case for case in find_sets(out, ["AMOS_Tr"])["AMOS_Tr"]}
    assert cases["liver"].volume_mm3 == 498960.0
    assert cases["right_kidney"].volume_mm3 == 46467.0
    assert cases["liver"].extra["modality"] == ["CT", "MRI"]
    assert "bladder" not in cases
    assert run("--check")[0] == 0
    assert contents(SAMPLE) == before


def test_a_raw_folder_is_prepared_by_one_command(out: Path, run: Run, raw: Path) -> None:
    before = contents(raw)
    code, said = run("-dt", "Tr", "--raw", raw, "--name", "Liver", "--workers", 1)
    assert code == 0
    assert "recognized nnU-Net v2" in said
    entries = json.loads((out / "Liver_Tr.json").read_text())
    assert [(e["case"], e["class"], e["volume"]) for e in entries] == [
        ("a", "liver", 108.0),
        ("a", "left_tumor", 18.0),
        ("b", "liver", 108.0),
        ("b", "left_tumor", 18.0),
    ]
    assert entries[1]["label"] == "Liver/labelsTr/left_tumor/a.nii.gz"
    assert contents(raw) == before
    assert run("-dt", "Tr", "--datasets", "Liver", "--workers", 1)[0] == 0


def test_split_and_check_of_the_sample(out: Path, run: Run) -> None:
    sample = SAMPLE / "Dataset901_SoftTissueSarcoma"
    assert run("-dt", "Tr", "--raw", sample, "--name", "Sarcoma", "--workers", 1)[0] == 0
    arguments = ("--name", "Sarcoma", "--group", sample / "patients.csv")
    code, said = run("--split", "val=0.3", *arguments)
    assert code == 0
    assert "patients in training 2, in validation 1" in said
    training = {case.patient for case in read_index(out / "Sarcoma_Tr.json")}
    validation = {case.patient for case in read_index(out / "Sarcoma_Val.json")}
    assert training | validation == {"STS_002", "STS_003", "STS_010"}
    assert not training & validation
    (out / "some.csv").write_text("case,patient\nSTS_002,P1\n")
    code, said = run("--split", "val=0.3", "--name", "Sarcoma", "--group", out / "some.csv")
    assert (code, f"{out / 'some.csv'}: no patient is given for case" in said) == (1, True)
    label = read_index(out / "Sarcoma_Val.json")[0].label
    label.unlink()
    code, said = run("--check", "--workers", 1)
    assert code == 1
    assert f"error: cannot read {label}" in said


def test_a_broken_case_is_skipped_with_one_sentence(
    out: Path, run: Run, raw: Path, write_volume: Write, organs: np.ndarray
) -> None:
    broken = raw / "imagesTr/a_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    arguments = ("-dt", "Tr", "--raw", raw, "--name", "Liver", "--workers", 1)
    code, said = run(*arguments)
    assert code == 1
    assert len([line for line in said.splitlines() if "a is skipped: cannot read" in line]) == 1
    assert "skipped cases 1" in said
    assert {case.case_id for case in read_index(out / "Liver_Tr.json")} == {"b"}
    write_volume(broken)  # mended, the case is prepared
    assert run(*arguments)[0] == 0
    assert {case.case_id for case in read_index(out / "Liver_Tr.json")} == {"a", "b"}


def test_without_one_good_case_there_is_no_index(out: Path, run: Run, raw: Path) -> None:
    for path in (raw / "imagesTr").iterdir():
        path.write_bytes(b"")
    code, said = run("-dt", "Tr", "--raw", raw, "--name", "Liver", "--workers", 1)
    assert code == 1
    assert "error: Liver_Tr: none of its 2 cases gave a class with a voxel" in said
    assert not (out / "Liver_Tr.json").exists()


def test_keep_going_reaches_the_next_dataset(out: Path, run: Run, raw: Path) -> None:
    for name in ("First", "Second"):
        assert run("-dt", "Tr", "--raw", raw, "--name", name, "--workers", 1)[0] == 0
        (out / f"{name}_Tr.json").unlink()
    (raw / "labelsTr/a.nii.gz").write_bytes(b"no volume")
    code, said = run("-dt", "Tr", "--workers", 1, known=["First", "Second"])
    assert code == 1
    assert "error: stopped before Second; --keep-going goes on" in said
    assert (out / "First_Tr.json").exists()
    assert not (out / "Second_Tr.json").exists()
    code, _ = run("-dt", "Tr", "--workers", 1, "--keep-going", known=["First", "Second"])
    assert code == 1
    assert (out / "Second_Tr.json").exists()
    both = ("--datasets", "Missing", "Second")
    (out / "Second_Tr.json").unlink()
    assert run("-dt", "Tr", "--workers", 1, *both)[0] == 1
    assert not (out / "Second_Tr.json").exists()
    code, said = run("-dt", "Tr", "--workers", 1, "--keep-going", *both)
    assert (code, (out / "Second_Tr.json").exists()) == (1, True)
    assert "write it with: python utils/prepare_json_data.py Missing" in said


def test_raw_folders_that_moved_are_found_below_root(
    out: Path, run: Run, raw: Path, tmp_path: Path
) -> None:
    assert run("-dt", "Tr", "--raw", raw, "--name", "Liver", "--workers", 1)[0] == 0
    raw.parent.rename(tmp_path / "moved")
    for path in (out / "Liver").rglob("*.nii.gz"):
        path.unlink()
    assert run("-dt", "Tr", "--datasets", "Liver", "--workers", 1)[0] == 1
    arguments = ("-dt", "Tr", "--datasets", "Liver", "--workers", 1, "--root", tmp_path / "moved")
    assert run(*arguments)[0] == 0
    assert run("--check", "--workers", 1)[0] == 0


def test_mask_folders_and_several_workers(
    out: Path, run: Run, tmp_path: Path, write_volume: Write, organs: np.ndarray
) -> None:
    for case in ("s1", "s2"):
        write_volume(tmp_path / f"raw/{case}/ct.nii.gz")
        for value, name in ((1, "liver"), (2, "left lung"), (3, "spleen")):
            mask = (organs == value).astype(np.uint8)
            write_volume(tmp_path / f"raw/{case}/segmentations/{name}.nii.gz", mask)
    raw = tmp_path / "raw"
    code, said = run("-dt", "Tr", "--raw", raw, "--name", "Masks", "--workers", 2)
    assert code == 0
    assert "recognized masks per class" in said
    assert "cases 2, labels 4, classes without a voxel 2, skipped cases 0" in said
    folders = sorted(path.name for path in (out / "Masks/labelsTr").iterdir())
    assert folders == ["left_lung", "liver"]
    entries = [(c.case_id, c.class_name) for c in read_index(out / "Masks_Tr.json")]
    assert entries == [("s1", "left_lung"), ("s1", "liver"), ("s2", "left_lung"), ("s2", "liver")]


def test_a_channel_of_4d_images_can_be_chosen(
    out: Path, run: Run, raw: Path, write_volume: Write
) -> None:
    data = np.random.default_rng(0).integers(0, 99, (9, 7, 5, 2)).astype(np.int16)
    for case in ("a", "b"):
        (raw / f"imagesTr/{case}_0000.nii.gz").unlink()
        write_volume(raw / f"imagesTr/{case}.nii.gz", data)
    pairs = [{"image": f"imagesTr/{c}.nii.gz", "label": f"labelsTr/{c}.nii.gz"} for c in "ab"]
    content = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "liver"},
        "training": pairs,
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    arguments = ("-dt", "Tr", "--raw", raw, "--name", "Liver", "--workers", 1)
    for channel in (0, 1):
        code, said = run(*arguments, "--channel", channel)
        assert code == 0
        assert f"2 channels: channel {channel} (" in said
        kept = nibabel.load(out / "Liver/imagesTr/a.nii.gz")
        assert np.array_equal(np.asarray(kept.dataobj), data[..., channel])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["-dt", "Tr"], 1, "write them first with: python utils/prepare_json_data.py"),
        (["-dt", "Tr", "--datasets", "Nope"], 1, "python utils/prepare_json_data.py Nope"),
        (["-dt", "Tr", "--raw", "none", "--name", "A"], 1, "no raw folder none"),
        (["-dt", "Tr", "--raw", ".", "--name", "A"], 1, "no known layout in"),
        (["-dt", "Tr", "--raw", ".", "--name", "a/b"], 1, "got 'a/b'"),
        (["--split", "val=0.2", "--name", "a/b"], 1, "got 'a/b'"),
        (["--split", "val=0.2", "--name", "None"], 1, "None_Tr.json: No such file"),
        (["--check"], 1, "no index to check in"),
        (["-dt", "Test"], 2, "invalid choice: 'Test'"),
        ([], 2, "is required"),
        (["-dt", "Tr", "--raw", "x"], 2, "--name NAME is needed"),
        (["-dt", "Tr", "--name", "x"], 2, "--name goes with --raw"),
        (["--split", "val=0.2"], 2, "--name NAME is needed"),
        (["--split", "val=1.2", "--name", "A"], 2, "between 0 and 1, got 'val=1.2'"),
        (["--split", "0.2", "--name", "A"], 2, "got '0.2'"),
        (["--check", "--raw", "x"], 2, "go with -dt"),
        (["-dt", "Tr", "--raw", "x", "--name", "A", "--datasets", "B"], 2, "goes without"),
        (["--check", "--group", "x.csv"], 2, "--group goes with -dt and --split"),
        (["-dt", "Tr", "--channel", "1"], 2, "--channel goes with --raw"),
        (["-dt", "Tr", "--layout", "x.yaml"], 2, "--layout goes with --raw"),
        (["-dt", "Tr", "--labels", "x.txt"], 2, "--labels goes with --raw"),
        (["-dt", "Tr", "--threshold", "0.5"], 2, "--threshold goes with --raw"),
        (["-dt", "Tr", "--raw", "x", "--name", "A", "--threshold", "2"], 2, "up to 1, got '2'"),
        (["-dt", "Tr", "--raw", "x", "--name", "A", "--channel", "-1"], 2, "0 or more, got '-1'"),
        (["-dt", "Tr", "--raw", ".", "--layout", "none.yaml"], 1, "cannot read none.yaml"),
        (["-dt", "Tr", "--raw", ".", "--name", "A", "--labels", "none.tsv"], 1, "none.tsv: No"),
        (["--check", "--workers", "0"], 2, "a number of 1 or more, got '0'"),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    got, said = run(*arguments)
    assert got == code
    assert sentence in said
    assert len([line for line in said.splitlines() if "error: " in line]) == 1


def test_mistakes_in_step_one_are_one_sentence(tmp_path: Path, step_one: Run) -> None:
    assert step_one("Nope")[0] == 1
    assert "error: unknown dataset 'Nope'; known: AMOS, WORD" in step_one("Nope")[1]
    code, said = step_one("--root", tmp_path)
    assert code == 1
    assert "looked for AMOS, WORD" in said
    code, said = step_one("WORD", "AMOS", "--root", SAMPLE)
    assert code == 1
    assert "error: WORD: no raw folder" in said
    assert "AMOS: Tr images 1" in said


def test_a_set_the_raw_data_do_not_have_is_named(run: Run, step_one: Run, raw: Path) -> None:
    step_one("--root", SAMPLE)
    assert "none of AMOS has raw files for Ts" in run("-dt", "Ts")[1]
    code, said = run("-dt", "Val", "--datasets", "AMOS")
    assert code == 1
    assert "no raw files are listed for AMOS_Val; listed are AMOS_Tr" in said


def test_an_output_that_cannot_be_written_is_one_sentence(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = ["-dt", "Tr", "--raw", str(raw), "--name", "A", "--out", str(tmp_path / "file/x")]
    assert data_command([], arguments) == 1
    assert "error: Not a directory" in capsys.readouterr().err


def test_the_raw_folder_cannot_be_the_output(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(raw)
    for out, name in ((raw.parent, raw.name), (raw / "prepared", "A")):
        arguments = ["-dt", "Tr", "--raw", str(raw), "--name", name, "--out", str(out)]
        assert data_command([], arguments) == 1
        assert "prepared files go to another folder than" in capsys.readouterr().err
    assert contents(raw) == before


@pytest.mark.parametrize("command", [list_command, data_command])
def test_help_shows_examples(command: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command([], ["--help"])
    assert stop.value.code == 0
    assert "python data.py -dt Tr" in capsys.readouterr().out
