"""Step 1 of the data preparation: write `dataset.json`, the list of raw files, per dataset.

    python utils/prepare_json_data.py [NAME ...] [--root DIR] [--out DIR]

To add a dataset, three edits make it known everywhere:

1. here: a constant with its raw folder (absolute, or below --root) and a class;
2. its name in DATASET_LIST of `utils/prepare_data.py`;
3. its sets, for example "Liver_Tr", in POSSIBLE_DATASETS of `utils/data_list.py`.
"""

import sys

from neurosam3d.data.prepare import catalogue
from neurosam3d.data.prepare.command import list_command
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator, find_generators

AMOS = "AMOS"
TOTALSEGMENTATOR = "Totalsegmentator_dataset_v201"
WORD = "WORD-V0.1.0"


class AMOSJSONGenerator(BaseDatasetJSONGenerator):
    """Fifteen abdominal organs in CT and MR."""

    dir = AMOS
    record = catalogue.AMOS


class TotalSegmentatorJSONGenerator(BaseDatasetJSONGenerator):
    """Bones, organs, muscles and vessels in CT, a mask file per structure."""

    dir = TOTALSEGMENTATOR
    record = catalogue.TOTALSEGMENTATOR


class WORDJSONGenerator(BaseDatasetJSONGenerator):
    """Sixteen abdominal organs in CT."""

    dir = WORD
    record = catalogue.WORD


if __name__ == "__main__":
    sys.exit(list_command(lambda: find_generators(globals())))
