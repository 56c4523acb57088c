"""`neurosam3d segment` as a user runs it: a small seeded network on real and on miniature scans."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

import neurosam3d.__main__ as program
from neurosam3d.checkpoints import load_model
from neurosam3d.inference import Predictor
from neurosam3d.volume import read_volume
from tests.data.prepare.dicom.miniature import write_series
from tests.faults.limits import largest_file
from tests.published import lightning_content, save, small_network

ROOT = Path(__file__).parent.parent.parent
AMOS = ROOT / "tests" / "sample" / "AMOS" / "imagesTr" / "amos_0501.nii.gz"
LIVER, SPLEEN = (30, 46, 9), (90, 65, 15)
FEEDING = {"spacing": [4.0, 4.0, 4.0], "intensity": "sam_med3d"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = lightning_content(small_network(seed=3), **FEEDING)
    return save(content, tmp_path_factory.mktemp("run") / "last.ckpt")


def _segment(checkpoint: Path, *words: object) -> int:
    """Run the verb in this process and return the exit code."""
    with pytest.raises(SystemExit) as end:
        program.main(
            ["segment", *map(str, words), "--checkpoint", str(checkpoint), "--max_windows", "2"]
        )
    return int(end.value.code or 0)


def _expected(checkpoint: Path, point: Sequence[float], image: Path = AMOS) -> np.ndarray:
    predictor = Predictor(load_model(checkpoint), (4.0, 4.0, 4.0), max_windows=2)
    predictor.set_image(image)
    return predictor.predict(points=[point], labels=[1]).mask


def _values(path: Path) -> np.ndarray:
    return read_volume(path).data[0].numpy()


def _csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("image,object,i,j,k,label", *lines)) + "\n", encoding="utf-8")
    return path


def test_one_point_on_a_real_scan(checkpoint: Path, tmp_path: Path) -> None:
    output, picture = tmp_path / "mask.nii.gz", tmp_path / "mask.png"
    words = ["--point", "30,46,9", "--checkpoint", checkpoint, "-o", output, "--max_windows", "2"]
    run = subprocess.run(
        [sys.executable, "-m", "neurosam3d", "segment", AMOS, *words, "--save_picture", picture],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = _expected(checkpoint, LIVER)
    assert 0 < expected.sum() < expected.size
    mask, scan = nib.load(output), nib.load(AMOS)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, scan.affine)
    volume_ml = expected.sum() * np.prod(scan.header.get_zooms()) / 1000
    assert "vit_tiny from" in run.stdout
    assert "4 x 4 x 4 mm, intensities sam_med3d (as in its training)" in run.stdout
    assert f"{volume_ml:.2f}" in run.stdout
    for step in ("reading", "encoding", "decoding", "writing"):
        assert f" {step} " in run.stdout
    assert matplotlib.image.imread(picture).shape[1] == 1210


def test_several_objects_by_flags_and_by_file(checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--object", "liver", "--point", "30,46,9", "--object", "spleen")
    flags = (*flags, "--point", "90,65,15", "--separate", "--overlap", "last")
    assert _segment(checkpoint, AMOS, *flags, "-o", tmp_path / "flags.nii.gz") == 0
    liver, spleen = _expected(checkpoint, LIVER), _expected(checkpoint, SPLEEN)
    expected = np.where(spleen, 2, liver)
    np.testing.assert_array_equal(_values(tmp_path / "flags.nii.gz"), expected)
    np.testing.assert_array_equal(_values(tmp_path / "flags_liver.nii.gz"), liver)
    np.testing.assert_array_equal(_values(tmp_path / "flags_spleen.nii.gz"), spleen)
    prompts = tmp_path / "flags.json"
    assert [one["name"] for one in json.loads(prompts.read_text())["objects"]] == (
        ["liver", "spleen"]
    )
    words = ("--prompts", prompts, "--overlap", "last", "-o", tmp_path / "file.nrrd")
    assert _segment(checkpoint, AMOS, *words) == 0
    np.testing.assert_array_equal(_values(tmp_path / "file.nrrd"), expected)


@pytest.mark.parametrize("joined", [True, False])
def test_millimetres_with_a_minus_sign(checkpoint: Path, tmp_path: Path, joined: bool) -> None:
    affine = nib.load(AMOS).affine
    place = (affine @ [*SPLEEN, 1])[:3]
    assert place[0] < 0
    text = ",".join(f"{x:.9f}" for x in place)
    flag = [f"--point={text}"] if joined else ["--point", text]
    assert _segment(checkpoint, AMOS, "--world", *flag, "-o", tmp_path / "mask.nii.gz") == 0
    np.testing.assert_array_equal(_values(tmp_path / "mask.nii.gz"), _expected(checkpoint, SPLEEN))


def test_a_mask_of_another_program_is_a_prompt(checkpoint: Path, tmp_path: Path) -> None:
    label = ROOT / "tests" / "sample" / "AMOS" / "labelsTr" / "amos_0501.nii.gz"
    assert _segment(checkpoint, AMOS, "--mask", label, "-o", tmp_path / "mask.mha") == 0
    predictor = Predictor(load_model(checkpoint), (4.0, 4.0, 4.0), max_windows=2)
    predictor.set_image(AMOS)
    expected = predictor.predict(mask=label).mask
    np.testing.assert_array_equal(_values(tmp_path / "mask.mha"), expected)


def test_dicom_to_dicom(checkpoint: Path, tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct")
    words = ("--object", "liver", "--point", "3,2,4", "-o", tmp_path / "mask.dcm")
    assert _segment(checkpoint, tmp_path / "ct", *words, "--spacing", "native") == 0
    predictor = Predictor(load_model(checkpoint), None, max_windows=2)
    predictor.set_image(tmp_path / "ct")
    expected = predictor.predict(points=[(3, 2, 4)]).mask
    seg = hd.seg.segread(tmp_path / "mask.dcm")
    planes = seg.get_pixels_by_source_instance([image.SOPInstanceUID for image in slices])[..., 0]
    np.testing.assert_array_equal(planes.transpose(2, 1, 0), expected)
    assert seg.get_segment_description(1).algorithm_type.value == "SEMIAUTOMATIC"


def test_everything_without_a_prompt(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = "--automatic --points_per_side 2 --stability_threshold 0 --min_volume_mm3 0"
    output = tmp_path / "all.nii.gz"
    words = (*settings.split(), "--no_grow", "--save_picture", tmp_path / "all.png")
    assert _segment(checkpoint, AMOS, *words, "-o", output) == 0
    records = json.loads((tmp_path / "all.json").read_text())
    assert records["settings"]["points_per_side"] == 2
    assert not records["settings"]["grow"]
    assert _values(output).max() == len(records["masks"])
    assert (tmp_path / "all.png").is_file()
    assert re.search(r"about \d+ s for \d+ points in \d+ windows", capsys.readouterr().out)


def test_a_folder_of_scans(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    shutil.copy(AMOS, tmp_path / "in" / "sub" / "a.nii.gz")
    shutil.copy(AMOS, tmp_path / "in" / "b.nii.gz")
    (tmp_path / "in" / "bad.nii").write_bytes(b"no volume")
    prompts = _csv(
        tmp_path / "p.csv",
        *("bad.nii,liver,1,1,1,1", "sub/a,liver,30,46,9,", "sub/a,spleen,90,65,15,1"),
    )
    output = tmp_path / "out"
    words = (tmp_path / "in", "--prompts", prompts, "-o", output, "--suffix", ".mha")
    assert _segment(checkpoint, *words, "--save_picture", output / "pictures") == 1
    names = sorted(file.relative_to(output).as_posix() for file in output.rglob("*.*"))
    assert names == ["pictures/sub/a.png", "sub/a.json", "sub/a.mha"]
    assert set(np.unique(_values(output / "sub" / "a.mha"))) == {0, 1, 2}
    told = capsys.readouterr()
    assert "1 scans without prompts: b.nii.gz" in told.out
    assert "1 done, 1 failed" in told.out
    assert "error: bad.nii: cannot read" in told.err
    before = (output / "sub" / "a.mha").stat().st_mtime_ns
    assert before > (output / "sub" / "a.json").stat().st_mtime_ns  # --skip_existing looks for it
    (tmp_path / "in" / "bad.nii").unlink()
    _csv(prompts, "sub/a,liver,30,46,9,", "b.nii.gz,liver,30,46,9,")
    assert _segment(checkpoint, *words, "--skip_existing") == 0
    assert (output / "sub" / "a.mha").stat().st_mtime_ns == before
    np.testing.assert_array_equal(_values(output / "b.mha"), _expected(checkpoint, LIVER))
    assert "1 done, 1 there before, 0 failed" in capsys.readouterr().out
    _csv(prompts, "sub/a,liver,30,46,9,", "lost,liver,30,46,9,")
    assert _segment(checkpoint, *words, "--skip_existing") == 1
    assert "error: the prompts name lost, which is no scan" in capsys.readouterr().err


def _npz(path: Path, *points: Sequence[int]) -> Path:
    image = (np.random.default_rng(1).random((20, 24, 28)) * 255).astype(np.uint8)
    clicks = np.array([{"fg": [point], "bg": []} for point in points], dtype=object)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, imgs=image, spacing=np.array([4.0, 4, 4]), clicks=clicks)
    return path


def test_cases_of_the_challenge(checkpoint: Path, tmp_path: Path) -> None:
    case = _npz(tmp_path / "in" / "case1.npz", (10, 12, 14))
    assert _segment(checkpoint, case, "-o", tmp_path / "out.npz") == 0
    segs = np.load(tmp_path / "out.npz")["segs"]
    predictor = Predictor(load_model(checkpoint), (4.0, 4.0, 4.0), max_windows=2)
    predictor.set_image((np.load(case)["imgs"].astype(np.float32), np.diag([4.0, 4, 4, 1])))
    expected = predictor.predict(points=[(10, 12, 14)]).mask
    np.testing.assert_array_equal(segs, expected)
    assert segs.dtype == np.uint8
    _npz(tmp_path / "in" / "case2.npz", (99, 12, 14))
    assert _segment(checkpoint, tmp_path / "in", "-o", tmp_path / "out") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["case1.npz"]


def test_results_that_are_there_can_be_kept(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mask.nii").write_text("there")
    words = (AMOS, "--point", "30,46,9", "-o", tmp_path / "mask.nii", "--skip_existing")
    assert _segment(checkpoint, *words) == 0
    assert (tmp_path / "mask.nii").read_text() == "there"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{amos}", "-o", "{tmp}/m.nii"], "needs a prompt: .* --automatic looks for all objects"),
        (
            ["{amos}", "--point=1,2,3", "-o", "{tmp}/m.png"],
            r"masks are written to \.nii\.gz, .*dcm",
        ),
        (["{amos}", "--point=1,2,3", "-o", "{tmp}/m.dcm"], r"\.dcm files .* write NIfTI instead"),
        (["{amos}", "--point=1,2,3", "-o", "{amos}"], "the result must not replace the scan"),
        (["{amos}", "--point=1,2,99", "-o", "{tmp}/m.nii"], "object: points must lie inside"),
        (["{amos}", "--point=1,2,3,0", "-o", "{tmp}/m.nii"], "must say where the object is"),
        (["{tmp}/no.nii", "--point=1,2,3", "-o", "{tmp}/m.nii"], "there is no scan .*no.nii"),
        (
            ["{amos}", "--point=1,2,3", "-o", "{tmp}/m.nii", "--save_picture=x.jpg"],
            r"in \.png, got",
        ),
        (["{amos}", "--point=1,2,3", "-o", "{tmp}/m.nii", "--suffix=.mha"], "--suffix is for many"),
        (["{amos}", "--point=1,2,3", "-o", "{tmp}/m.nii", "--channel=1"], r"--channel must be one"),
        (["{tmp}", "--point=1,2,3", "-o", "{tmp}/out"], "from a file: --prompts, or --automatic"),
        (["{tmp}", "-o", "{tmp}/out"], "need a file of prompts: --prompts FILE"),
        (["{tmp}", "--automatic", "-o", "{tmp}/out", "--save_picture=x.png"], "is a folder, got"),
        (["{tmp}/ct", "--automatic", "-o", "{tmp}/out"], "is one DICOM series: its result is a f"),
        (["{tmp}/a.npz", "-o", "{tmp}/m.nii"], r"result of an \.npz case ends in \.npz"),
        (["{tmp}/a.npz", "--point=1,2,3", "-o", "{tmp}/m.npz"], "brings its own prompts"),
        (["{tmp}/a.npz", "--separate", "-o", "{tmp}/m.npz"], r"are not for \.npz cases"),
        (["{amos}", "--prompts={tmp}/m.json", "-o", "{tmp}/m.nii"], "would be replaced by what is"),
        (["{amos}", "--point=1,2,3", "-o", "{tmp}/m.nii", "--device=x"], "--device must be there"),
    ],
)
def test_mistakes_are_one_sentence(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    write_series(tmp_path / "ct")
    shutil.copy(AMOS, tmp_path / "scan.nii.gz")
    _npz(tmp_path / "a.npz", (1, 2, 3))
    content = {"images": {"amos_0501": [{"points": [[30, 46, 9]]}]}}
    (tmp_path / "m.json").write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    filled = [word.format(amos=AMOS, tmp=tmp_path) for word in words]
    assert _segment(checkpoint, *filled) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ")
    assert re.search(sentence, told[-1])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_told_with_the_file_and_leaves_the_mask_of_before(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mask.nii.gz"
    output.write_bytes(b"before")
    with largest_file(900):  # enough for what is said of the mask
        assert _segment(checkpoint, AMOS, "--point", "30,46,9", "-o", output) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: File too large: {output}"
    assert output.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.json", "mask.nii.gz"]


def test_help_shows_the_files_of_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(["segment", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "image,object,i,j,k,label,i1,j1,k1,mask" in text
    assert '{"objects": [{"name": "liver"' in text
