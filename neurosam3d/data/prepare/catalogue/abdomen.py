"""Organs of the abdomen and the pelvis."""

from dataclasses import replace

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.catalogue.sources import PATIENT_SOURCES, in_folders
from neurosam3d.data.prepare.pairing import Source

# doi:10.1109/TPAMI.2021.3100536. It gathers scans of LiTS, KiTS19, the Medical Segmentation
# Decathlon and Pancreas-CT, which other records here hold, too.
ABDOMENCT = DatasetRecord(
    name="AbdomenCT",
    modality=("CT",),
    raw_folder="AbdomenCT_1K",
    labels={0: "background", 1: "liver", 2: "kidney", 3: "spleen", 4: "pancreas"},
    release={"Tr": (Source("AbdomenCT-1K-ImagePart{part}/{case}_0000{ext}", "Mask/{case}{ext}"),)},
    page="https://github.com/JunMa11/AbdomenCT-1K",
)

# doi:10.5281/zenodo.7155725. Its release calls the validation folders imagesVa and labelsVa;
# copies with the longer name are about.
AMOS = DatasetRecord(
    name="AMOS",
    modality=("CT", "MRI"),
    raw_folder="AMOS",
    labels={
        0: "background",
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        5: "esophagus",
        6: "liver",
        7: "stomach",
        8: "aorta",
        9: "inferior vena cava",
        10: "pancreas",
        11: "right adrenal gland",
        12: "left adrenal gland",
        13: "duodenum",
        14: "bladder",
        15: "prostate",
    },
    release={"Val": (Source("imagesVa/{case}{ext}", "labelsVa/{case}{ext}"),)},
    page="https://zenodo.org/records/7155725",
    licence="CC BY 4.0",
)


def _kidney_cases(label: str) -> tuple[Source, ...]:
    """The case folders of KiTS, in the raw folder or as its repositories keep them."""
    case = Source(
        "case_{number}/imaging{ext}",
        f"case_{{number}}/{label}{{ext}}",
        case="case_{number}",
        patient="case_{number}",
    )
    return in_folders(case, "", "{folder}/", "kits21/data/")


# KiTS23 and KiTS21, arXiv:2307.01984; the label of the latter is the majority of its annotators.
# "kidney" is the healthy tissue alone, value 1. The challenge scores the organ with all that grows
# in it, the region (1, 2, 3), which therefore has a class of its own.
KITS = DatasetRecord(
    name="Kits",
    modality=("CT",),
    raw_folder="kits23",
    labels={0: "background", 1: "kidney", 2: "tumor", 3: "cyst", (1, 2, 3): "kidney and masses"},
    sources=PATIENT_SOURCES,
    release={"Tr": (*_kidney_cases("segmentation"), *_kidney_cases("aggregated_MAJ_seg"))},
    page="https://github.com/neheller/kits23",
    licence="CC BY-NC-SA",
)

_LITS = Source("volume-{number}{ext}", "segmentation-{number}{ext}", case="volume-{number}")

# LiTS: doi:10.1016/j.media.2022.102680. The release unpacks to a long path; others keep its
# batches, or all images and all labels, in folders of their own.
LITS = DatasetRecord(
    name="LiTS",
    modality=("CT",),
    raw_folder="LITS",
    labels={0: "background", 1: "liver", 2: "tumor"},
    release={
        "Tr": (
            *in_folders(_LITS, "", "{batch}/", "media/nas/01_Datasets/CT/LITS/{batch}/"),
            replace(
                _LITS, images=f"{{batch}}/{_LITS.images}", label=f"segmentations/{_LITS.label}"
            ),
        )
    },
    page="https://competitions.codalab.org/competitions/17094",
)

# doi:10.7937/K9/TCIA.2016.tNB1kqBU. The scans come as DICOM, and whether the labels need a flip
# depends on the tool that converts them; look at the pairs. Converted scans are read, sorted or
# beside the release's labels.
PANCREASCT = DatasetRecord(
    name="PancreasCt",
    modality=("CT",),
    raw_folder="TCIA_pancreas_labels-02-05-2017",
    labels={0: "background", 1: "pancreas"},
    sources=PATIENT_SOURCES,
    release={
        "Tr": (
            Source(
                "PANCREAS_{number}{ext}",
                "label{number}{ext}",
                case="PANCREAS_{number}",
                patient="PANCREAS_{number}",
            ),
        )
    },
    page="https://www.cancerimagingarchive.net/collection/pancreas-ct/",
    licence="CC BY 3.0",
)

_PROMISE12 = Source("Case{number}{ext}", "Case{number}_segmentation{ext}", case="Case{number}")

# PROMISE12: doi:10.5281/zenodo.8026660. The numbers of the test scans start anew, so they do not
# name patients.
PROSTATEMRI = DatasetRecord(
    name="ProstateMRI",
    modality=("MRI",),
    raw_folder="Prostate MR Image Segmentation",
    labels={0: "background", 1: "prostate"},
    release={
        "Tr": in_folders(_PROMISE12, "training_data/", "TrainingData_Part{part}/"),
        "Ts": in_folders(_PROMISE12, "test_data/"),
    },
    page="https://zenodo.org/records/8026660",
)

_BTCV = Source("img/img{number}{ext}", "label/label{number}{ext}", case="img{number}")

# "Beyond the cranial vault" (BTCV): doi:10.7303/syn3193805.
SYNAPSE = DatasetRecord(
    name="Synapse",
    modality=("CT",),
    raw_folder="Synapse",
    labels={
        0: "background",
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        5: "esophagus",
        6: "liver",
        7: "stomach",
        8: "aorta",
        9: "inferior vena cava",
        10: "portal vein and splenic vein",
        11: "pancreas",
        12: "right adrenal gland",
        13: "left adrenal gland",
    },
    release={
        "Tr": (
            *in_folders(_BTCV, "", "Training/", "RawData/Training/"),
            replace(_BTCV, images="imagesTr/img{number}{ext}", label="labelsTr/label{number}{ext}"),
        )
    },
    page="https://www.synapse.org/Synapse:syn3193805",
)

# WORD: arXiv:2111.02403.
WORD = DatasetRecord(
    name="WORD",
    modality=("CT",),
    raw_folder="WORD-V0.1.0",
    labels={
        0: "background",
        1: "liver",
        2: "spleen",
        3: "kidney left",
        4: "kidney right",
        5: "stomach",
        6: "gallbladder",
        7: "esophagus",
        8: "pancreas",
        9: "duodenum",
        10: "colon",
        11: "intestine",
        12: "adrenal",
        13: "recturm",  # the table's own spelling; prepared trees carry it
        14: "bladder",
        15: "head of femur left",
        16: "head of femur right",
    },
    page="https://github.com/HiLab-git/WORD",
    licence="GPL 3.0, for academic research",
)
