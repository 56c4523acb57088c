"""Organs of the abdomen."""

from neurosam3d.data.prepare.catalogue.record import STANDARD_SOURCES, DatasetRecord
from neurosam3d.data.prepare.pairing import Source

# Amos 2022: doi:10.5281/zenodo.7155725. Its release calls the validation folders imagesVa and
# labelsVa; copies with the longer name are about.
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
    sources={
        **STANDARD_SOURCES,
        "Val": (*STANDARD_SOURCES["Val"], Source("imagesVa/{case}{ext}", "labelsVa/{case}{ext}")),
    },
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
)
