"""Both steps in one command, for a miniature of every layout."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurosam3d.data.index import read_index

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str]]
LIVER_TUMOR = {"liver": 108.0, "tumor": 18.0}  # mm^3 of `organs`


@pytest.fixture
def prepared(tmp_path: Path, run: Run) -> Callable[..., dict[str, dict[str, float]]]:
    """Prepare the folder raw; return case -> class -> volume in mm^3."""

    def call(layout: str, *arguments: object, code: int = 0) -> dict[str, dict[str, float]]:
        name = () if "--layout" in arguments else ("--name", "A")
        raw = ("--raw", tmp_path / "raw", *name)
        got, said = run("-dt", "Tr", *raw, "--workers", 1, *arguments)
        assert got == code, said
        assert layout in said
        found: dict[str, dict[str, float]] = {}
        for case in read_index(tmp_path / "out/A_Tr.json"):
            found.setdefault(case.case_id, {})[case.class_name] = case.volume_mm3
        assert run("--check", "--workers", 1)[0] == 0
        return found

    return call


def patients(tmp_path: Path) -> dict[str, str | None]:
    return {case.case_id: case.patient for case in read_index(tmp_path / "out/A_Tr.json")}


def test_bids(tmp_path: Path, prepared: Callable, write_volume: Write, organs: np.ndarray) -> None:
    raw, fractions = tmp_path / "raw", np.zeros(organs.shape, np.float32)
    fractions[2:5, 1, 1] = (0.2, 0.4, 0.9)
    for subject, session in (("sub-1", "ses-1"), ("sub-1", "ses-2"), ("sub-2", "ses-1")):
        name = f"{subject}/{session}/anat/{subject}_{session}"
        write_volume(raw / f"{name}_T1w.nii.gz")
        write_volume(raw / f"derivatives/seg/{name}_dseg.nii.gz", organs)
        write_volume(raw / f"derivatives/seg/{name}_label-lesion_mask.nii.gz", organs)
        write_volume(raw / f"derivatives/seg/{name}_label-GM_probseg.nii.gz", fractions)
    (raw / "derivatives/seg/dseg.tsv").write_text("index\tname\n1\tliver\n2\ttumor\n")
    classes = {**LIVER_TUMOR, "lesion": 126.0}
    cases = ("sub-1_ses-1_T1w", "sub-1_ses-2_T1w", "sub-2_ses-1_T1w")
    assert prepared("BIDS") == {case: {**classes, "GM": 9.0} for case in cases}
    assert list(patients(tmp_path).values()) == ["sub-1", "sub-1", "sub-2"]
    lower = prepared("BIDS", "--threshold", 0.4)
    assert lower == {case: {**classes, "GM": 18.0} for case in cases}


def test_freesurfer(
    tmp_path: Path, prepared: Callable, write_volume: Write, organs: np.ndarray
) -> None:
    aseg = np.select([organs == 1, organs == 2], [17, 53]).astype(np.int32)
    for subject in ("bert", "ernie"):
        write_volume(tmp_path / f"raw/{subject}/mri/norm.mgz")
        write_volume(tmp_path / f"raw/{subject}/mri/aseg.mgz", aseg)
    hippocampi = {"Left-Hippocampus": 108.0, "Right-Hippocampus": 18.0}
    assert prepared("FreeSurfer") == {"bert": hippocampi, "ernie": hippocampi}
    assert patients(tmp_path) == {"bert": "bert", "ernie": "ernie"}
    table = tmp_path / "lut.txt"
    table.write_text("#No. Name R G B A\n0 Unknown 0 0 0 0\n53 right_one 1 2 3 0\n")
    right = {"right_one": 18.0}
    assert prepared("FreeSurfer", "--labels", table) == {"bert": right, "ernie": right}


def test_btcv(tmp_path: Path, prepared: Callable, write_volume: Write, organs: np.ndarray) -> None:
    for number in ("0001", "0002"):
        write_volume(tmp_path / f"raw/img/img{number}.nii.gz")
        write_volume(tmp_path / f"raw/label/label{number}.nii.gz", organs)
    volumes = {"spleen": 108.0, "right_kidney": 18.0}
    assert prepared("Synapse/BTCV") == {"img0001": volumes, "img0002": volumes}


def test_kits(tmp_path: Path, prepared: Callable, write_volume: Write, organs: np.ndarray) -> None:
    write_volume(tmp_path / "raw/case_00000/imaging.nii.gz")
    write_volume(tmp_path / "raw/case_00000/segmentation.nii.gz", organs)
    assert prepared("KiTS") == {"case_00000": {"kidney": 108.0, "tumor": 18.0}}
    assert patients(tmp_path) == {"case_00000": "case_00000"}


def test_lits(tmp_path: Path, prepared: Callable, write_volume: Write, organs: np.ndarray) -> None:
    for number in (0, 10):
        write_volume(tmp_path / f"raw/volume-{number}.nii")
        write_volume(tmp_path / f"raw/segmentation-{number}.nii", organs)
    assert prepared("LiTS") == {"volume-0": LIVER_TUMOR, "volume-10": LIVER_TUMOR}


def test_a_declared_layout(
    tmp_path: Path, prepared: Callable, write_volume: Write, organs: np.ndarray
) -> None:
    channels = np.stack([np.zeros(organs.shape), np.indices(organs.shape).sum(0)], axis=-1)
    for patient, sequences in (("p07", ("FLAIR", "T1")), ("p26", ("FLAIR",))):
        write_volume(tmp_path / f"raw/{patient}/truth.nii.gz", organs)
        for sequence in sequences:
            write_volume(tmp_path / f"raw/{patient}/{sequence}_N4.nii.gz", channels)
    layout = tmp_path / "study.yaml"
    layout.write_text(
        "name: A\nmodality: MRI\nlabels: aal.txt\nlicence: CC BY\n"
        'sources:\n  Tr:\n    - {images: "{patient}/{sequence}_N4.nii.gz",'
        ' label: "{patient}/truth.nii.gz", patient: "{patient}"}\n'
    )
    (tmp_path / "aal.txt").write_text("1 liver 2001\r\n2 tumor 2002\r\n")
    found = prepared("3/3", "--layout", layout, "--channel", 1)
    assert found == dict.fromkeys(("p07_FLAIR", "p07_T1", "p26_FLAIR"), LIVER_TUMOR)
    assert patients(tmp_path) == {"p07_FLAIR": "p07", "p07_T1": "p07", "p26_FLAIR": "p26"}
    stored = nibabel.load(tmp_path / "out/A/imagesTr/p07_T1.nii.gz").get_fdata()
    assert np.array_equal(stored, channels[..., 1])
    assert json.loads((tmp_path / "out/A/dataset.json").read_text())["licence"] == "CC BY"


def test_patients_enter_the_index_at_preparation(tmp_path: Path, raw: Path, run: Run) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\na,P1\nb,P1\n")
    both = ("-dt", "Tr", "--raw", raw, "--name", "A", "--workers", 1)
    assert run(*both, "--group", table)[0] == 0
    assert patients(tmp_path) == {"a": "P1", "b": "P1"}
    table.write_text("case,patient\na,P2\nb,P3\n")
    listed = ("-dt", "Tr", "--datasets", "A", "--workers", 1, "--group", table)
    assert run(*listed)[0] == 0
    assert patients(tmp_path) == {"a": "P2", "b": "P3"}
    table.write_text("case,patient\na,P1\n")
    code, said = run(*listed)
    assert code == 1
    assert said == f"error: {table}: A_Tr: no patient is given for case 'b' (1 missing)\n"
    code, said = run(*both, "--group", tmp_path / "none.csv")
    assert (code, len(said.splitlines())) == (1, 2)  # the layout, and the sentence
    assert "cannot read" in said


def test_what_cannot_be_listed_is_summed_up_and_kept(
    tmp_path: Path, raw: Path, run: Run, write_volume: Write, organs: np.ndarray
) -> None:
    for number in range(30):
        write_volume(raw / f"imagesTr/x{number:02d}_0000.nii.gz")
        write_volume(raw / f"labelsTr/y{number:02d}.nii.gz", organs)
    _, said = run("-dt", "Tr", "--raw", raw, "--name", "A", "--workers", 1)
    lines = [line for line in said.splitlines() if ", the first: " in line]
    assert [line.partition(", the first: ")[0] for line in lines] == [
        "A_Tr: image without label: 30",
        "A_Tr: label without image: 30",
    ]
    assert set(patients(tmp_path)) == {"a", "b"}
    content = json.loads((tmp_path / "out/A/dataset.json").read_text())
    assert len(content["problems"]["training"]) == 60
    assert content["problems"]["training"][0]["case"] == "x00"


def test_a_folder_that_loses_every_image_is_one_sentence(
    tmp_path: Path, raw: Path, run: Run
) -> None:
    for path in (raw / "labelsTr").iterdir():
        path.unlink()
    code, said = run("-dt", "Tr", "--raw", raw, "--name", "A", "--workers", 1)
    assert code == 1
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "A_Tr: image without label: 2, the first: no label belongs to" in sentence
    assert not (tmp_path / "out").exists()
