"""Miniature DICOM folders: image series, DICOM-SEG and RTSTRUCT files whose answers are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

SHAPE = (7, 5, 6)  # columns, rows, slices: a frame of 35 pixels ends within a byte
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """Where slices lie (LPS, mm).

    Args:
        row: Direction in which the column index grows.
        column: Direction in which the row index grows.
        step: From one slice to the next.
        spacing: Between rows, between columns.
        origin: Centre of the first pixel of the first slice.
        shape: Columns, rows, slices.
    """

    row: tuple[float, ...] = (1.0, 0.0, 0.0)
    column: tuple[float, ...] = (0.0, 1.0, 0.0)
    step: tuple[float, ...] = (0.0, 0.0, 2.5)
    spacing: tuple[float, float] = (1.5, 0.75)
    origin: tuple[float, ...] = (-20.0, 31.5, 7.25)
    shape: tuple[int, int, int] = SHAPE

    @property
    def affine(self) -> np.ndarray:
        """Index (column, row, slice) to RAS+ millimetres."""
        affine = np.eye(4)
        affine[:3, 0] = np.multiply(self.row, self.spacing[1])
        affine[:3, 1] = np.multiply(self.column, self.spacing[0])
        affine[:3, 2], affine[:3, 3] = self.step, self.origin
        return LPS_TO_RAS @ affine

    def to_lps(self, index: Any) -> np.ndarray:
        """Positions of indices (N, 3), LPS."""
        points = np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points * [-1, -1, 1]


def oblique() -> Geometry:
    """Directions that are none of the patient's axes."""
    a, b = 0.4, 0.25
    turn_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    row, column, normal = (turn_z @ turn_x).T
    return Geometry(row=tuple(row), column=tuple(column), step=tuple(2.5 * normal))


GEOMETRIES: Mapping[str, Geometry] = {
    "axial": Geometry(),
    "sagittal": Geometry(row=(0, 1, 0), column=(0, 0, -1), step=(-2.5, 0, 0)),
    "oblique": oblique(),
    "tilted gantry": Geometry(step=(0.0, 0.6, 2.5)),
}


def write_series(
    folder: Path,
    geometry: Geometry = GEOMETRIES["axial"],
    *,
    patient: str = "P1",
    modality: str = "CT",
    uid: str = "",
    frame: str = "",
    prefix: str = "s",
) -> list[Dataset]:
    """Write an image series, one file per slice; returns the slices in the order of the axis."""
    folder.mkdir(parents=True, exist_ok=True)
    uid, frame = uid or generate_uid(), frame or generate_uid()
    columns, rows, num_slices = geometry.shape
    slices = []
    for number in range(num_slices):
        image = new_dataset(CTImageStorage)
        image.PatientID, image.Modality = patient, modality
        image.SeriesInstanceUID, image.FrameOfReferenceUID = uid, frame
        image.StudyInstanceUID = generate_uid(entropy_srcs=[frame])
        image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", 1, number + 1
        image.ImageOrientationPatient = [f"{x:.10g}" for x in (*geometry.row, *geometry.column)]
        position = np.add(geometry.origin, np.multiply(number, geometry.step))
        image.ImagePositionPatient = [f"{x:.10g}" for x in position]
        image.PixelSpacing, image.SliceThickness = list(geometry.spacing), 1.0
        image.Rows, image.Columns = rows, columns
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation, image.RescaleIntercept, image.RescaleSlope = 0, 0, 1
        pixels = np.arange(rows * columns, dtype=np.uint16) + 100 * number
        image.PixelData = pixels.tobytes()
        # Names that sort against the positions: the order must come from the geometry.
        image.save_as(folder / f"{prefix}{90 - number}.dcm", enforce_file_format=True)
        slices.append(image)
    return slices


def new_dataset(sop_class: str) -> Dataset:
    """Begin a file of a kind, with what every file of a patient says."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(dataset, keyword, "")
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    return dataset


def write_seg(
    path: Path,
    slices: Sequence[Dataset],
    masks: np.ndarray,
    *,
    kind: str = "BINARY",
    names: Sequence[str] = (),
    largest: int = 255,
    edit: Callable[[Dataset], None] = lambda dataset: None,
) -> Path:
    """Write a DICOM-SEG file: masks or fractions (S, columns, rows, slices), a segment each."""
    names = names or [f"Segment {number}" for number in range(1, len(masks) + 1)]
    pixels = np.moveaxis(masks, (3, 2, 1, 0), (0, 1, 2, 3))  # (slices, rows, columns, S)
    if kind == "LABELMAP":
        pixels = (pixels * np.arange(1, len(masks) + 1)).max(axis=3).astype(np.uint8)
    seg = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels.astype(np.float32) if kind == "FRACTIONAL" else pixels,
        segmentation_type=kind,
        segment_descriptions=[describe(*named) for named in enumerate(names, start=1)],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=largest,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path


def describe(number: int, name: str) -> hd.seg.SegmentDescription:
    """Describe a segment."""
    organ = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=organ,
        segmented_property_type=organ,
        algorithm_type="MANUAL",
    )


Contours = Mapping[str, Sequence[np.ndarray] | None]


def write_rtstruct(
    path: Path,
    contours: Contours,
    *,
    slices: Sequence[Dataset] = (),
    kinds: Sequence[str] = (),
    edit: Callable[[Dataset], None] = lambda dataset: None,
) -> Path:
    """Write an RTSTRUCT file: name -> contours (N, 3) in LPS mm; regions count 3, 5, 7, ..."""
    dataset = new_dataset(RTStructureSetStorage)
    dataset.PatientID, dataset.Modality = "P1", "RTSTRUCT"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    if slices:
        dataset.ReferencedFrameOfReferenceSequence = [refer(slices)]
    for number, (name, found) in enumerate(contours.items()):
        region = Dataset()
        region.ROINumber, region.ROIName = 3 + 2 * number, name
        dataset.StructureSetROISequence.append(region)
        if found is None:
            continue
        item = Dataset()
        item.ReferencedROINumber = 3 + 2 * number
        item.ContourSequence = []
        for at, points in enumerate(found):
            contour = Dataset()
            contour.ContourGeometricType = kinds[at] if kinds else "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{x:.8f}" for x in np.ravel(points)]
            item.ContourSequence.append(contour)
        dataset.ROIContourSequence.append(item)
    edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def refer(slices: Sequence[Dataset]) -> Dataset:
    """Refer to a series the way RTSTRUCT files do."""
    images = []
    for image in slices:
        reference = Dataset()
        reference.ReferencedSOPClassUID = image.SOPClassUID
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        images.append(reference)
    series = Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = slices[0].SeriesInstanceUID, images
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def square(
    geometry: Geometry, low: tuple[int, int], high: tuple[int, int], at: float
) -> np.ndarray:
    """Make the corners of a rectangle in a slice: voxels low to high, both included."""
    (a, b), (c, d) = np.subtract(low, 0.5), np.add(high, 0.5)
    return geometry.to_lps([(a, b, at), (c, b, at), (c, d, at), (a, d, at)])
