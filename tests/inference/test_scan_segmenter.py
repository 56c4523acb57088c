"""From files to files: geometry, numbers, names and what is said of them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

from neurosam3d.inference import ObjectPrompts
from neurosam3d.inference.automatic_result import AutomaticMask, AutomaticResult
from neurosam3d.inference.named_object import NamedObject
from neurosam3d.inference.prompt_file import read_prompts
from neurosam3d.inference.scan_files import Origin, sidecar_of, stem_of, suffix_of
from neurosam3d.inference.scan_segmenter import FinishedScan, ScanJob, ScanSegmenter, pick_channel
from neurosam3d.inference.sparse_mask import SparseMask
from neurosam3d.volume import Grid, Volume, read_volume, write_volume
from tests.data.prepare.dicom.miniature import write_series
from tests.inference.oracle import Oracle, ellipsoid, oblique, oracle_predictor

SHAPE = (22, 26, 18)
AFFINE = oblique((1.2, 0.9, 2.5), axes=(2, 0, 1), signs=(-1, 1, -1))
BALL = ellipsoid(SHAPE, centre=(6, 8, 7), radii=(4, 5, 4))
ROD = ellipsoid(SHAPE, centre=(15, 18, 11), radii=(3, 4, 5))
ORIGIN = Origin("vit_tiny", {"checkpoint": "last.ckpt", "spacing": None})


class _Seeing(Oracle):
    """Answers with what has the brightness under the first point of the window."""

    def __init__(self) -> None:
        super().__init__(self._answer)

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        points = self.asked[-1].points
        assert points is not None
        d, h, w = points[0, 0].round().long().tolist()
        seen = image[0, 0, d, h, w]
        return torch.where((image == seen) & (image > 0), 5.0, -5.0)


def _write_scan(path: Path) -> Path:
    data = torch.from_numpy(BALL + 2 * ROD).float()[None]
    write_volume(Volume(data, AFFINE), path)
    if path.name.endswith((".nii", ".nii.gz")):
        image = nib.load(path, mmap=False)
        image.header.set_sform(image.affine, 4)  # MNI space
        image.header.set_qform(None, 0)
        nib.save(
            nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine, image.header), path
        )
    return path


def _point(name: str, point: Sequence[float]) -> NamedObject:
    return NamedObject(name, ObjectPrompts([list(point)]))


BOTH = (_point("ball", (6, 8, 7)), _point("rod / left", (15, 18, 11)))


def _run(
    image: Path, output: Path, objects: Sequence[NamedObject] | None = BOTH, **options: object
) -> FinishedScan:
    predictor = oracle_predictor(_Seeing(), roi_size=SHAPE)
    segmenter = ScanSegmenter(predictor, ORIGIN, **options)  # type: ignore[arg-type]
    return segmenter.run(ScanJob(image, output, objects))


def test_a_label_map_has_the_image_s_place_space_and_shape(tmp_path: Path) -> None:
    image = _write_scan(tmp_path / "scan.nii.gz")
    finished = _run(image, tmp_path / "new" / "mask.nii.gz")
    written, source = nib.load(tmp_path / "new" / "mask.nii.gz"), nib.load(image)
    np.testing.assert_array_equal(np.asarray(written.dataobj), BALL + 2 * ROD)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, source.affine)
    assert int(written.header["sform_code"]) == 4
    assert finished.files == [tmp_path / "new" / name for name in ("mask.nii.gz", "mask.json")]
    voxel_ml = 1.2 * 0.9 * 2.5 / 1000
    np.testing.assert_allclose(
        finished.scan.volumes_ml(), [BALL.sum() * voxel_ml, ROD.sum() * voxel_ml]
    )
    assert {"read", "encode", "decode", "write"} <= finished.scan.seconds.keys()
    assert all(seconds > 0 for step, seconds in finished.scan.seconds.items() if step != "restore")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".mgz"])
def test_other_formats_lie_where_the_image_does(tmp_path: Path, suffix: str) -> None:
    image = _write_scan(tmp_path / f"scan{suffix}")
    _run(image, tmp_path / f"mask{suffix}")
    mask, scan = read_volume(tmp_path / f"mask{suffix}"), read_volume(image)
    np.testing.assert_array_equal(mask.data[0].numpy(), BALL + 2 * ROD)
    assert mask.grid.same_as(scan.grid, tolerance_mm=1e-4)
    assert not mask.data.is_floating_point()


def test_the_json_beside_it_says_what_is_what_and_asks_again(tmp_path: Path) -> None:
    image = _write_scan(tmp_path / "scan.nii.gz")
    boxed = ObjectPrompts([[15, 18, 11], [1, 1, 1]], [1, 0], [[12, 14, 6], [18, 22, 16]])
    _run(image, tmp_path / "mask.nii.gz", [BOTH[0], NamedObject("rod", boxed)])
    content = json.loads((tmp_path / "mask.json").read_text(encoding="utf-8"))
    assert (content["image"], content["label_map"]) == (str(image), "mask.nii.gz")
    assert (content["network"], content["checkpoint"]) == ("vit_tiny", "last.ckpt")
    assert content["overlap"] == "highest"
    assert [one["name"] for one in content["objects"]] == ["ball", "rod"]
    result = content["objects"][1]["result"]
    assert (result["value"], result["voxels"], result["complete"]) == (2, int(ROD.sum()), True)
    assert read_prompts(tmp_path / "mask.json") == {"": [BOTH[0], NamedObject("rod", boxed)]}
    world = ObjectPrompts((AFFINE @ [6, 8, 7, 1])[None, :3], world=True)
    _run(image, tmp_path / "mask.nii.gz", [NamedObject("ball", world)])
    (again,) = read_prompts(tmp_path / "mask.json")[""]
    assert again.prompts.world
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").data[0].numpy(), BALL)


def test_objects_keep_what_others_have_in_files_of_their_own(tmp_path: Path) -> None:
    image = _write_scan(tmp_path / "scan.nii.gz")
    same = [*BOTH, _point("rod ? left", (15, 18, 10)), _point("Ball", (6, 8, 6))]
    finished = _run(image, tmp_path / "mask.nii.gz", same, overlap="first", separate=True)
    names = ["mask_ball_1", "mask_rod_left_2", "mask_rod_left_3", "mask_Ball_4"]
    assert finished.files[2:] == [tmp_path / f"{name}.nii.gz" for name in names]
    for file, expected in zip(finished.files[2:], (BALL, ROD, ROD, BALL), strict=True):
        np.testing.assert_array_equal(read_volume(file).data[0].numpy(), expected)
    assert finished.scan.label_map.voxel_counts == (BALL.sum(), ROD.sum(), 0, 0)


def test_dicom_in_and_out(tmp_path: Path) -> None:
    slices = write_series(tmp_path / "ct")  # pixels count up from 0 in steps of one
    value = int(read_volume(tmp_path / "ct").data[0, 3, 2, 4])
    finished = _run(tmp_path / "ct", tmp_path / "mask.dcm", [_point("liver", (3, 2, 4))])
    assert finished.files == [tmp_path / "mask.dcm"]
    seg = hd.seg.segread(tmp_path / "mask.dcm")
    planes = seg.get_pixels_by_source_instance([image.SOPInstanceUID for image in slices])[..., 0]
    for plane, image in zip(planes, slices, strict=True):
        pixels = np.frombuffer(image.PixelData, np.uint16).reshape(image.Rows, image.Columns)
        np.testing.assert_array_equal(plane, pixels == value)
    described = seg.get_segment_description(1)
    assert described.segment_label == "liver"
    assert described.algorithm_identification.parameters == {
        "checkpoint": "last.ckpt",
        "spacing": "None",
    }
    separate = _run(
        tmp_path / "ct", tmp_path / "s.dcm", [_point("liver", (3, 2, 4))], separate=True
    )
    assert hd.seg.segread(separate.files[1]).number_of_segments == 1


def test_what_cannot_become_dicom_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    image = _write_scan(tmp_path / "scan.nii.gz")
    for file in (image, image.parent):
        with pytest.raises(
            ValueError, match=r"\.dcm files are written for a DICOM folder|cannot read .*no DICOM"
        ):
            _run(file, tmp_path / "mask.dcm")
    write_series(tmp_path / "ct")
    first = sorted((tmp_path / "ct").iterdir())[0]
    dataset = pydicom.dcmread(first)
    dataset.SOPInstanceUID = ""
    dataset.save_as(first)
    with pytest.raises(ValueError, match=r"write NIfTI instead, for example -o mask"):
        _run(tmp_path / "ct", tmp_path / "mask.dcm", [_point("liver", (99, 99, 99))])
    assert not (tmp_path / "mask.dcm").exists()


def _everything(predictor: object) -> AutomaticResult:
    grid = Grid(SHAPE, AFFINE)
    records = [
        AutomaticMask(
            number, SparseMask.from_array(mask > 0), 0.95, None, np.array([1.0, 2, 3]), 1, grid
        )
        for number, mask in enumerate((BALL, ROD), start=1)
    ]
    return AutomaticResult(tuple(records), grid)


def test_everything_without_prompts(tmp_path: Path) -> None:
    image = _write_scan(tmp_path / "scan.nii.gz")
    finished = _run(image, tmp_path / "all.nii.gz", None, find_all=_everything)
    np.testing.assert_array_equal(read_volume(finished.files[0]).data[0].numpy(), BALL + 2 * ROD)
    assert nib.load(finished.files[0]).get_data_dtype() == np.uint8
    assert [file.name for file in finished.files] == ["all.nii.gz", "all.json", "all.csv"]
    assert json.loads(finished.files[1].read_text(encoding="utf-8"))["image"] == str(image)
    assert [one.name for one in finished.scan.objects] == ["object 1", "object 2"]
    write_series(tmp_path / "ct")
    with pytest.raises(ValueError, match="at least one object to look for, got none"):
        _run(image, tmp_path / "all.nii.gz", None)


def test_one_of_several_channels_is_chosen(tmp_path: Path) -> None:
    both = np.stack([BALL, ROD]).astype(np.float32)
    write_volume(Volume(torch.from_numpy(both), AFFINE), tmp_path / "two.nii.gz")
    _run(tmp_path / "two.nii.gz", tmp_path / "mask.nii.gz", [BOTH[1]], channel=1)
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").data[0].numpy(), ROD)
    with pytest.raises(ValueError, match=r"two.nii.gz has 2 channels; choose one with --channel 0"):
        _run(tmp_path / "two.nii.gz", tmp_path / "mask.nii.gz")
    with pytest.raises(ValueError, match=r"--channel must be one of 0..1 for .*, got -1"):
        pick_channel(read_volume(tmp_path / "two.nii.gz"), -1, tmp_path / "two.nii.gz")


def test_an_unfit_prompt_is_told_with_its_object(tmp_path: Path) -> None:
    image = _write_scan(tmp_path / "scan.nii.gz")
    for prompts, message in (
        (ObjectPrompts([(6, 26, 7)]), "rod: points must lie inside the scan"),
        (ObjectPrompts([(6, 8, 7)], [0]), "rod: a prompt must say where the object is"),
    ):
        with pytest.raises(ValueError, match=message):
            _run(image, tmp_path / "mask.nii.gz", [BOTH[0], NamedObject("rod", prompts)])
    with pytest.raises(ValueError, match="got 'ball' twice"):
        _run(image, tmp_path / "mask.nii.gz", [BOTH[0], BOTH[0]])
    assert os.listdir(tmp_path) == ["scan.nii.gz"]


def test_suffixes() -> None:
    path = Path("out/Scan.v1.NII.GZ")
    assert (suffix_of(path), stem_of(path)) == (".nii.gz", "Scan.v1")
    assert sidecar_of(path) == Path("out/Scan.v1.json")
    with pytest.raises(ValueError, match=r"masks are written to .*\.nrrd.*\.dcm, got mask.png"):
        suffix_of(Path("mask.png"))
