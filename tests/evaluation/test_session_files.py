"""Masks and clicks on disk: names, geometry, markers, and reading them back."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.session_files import SessionFiles, draw_markers, safe_name
from neurosam3d.volume import Grid
from neurosam3d.volume_io import VolumeFileError
from tests.evaluation.scans import AFFINES, SHAPE, block, write

AFFINE = AFFINES["permuted, oblique"]
GRID = Grid(SHAPE, AFFINE)
PROTOCOL = {"name": "prompt_roi", "seed": 3}


def step(*points: tuple[int, int, int], mask: np.ndarray | None = None) -> Step:
    labels = np.arange(len(points)) % 2 == 0
    found = block() if mask is None else mask
    return Step(np.array(points), labels.astype(int), found > 0, {"encode": 0.5, "decode": 0.25}, 3)


def scan(image: Path, case: str = "scan_1") -> Scan:
    return Scan("AMOS", "Ts", case, image, ())


def write_session(files: SessionFiles, start: Path, image: Path) -> list[Step]:
    steps = [step((3, 4, 5)), step((3, 4, 5), (20, 9, 30), mask=block(shape=(3, 3, 3)))]
    for entry in steps:
        files.write_step(start, entry, grid=GRID, image=image)
    files.write_clicks(start, steps)
    return steps


def test_files_have_documented_names_and_the_scans_geometry(tmp_path: Path) -> None:
    image = write(tmp_path / "scan_1.nii.gz", block().astype(np.float32), AFFINE)
    files = SessionFiles(tmp_path / "vis", PROTOCOL)
    start = files.start_of(scan(image), "left kidney")
    write_session(files, start, image)
    folder = tmp_path / "vis" / "AMOS_Ts" / "left kidney"
    assert sorted(path.name for path in folder.iterdir()) == [
        "scan_1_clicks.json",
        "scan_1_clicks0.nii.gz",
        "scan_1_clicks1.nii.gz",
        "scan_1_pred0.nii.gz",
        "scan_1_pred1.nii.gz",
    ]
    for path in folder.glob("*.nii.gz"):
        written = nib.load(path)
        assert written.get_data_dtype() == np.uint8
        assert written.shape == SHAPE
        np.testing.assert_allclose(written.affine, nib.load(image).affine, atol=1e-5)
    mask = np.asarray(nib.load(folder / "scan_1_pred1.nii.gz").dataobj)
    np.testing.assert_array_equal(mask, block(shape=(3, 3, 3)))
    markers = np.asarray(nib.load(folder / "scan_1_clicks1.nii.gz").dataobj)
    assert (markers[3, 4, 5], markers[20, 9, 30]) == (1, 2)
    content = json.loads((folder / "scan_1_clicks.json").read_text(encoding="utf-8"))
    assert content["protocol"] == PROTOCOL
    assert [entry["points"] for entry in content["rounds"]] == [
        [[3, 4, 5]],
        [[3, 4, 5], [20, 9, 30]],
    ]
    assert content["rounds"][1]["labels"] == [1, 0]


def test_repeats_have_folders_of_their_own() -> None:
    files = SessionFiles(Path("vis"), {})
    image = Path("i.nii.gz")
    assert files.start_of(scan(image), "a", repeat=2) == Path("vis/repeat2/AMOS_Ts/a/scan_1")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("left kidney", "left kidney"),
        ("a/b", "a=2Fb"),
        ("a=2Fb", "a=3D2Fb"),
        (".hidden", "=2Ehidden"),
        ("..", "=2E."),
        ("v1.5", "v1.5"),
        ("Größe", "Größe"),
    ],
)
def test_names_that_folders_may_not_have_are_written_otherwise(name: str, written: str) -> None:
    assert safe_name(name) == written


def test_a_session_is_read_back(tmp_path: Path) -> None:
    image = write(tmp_path / "scan_1.nii.gz", block(), AFFINE)
    files = SessionFiles(tmp_path, PROTOCOL)
    start = files.start_of(scan(image), "a")
    assert files.read(start, clicks=[1], grid=GRID) is None
    written = write_session(files, start, image)
    found = files.read(start, clicks=[1, 2], grid=GRID)
    assert found is not None
    for expected, again in zip(written, found, strict=True):
        np.testing.assert_array_equal(again.mask, expected.mask)
        np.testing.assert_array_equal(again.points, expected.points)
        np.testing.assert_array_equal(again.labels, expected.labels)
        assert (again.seconds, again.num_windows) == (expected.seconds, 3)
    first = files.read(start, clicks=[1], grid=GRID)
    assert first is not None
    assert [entry.clicks for entry in first] == [1]
    assert files.read(start, clicks=[1, 2, 3], grid=GRID) is None


def test_masks_of_other_programs_are_taken_as_they_are(tmp_path: Path) -> None:
    files = SessionFiles(tmp_path, PROTOCOL)
    for index in range(2):
        write(tmp_path / f"s_pred{index}.nii.gz", block(), AFFINE)
    found = files.read(tmp_path / "s", clicks=[1, 2], grid=GRID)
    assert found is not None
    assert [(entry.clicks, entry.mask.sum(), entry.seconds) for entry in found] == [
        (1, 240, {}),
        (2, 240, {}),
    ]


def test_masks_of_another_protocol_or_grid_are_refused(tmp_path: Path) -> None:
    image = write(tmp_path / "scan_1.nii.gz", block(), AFFINE)
    start = tmp_path / "s"
    write_session(SessionFiles(tmp_path, PROTOCOL), start, image)
    other = SessionFiles(tmp_path, {**PROTOCOL, "seed": 4})
    with pytest.raises(ValueError, match="with seed 3 instead of 4; give another --vis_path"):
        other.read(start, clicks=[1, 2], grid=GRID)
    elsewhere = Grid(SHAPE, AFFINES["RAS"])
    found = SessionFiles(tmp_path, PROTOCOL).read(start, clicks=[1, 2], grid=elsewhere)
    assert found is not None
    with pytest.raises(VolumeFileError, match="must lie on its scan's grid"):
        list(found)


# Markers


def test_a_marker_is_a_ball_in_millimetres() -> None:
    markers = draw_markers(np.array([[15, 12, 17]]), np.array([1]), grid=GRID)
    voxels = np.argwhere(markers == 1)
    distances = np.linalg.norm((voxels - (15, 12, 17)) @ AFFINE[:3, :3].T, axis=1)
    assert distances.max() <= 2.5 * 0.7 + 1e-6  # of the finest side
    inside = np.linalg.norm((np.argwhere(markers == 0) - (15, 12, 17)) @ AFFINE[:3, :3].T, axis=1)
    assert inside.min() > 2.5 * 0.7
    assert len(voxels) > 10


def test_a_marker_stays_in_its_thick_slice() -> None:
    thick = Grid(SHAPE, AFFINES["thick slices"])
    voxels = np.argwhere(draw_markers(np.array([[15, 12, 17]]), np.array([1]), grid=thick))
    assert set(voxels[:, 2]) == {17}
    assert np.ptp(voxels[:, :2], axis=0).tolist() == [4, 4]


def test_markers_are_cut_at_the_border() -> None:
    corner = draw_markers(np.array([[0, 25, 33]]), np.array([0]), grid=Grid(SHAPE, AFFINES["RAS"]))
    middle = draw_markers(np.array([[15, 12, 17]]), np.array([0]), grid=Grid(SHAPE, AFFINES["RAS"]))
    np.testing.assert_array_equal(corner[:4, 22:, 30:], middle[15:19, 9:13, 14:18])
    assert set(np.unique(corner)) == {0, 2}


def test_neighbouring_clicks_keep_their_own_voxels() -> None:
    points = np.array([[5, 5, 5], [6, 5, 5], [5, 6, 5], [0, 0, 0]])
    markers = draw_markers(points, np.array([1, 0, 1, -1]), grid=GRID)
    assert [int(markers[tuple(point)]) for point in points] == [1, 2, 1, 0]
