"""Many scans: found, matched with their prompts, and run one after the other."""

from pathlib import Path

import pytest

from neurosam3d.inference import ObjectPrompts
from neurosam3d.inference.batch import list_scans, objects_for, plan_batch, run_batch
from neurosam3d.inference.named_object import NamedObject
from neurosam3d.inference.scan_segmenter import ScanJob
from tests.data.prepare.dicom.miniature import write_series

LIVER = [NamedObject("liver", ObjectPrompts([[1, 2, 3]]))]
CYST = [NamedObject("cyst", ObjectPrompts([[3, 2, 1]]))]


def _folder(root: Path) -> Path:
    for name in ("b.NII.GZ", "a.mha", "sub/a.nii", "sub/case.npz", "notes.txt", ".hidden.nii"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    write_series(root / "patient" / "ct")
    (root / ".cache").mkdir()
    (root / ".cache" / "c.nii").write_bytes(b"x")
    return root


def test_scans_are_files_and_dicom_folders_at_any_depth(tmp_path: Path) -> None:
    scans = list_scans(_folder(tmp_path))
    names = ["a.mha", "b.NII.GZ", "patient/ct", "sub/a.nii", "sub/case.npz"]
    assert list(scans) == names
    assert scans["patient/ct"] == tmp_path / "patient" / "ct"


def test_folders_without_scans_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold scans .*\.nii\.gz.*, got none"):
        list_scans(tmp_path)
    write_series(tmp_path / "ct")
    with pytest.raises(ValueError, match=r"ct is one DICOM series: its result is a file, .*\.dcm"):
        list_scans(tmp_path / "ct")


def test_prompts_find_their_scans_with_and_without_suffix(tmp_path: Path) -> None:
    scans = list_scans(_folder(tmp_path / "in"))
    table = {"b": LIVER, "sub/a.nii": CYST, "patient/ct": LIVER, "lost.nii.gz": LIVER}
    batch = plan_batch(scans, table, tmp_path / "out")
    assert {name: (job.output, job.objects) for name, job in batch.jobs.items()} == {
        "b.NII.GZ": (tmp_path / "out/b.nii.gz", LIVER),
        "patient/ct": (tmp_path / "out/patient/ct.nii.gz", LIVER),
        "sub/a.nii": (tmp_path / "out/sub/a.nii.gz", CYST),
        "sub/case.npz": (tmp_path / "out/sub/case.npz", None),
    }
    assert (batch.unknown, batch.unasked) == (["lost.nii.gz"], ["a.mha"])
    everything = plan_batch(scans, None, tmp_path / "out", suffix=".mha")
    assert [job.output.name for job in everything.jobs.values()] == (
        ["a.mha", "b.mha", "ct.mha", "a.mha", "case.npz"]
    )
    assert all(job.objects is None for job in everything.jobs.values())


def test_what_would_be_mixed_up_is_refused(tmp_path: Path) -> None:
    scans = {"a.mha": tmp_path / "a.mha", "a.nii": tmp_path / "a.nii"}
    with pytest.raises(ValueError, match=r"a\.mha and a\.nii would share the result .*a\.nii\.gz"):
        plan_batch(scans, {"a": LIVER}, tmp_path)
    with pytest.raises(ValueError, match="must name the scan of every object"):
        plan_batch(scans, {"": LIVER}, tmp_path)
    with pytest.raises(ValueError, match="every scan in one way"):
        plan_batch(scans, {"a": LIVER, "a.mha": CYST}, tmp_path)


def test_one_scan_takes_its_prompts_from_a_file_for_many() -> None:
    table = {"x/a.nii.gz": LIVER, "b": CYST}
    assert objects_for(table, Path("elsewhere/a.nii.gz")) == LIVER
    assert objects_for(table, Path("b.mha")) == CYST
    assert objects_for({"": LIVER}, Path("anything.nii")) == LIVER
    with pytest.raises(ValueError, match=r"must name c\.nii once, got 0 times among x/a\.nii\.gz"):
        objects_for(table, Path("c.nii"))


def test_a_failed_scan_does_not_stop_the_others(tmp_path: Path) -> None:
    jobs = {name: ScanJob(tmp_path / name, tmp_path / f"{name}.nii", None) for name in "abcd"}
    jobs["c"].output.write_text("there")
    worked: list[str] = []

    def work(job: ScanJob) -> None:
        worked.append(job.image.name)
        if job.image.name == "b":
            raise RuntimeError("out of memory")

    failures: list[tuple[str, str]] = []

    def tell(name: str, error: Exception) -> None:
        failures.append((name, str(error)))

    done = run_batch(jobs, work, skip_existing=True, on_failure=tell)
    assert list(done) == [("a", "done"), ("b", "failed"), ("c", "kept"), ("d", "done")]
    assert worked == ["a", "b", "d"]
    assert failures == [("b", "out of memory")]
    assert list(run_batch({"c": jobs["c"]}, work)) == [("c", "done")]
    with pytest.raises(RuntimeError, match="out of memory"):
        list(run_batch(jobs, work))
