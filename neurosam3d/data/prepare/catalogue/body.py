"""Structures all over the body."""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.catalogue.sources import PATIENT_SOURCES, in_folders
from neurosam3d.data.prepare.pairing import Source

# CT-ORG: doi:10.7937/tcia.2019.tt7f4v7o. Many of its scans are those of LiTS.
CTORGAN = DatasetRecord(
    name="CTOrgan",
    modality=("CT",),
    raw_folder="PKG - CT-ORG",
    labels={
        0: "background",
        1: "liver",
        2: "bladder",
        3: "lungs",
        4: "kidneys",
        5: "bone",
        6: "brain",
    },
    release={
        "Tr": in_folders(
            Source("volume-{number}{ext}", "labels-{number}{ext}", case="volume-{number}"),
            "",
            "OrganSegmentations/",
            "CT-ORG/OrganSegmentations/",
        )
    },
    page="https://www.cancerimagingarchive.net/collection/ct-org/",
)

# doi:10.7937/NC7Z-4F76. The scans come as DICOM, and the labels may have to be turned to lie on
# them; look at the pairs. Converted scans are read, sorted or with the labels beside their folder.
HEALTHYTOTALBODY = DatasetRecord(
    name="HealthyTotalBody",
    modality=("CT",),
    raw_folder=(
        "Healthy-Total-Body CTs NIfTI Segmentations and Segmentation Organ Values spreadsheet"
    ),
    labels={
        1: "Adrenal glands",
        2: "Aorta",
        3: "Bladder",
        4: "Brain",
        5: "Heart",
        6: "Kidneys",
        7: "Liver",
        8: "Pancreas",
        9: "Spleen",
        10: "Thyroid",
        11: "VCI",
        12: "Lung",
        13: "Carpal",
        14: "Clavicle",
        15: "Femur",
        16: "Fibula",
        17: "Humerus",
        18: "Metacarpal",
        19: "Metatarsal",
        20: "Patella",
        21: "Pelvis",
        22: "Fingers",
        23: "Radius",
        24: "Ribcage",
        25: "Scapula",
        26: "Skull",
        27: "Spine",
        28: "Sternum",
        29: "Tarsal",
        30: "Tibia",
        31: "Toes",
        32: "Ulna",
        33: "Skeletal muscle",
        34: "Subcutaneous fat",
        35: "Torso fat",
        36: "Psoas",
    },
    sources=PATIENT_SOURCES,
    release={"Tr": (Source("imagesTr/{case}{ext}", "{case}{ext}", patient="{case}"),)},
    page="https://www.cancerimagingarchive.net/collection/healthy-total-body-cts/",
)

# TotalSegmentator v2: doi:10.5281/zenodo.10047292. A folder per case and a mask file per class;
# sorted copies name a mask after the case and the class.
TOTALSEGMENTATOR = DatasetRecord(
    name="TotalSegmentator",
    modality=("CT",),
    raw_folder="Totalsegmentator_dataset_v201",
    sources={
        "Tr": (Source("imagesTr/{case}{ext}", "labelsTr/{case}_{class}{ext}", patient="{case}"),)
    },
    release={
        "Tr": (Source("{case}/ct{ext}", "{case}/segmentations/{class}{ext}", patient="{case}"),)
    },
    page="https://zenodo.org/records/10047292",
    licence="CC BY 4.0",
)
