"""Structures all over the body."""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.pairing import Source

# TotalSegmentator v2: doi:10.5281/zenodo.6802613. A folder per case, a mask file per class.
TOTALSEGMENTATOR = DatasetRecord(
    name="TotalSegmentator",
    modality=("CT",),
    raw_folder="Totalsegmentator_dataset_v201",
    sources={"Tr": (Source("{case}/ct.nii.gz", "{case}/segmentations/{class}.nii.gz"),)},
)
