"""Step 2 of the data preparation: write the tree that training reads; the same as `data.py`.

python utils/prepare_data.py -dt Tr|Val|Ts [--datasets NAME ...] [--out DIR]
"""

import sys
from collections.abc import Sequence

from neurosam3d.data.prepare.command import data_command

# The datasets prepared when none is named on the command line.
DATASET_LIST = [
    "AbdomenCT",
    "ADNI",
    "AMOS",
    "BRATS",
    "CovidCT",
    "CTStroke",
    "HealthyTotalBody",
    "ISLES",
    "Kits",
    "StanfordKnee",
    "LiTS",
    "LUNA",
    "MultiModalWholeHeart",
    "MedSamDecathlon",
    "CTOrgan",
    "MRIGlioblastoma",
    "ProstateMRI",
    "SegThoracicOrgans",
    "PancreasCt",
    "TotalSegmentator",
    "ONDRI",
    "WORD",
    "FreeSurfer",
    "LIDC",
    "SoftTissueSarcoma",
    "Synapse",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare data as the command line says and return the exit code."""
    return data_command(DATASET_LIST, arguments)


if __name__ == "__main__":
    sys.exit(main())
