"""Lungs, heart and the other organs of the chest."""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.catalogue.sources import PATIENT_SOURCES, in_folders, named
from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source
from neurosam3d.data.tree import SETS

_LUNGS: LabelTable = {0: "background", 1: "right lung", 2: "left lung"}
_INFECTION: LabelTable = {0: "background", 1: "infection"}

# doi:10.5281/zenodo.3757476. Two label folders, each with a table of its own.
COVIDCT = DatasetRecord(
    name="CovidCT",
    modality=("CT",),
    raw_folder="COVID_CT_Lung",
    sources={
        "Tr": (
            Source("imagesTr/{case}{ext}", "labelsTr_lung/{case}{ext}", labels=_LUNGS),
            Source("imagesTr/{case}{ext}", "labelsTr_infection/{case}{ext}", labels=_INFECTION),
        )
    },
    release={
        "Tr": (
            Source("COVID-19-CT-Seg_20cases/{case}{ext}", "Lung_Mask/{case}{ext}", labels=_LUNGS),
            Source(
                "COVID-19-CT-Seg_20cases/{case}{ext}",
                "Infection_Mask/{case}{ext}",
                labels=_INFECTION,
            ),
        )
    },
    page="https://zenodo.org/records/3757476",
    licence="CC BY-NC-SA",
)


def _nnunet(set_name: str) -> tuple[Source, ...]:
    """nnU-Net's names; the collection's tell the patient, with or without the number of a scan."""
    source = Source(f"images{set_name}/{{case}}_0000{{ext}}", f"labels{set_name}/{{case}}{{ext}}")
    patient = "LIDC-IDRI-{number}"
    return (
        named(source, f"{patient}_{{scan}}", patient=patient),
        named(source, patient, patient=patient),
        source,
    )


# LIDC-IDRI, doi:10.7937/K9/TCIA.2015.LO9QL9SX, converted to an nnU-Net folder.
LIDC = DatasetRecord(
    name="LIDC",
    modality=("CT",),
    raw_folder="LIDC",
    labels={0: "background", 1: "nodule"},
    sources={set_name: _nnunet(set_name) for set_name in SETS},
    page="https://www.cancerimagingarchive.net/collection/lidc-idri/",
    licence="CC BY 3.0",
)

# LUNA16: doi:10.5281/zenodo.3723295. Scans of LIDC-IDRI, whose file names do not tell the patient.
LUNA = DatasetRecord(
    name="LUNA",
    modality=("CT",),
    raw_folder="LUNA16",
    labels={0: "background", 3: "right lung", 4: "left lung", 5: "trachea"},
    release={"Tr": (Source("subset{part}/{case}{ext}", "seg-lungs-LUNA16/{case}{ext}"),)},
    page="https://luna16.grand-challenge.org/",
)

_HEARTS = (("CT", "CT"), ("MR", "MRI"))  # what the folders are called by, and their modality

# MM-WHS 2017: doi:10.1016/j.media.2016.02.006.
MULTIMODALWHOLEHEART = DatasetRecord(
    name="MultiModalWholeHeart",
    modality=("MRI", "CT"),
    raw_folder="MM-WHS 2017 Dataset",
    labels={
        0: "background",
        500: "left ventricle",
        600: "right ventricle",
        420: "left atrium",
        550: "right atrium",
        205: "myocardium",
        820: "ascending aorta",
        850: "descending artery",  # the pulmonary artery; prepared trees carry this name
    },
    sources={
        "Tr": tuple(
            Source(
                f"imagesTr_{kind}/{{case}}{{ext}}",
                f"labelsTr_{kind}/{{case}}{{ext}}",
                case=f"{{case}}_{kind}",
                modality=modality,
            )
            for kind, modality in _HEARTS
        )
    },
    release={
        "Tr": tuple(
            Source(
                f"{kind.lower()}_train/{{case}}_image{{ext}}",
                f"{kind.lower()}_train/{{case}}_label{{ext}}",
                modality=modality,
            )
            for kind, modality in _HEARTS
        )
    },
    page="https://zmiclab.github.io/zxh/0/mmwhs/",
)

# arXiv:1912.05950.
SEGTHORACICORGANS = DatasetRecord(
    name="SegThoracicOrgans",
    modality=("CT",),
    raw_folder="SegTHOR",
    labels={0: "background", 1: "esophagus", 2: "heart", 3: "trachea", 4: "aorta"},
    sources=PATIENT_SOURCES,
    release={
        "Tr": in_folders(
            Source("{case}/{case}{ext}", "{case}/GT{ext}", patient="{case}"), "", "train/"
        )
    },
    page="https://competitions.codalab.org/competitions/21145",
)
