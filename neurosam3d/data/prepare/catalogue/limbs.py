"""Joints and soft tissue of the limbs."""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.pairing import Source

# Soft-tissue-Sarcoma: doi:10.7937/K9/TCIA.2015.7GO2GSKS, converted to an nnU-Net folder. A patient
# has a CT and MR sequences.
SOFTTISSUESARCOMA = DatasetRecord(
    name="SoftTissueSarcoma",
    modality=("CT", "MRI"),
    raw_folder="Dataset901_SoftTissueSarcoma",
    labels={0: "background", 1: "GTV_Mass"},
    sources={
        "Tr": tuple(
            Source(
                f"imagesTr/STS_{{number}}_{start}{{sequence}}_0000{{ext}}",
                f"labelsTr/STS_{{number}}_{start}{{sequence}}{{ext}}",
                case=f"STS_{{number}}_{start}{{sequence}}",
                patient="STS_{number}",
                modality=modality,
            )
            for start, modality in (("CT", "CT"), ("MR", "MRI"))
        )
    },
    page="https://www.cancerimagingarchive.net/collection/soft-tissue-sarcoma/",
    licence="CC BY 3.0",
)

# SKM-TEA: arXiv:2203.06823. It comes as HDF5 and as DICOM in which two echoes alternate; one echo
# of each scan, converted, is read in its sorted form. File names tell the scan, not the patient.
STANFORDKNEE = DatasetRecord(
    name="StanfordKnee",
    modality=("MRI",),
    raw_folder="KneeMRI",
    labels={
        0: "background",
        1: "patellar cartilage",
        2: "femoral cartilage",
        3: "tibial cartilage medial",
        4: "tibial cartilage lateral",
        5: "meniscus medial",
        6: "meniscus lateral",
    },
    sources={"Tr": (Source("imagesTr/{case}{ext}", "labelsTr_dicom/{case}{ext}"),)},
    release={"Tr": (Source("imagesTr/{case}{ext}", "segmentation_masks/dicom-track/{case}{ext}"),)},
    page="https://github.com/StanfordMIMI/skm-tea",
)
