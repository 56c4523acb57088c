"""Public datasets, a record each: what their classes are called and where their files lie.

Folder names below a dataset's own folder are those of its release. Spellings of class names are
kept as prepared trees and published results have them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source

STANDARD_SOURCES: Mapping[str, tuple[Source, ...]] = {
    set_name: (Source(f"images{set_name}/{{case}}{{ext}}", f"labels{set_name}/{{case}}{{ext}}"),)
    for set_name in ("Tr", "Val", "Ts")
}


@dataclass(frozen=True)
class DatasetRecord:
    """What there is to know about a public dataset before its files are read.

    Args:
        name: Name in the tree and in configurations.
        modality: What the images are.
        labels: Label value, or values of a region, -> class name. Left empty where the label
            files name their classes or every source brings its own table.
        sources: Set (Tr, Val, Ts) -> where its images and labels lie.
    """

    name: str
    modality: tuple[str, ...]
    labels: LabelTable = field(default_factory=dict)
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=lambda: STANDARD_SOURCES)


# Amos 2022: doi:10.5281/zenodo.7155725. Its release calls the validation folders imagesVa and
# labelsVa; copies with the longer name are about.
AMOS = DatasetRecord(
    name="AMOS",
    modality=("CT", "MRI"),
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

# TotalSegmentator v2: doi:10.5281/zenodo.6802613. A folder per case, a mask file per class.
TOTALSEGMENTATOR = DatasetRecord(
    name="TotalSegmentator",
    modality=("CT",),
    sources={"Tr": (Source("{case}/ct.nii.gz", "{case}/segmentations/{class}.nii.gz"),)},
)

# WORD: arXiv:2111.02403.
WORD = DatasetRecord(
    name="WORD",
    modality=("CT",),
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
