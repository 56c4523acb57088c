"""Write masks as DICOM-SEG, the segmentation that belongs to an image series of a patient.

The file refers to the slices it was drawn on and takes patient, study and frame of reference from
them. It says of every segment what it is (a SNOMED CT code) and how it was made.

Shapes: D H W columns, rows and slices of the series.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosam3d.files import replacing
from neurosam3d.inference.segment_codes import Code, find_code
from neurosam3d.version import __version__
from neurosam3d.volume import Grid
from neurosam3d.volume_io import list_series

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset

SUFFIX = ".dcm"

# Without these nobody can tell what a segmentation belongs to.
_UIDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
)
# What a file must say but may leave empty; scans that were made anonymous often lack them.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_NIFTI = "write NIfTI instead, for example -o mask.nii.gz"
_LONGEST_LABEL = 64  # of DICOM's long strings
_SERIES_NUMBER = 100  # beyond those that scanners give
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class ImageSeries:
    """The headers of an image series that a segmentation can refer to.

    Args:
        folder: Where it lies.
        files: Its files.
        headers: Their contents without the pixels; one if the file holds all the slices.
        positions: Where the first pixel of each slice lies, (N, 3), RAS+ millimetres.
    """

    folder: Path
    files: tuple[Path, ...]
    headers: tuple["Dataset", ...]
    positions: np.ndarray


def read_series(folder: Path) -> ImageSeries:
    """Read the headers of the series that `read_volume` reads from a folder.

    Raises:
        ValueError: If it is no folder of DICOM images, if the slices lack what a segmentation must
            refer to, or if pydicom or highdicom is not installed.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{SUFFIX} files are written for a DICOM folder, got the image {folder}; {_NIFTI}"
        )
    with _extra_needed():
        import pydicom

        import_module("highdicom")  # rather told now than when all is computed
    files = tuple(list_series(folder))
    headers = tuple(pydicom.dcmread(file, stop_before_pixels=True) for file in files)
    _check_uids(folder, headers)
    for header in headers:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, "")
    return ImageSeries(folder, files, headers, _slice_positions(folder, headers))


def write_dicom_seg(
    path: Path,
    labels: np.ndarray,
    *,
    names: Sequence[str],
    grid: Grid,
    series: ImageSeries,
    network: str,
    parameters: Mapping[str, str],
    is_automatic: bool,
) -> None:
    """Write a label map as the segments of one file; it appears whole or not at all.

    Args:
        path: The file to write.
        labels: Whole numbers (D, H, W): 0 background, n the n-th of the names.
        names: What the segments are. Those that `segment_codes.yaml` does not know are tissue, and
            keep their name as label.
        grid: Where the labels lie, as `read_volume` has placed the series.
        series: The image series.
        network: Name of the network that drew them.
        parameters: What else to say of how they were made.
        is_automatic: Whether nobody has prompted.

    Raises:
        ValueError: If the series and the grid are not of one place, or the file is one of the
            series.
    """
    from highdicom import UID
    from highdicom.seg import Segmentation

    if path.resolve() in {file.resolve() for file in series.files}:
        raise ValueError(f"a segmentation must not replace a slice of its image, got {path}")
    planes = _planes_of_slices(series, grid)
    descriptions = [
        _describe(number, name, network, parameters, is_automatic)
        for number, name in enumerate(names, start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty segments, which are told where they are found
        segmentation = Segmentation(
            series.headers,
            labels[:, :, planes].transpose(2, 1, 0),  # (W, H, D): slices, rows, columns
            "BINARY",
            descriptions,
            series_instance_uid=UID(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer="NeuroSAM3D",
            manufacturer_model_name=network,
            software_versions=__version__,
            device_serial_number=__version__,  # it must not be empty, and a program has none
            series_description=f"NeuroSAM3D: {', '.join(names)}"[:_LONGEST_LABEL],
        )
    with replacing(path) as partial:
        segmentation.save_as(partial)


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"writing {SUFFIX} needs pydicom and highdicom: pip install -e '.[dicom]'"
        ) from error


def _check_uids(folder: Path, headers: Sequence["Dataset"]) -> None:
    for header in headers:
        lacking = [keyword for keyword in _UIDS if not _is_uid(header.get(keyword))]
        if lacking:
            raise ValueError(
                f"a DICOM segmentation refers to its images by their UIDs, but those of {folder} "
                f"have no valid {', '.join(lacking)}; {_NIFTI}"
            )
    if len({str(header.SOPInstanceUID) for header in headers}) < len(headers):
        raise ValueError(
            f"a DICOM segmentation refers to its images by their UIDs, but in {folder} several "
            f"share one SOPInstanceUID; {_NIFTI}"
        )


def _is_uid(value: object) -> bool:
    from pydicom.uid import UID

    return bool(value) and UID(str(value)).is_valid


def _slice_positions(folder: Path, headers: Sequence["Dataset"]) -> np.ndarray:
    """Return where the slices lie (N, 3), RAS+ millimetres."""
    try:
        if "PerFrameFunctionalGroupsSequence" in headers[0]:
            frames = headers[0].PerFrameFunctionalGroupsSequence
            found = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
        else:
            found = [header.ImagePositionPatient for header in headers]
        positions = np.array(found, dtype=np.float64).reshape(len(found), 3)
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"the slices of {folder} do not say where they lie; {_NIFTI}") from error
    return positions @ _LPS_TO_RAS[:3, :3]


def _planes_of_slices(series: ImageSeries, grid: Grid) -> np.ndarray:
    """Return for each slice of the series which plane of the grid's last axis it is."""
    step = grid.affine[:3, 2]
    order = np.argsort(series.positions @ step)
    planes = np.empty(len(order), dtype=int)
    planes[order] = np.arange(len(order))
    off_mm = np.linalg.norm(series.positions[order[0]] - grid.affine[:3, 3])
    if len(order) != grid.shape[2] or off_mm > 0.5 * min(grid.spacing):
        raise ValueError(
            f"the slices of {series.folder} must be the planes of its volume, got {len(order)} for "
            f"{grid.shape[2]} planes, the first {off_mm:.2f} mm off; {_NIFTI}"
        )
    return planes


def _describe(
    number: int, name: str, network: str, parameters: Mapping[str, str], is_automatic: bool
) -> "SegmentDescription":
    """Say what a segment is and how it was made."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    def coded(code: Code) -> CodedConcept:
        return CodedConcept(code[0], "SCT", code[1])

    code = find_code(name)
    description = SegmentDescription(
        segment_number=number,
        segment_label=name[:_LONGEST_LABEL],
        segmented_property_category=coded(code.category),
        segmented_property_type=coded(code.type),
        algorithm_type="AUTOMATIC" if is_automatic else "SEMIAUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=f"NeuroSAM3D {network}",
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version=__version__,
            parameters=dict(parameters),
        ),
    )
    if code.side is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(code.side)]
    return description
