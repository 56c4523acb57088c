"""Step 1 of the data preparation: write `dataset.json`, the list of raw files, per dataset.

    python utils/prepare_json_data.py [NAME ...] [--root DIR] [--out DIR]

To add a dataset, three edits make it known everywhere:

1. here: a constant with its raw folder (absolute, or below --root) and a class, for example

    LIVER = "LiverStudy"


    class LiverJSONGenerator(BaseDatasetJSONGenerator):
        dir = LIVER
        name = "Liver"
        modality = ["CT"]
        labels = {0: "background", 1: "liver", 2: "tumor"}

2. its name in DATASET_LIST of `utils/prepare_data.py`;
3. its sets, for example "Liver_Tr", in POSSIBLE_DATASETS of `utils/data_list.py`.

The classes below take all of that from the catalogue of public datasets; `dir`, where one states
it, is where your copy of the dataset lies.
"""

import sys

from neurosam3d.data.prepare import catalogue
from neurosam3d.data.prepare.command import list_command
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator, find_generators


class AbdomenCTJSONGenerator(BaseDatasetJSONGenerator):
    """Four abdominal organs in CT of many sources."""

    record = catalogue.ABDOMENCT


class ADNIJSONGenerator(BaseDatasetJSONGenerator):
    """FreeSurfer's structures of the brain in T1 MR, named by their numbers."""

    record = catalogue.ADNI


class AMOSJSONGenerator(BaseDatasetJSONGenerator):
    """Fifteen abdominal organs in CT and MR."""

    record = catalogue.AMOS


class BratsJSONGenerator(BaseDatasetJSONGenerator):
    """Parts of gliomas in four MR sequences a subject."""

    record = catalogue.BRATS


class CovidCTJSONGenerator(BaseDatasetJSONGenerator):
    """Lungs and COVID-19 infection in CT."""

    record = catalogue.COVIDCT


class CTStrokeJSONGenerator(BaseDatasetJSONGenerator):
    """Regions of disturbed perfusion in CT of strokes."""

    record = catalogue.CTSTROKE


class HealthyTotalBodyJSONGenerator(BaseDatasetJSONGenerator):
    """Organs, bones and tissues in CT of the whole body."""

    record = catalogue.HEALTHYTOTALBODY


class ISLESJSONGenerator(BaseDatasetJSONGenerator):
    """Stroke lesions in DWI and ADC."""

    record = catalogue.ISLES


class KitsJSONGenerator(BaseDatasetJSONGenerator):
    """Kidneys, tumors and cysts in CT."""

    record = catalogue.KITS


class KneeJSONGenerator(BaseDatasetJSONGenerator):
    """Cartilage and menisci of the knee in MR."""

    record = catalogue.STANFORDKNEE


class LITSJSONGenerator(BaseDatasetJSONGenerator):
    """Liver and its tumors in CT."""

    record = catalogue.LITS


class LUNAJSONGenerator(BaseDatasetJSONGenerator):
    """Lungs and trachea in CT."""

    record = catalogue.LUNA


class MMWHSJSONGenerator(BaseDatasetJSONGenerator):
    """Chambers and vessels of the heart in CT and MR."""

    record = catalogue.MULTIMODALWHOLEHEART


class MSDJSONGenerator(BaseDatasetJSONGenerator):
    """Ten tasks of the Medical Segmentation Decathlon."""

    record = catalogue.MEDSAMDECATHLON


class CTORGJSONGenerator(BaseDatasetJSONGenerator):
    """Six large organs in CT."""

    record = catalogue.CTORGAN


class UpennJSONGenerator(BaseDatasetJSONGenerator):
    """Parts of glioblastomas in four MR sequences a visit."""

    record = catalogue.MRIGLIOBLASTOMA


class ProstateJSONGenerator(BaseDatasetJSONGenerator):
    """Prostate in T2 MR."""

    record = catalogue.PROSTATEMRI


class SegTHORJSONGenerator(BaseDatasetJSONGenerator):
    """Four organs at risk of the chest in CT."""

    record = catalogue.SEGTHORACICORGANS


class TCIAPancreasJSONGenerator(BaseDatasetJSONGenerator):
    """Pancreas in CT."""

    record = catalogue.PANCREASCT


class TotalSegmentatorJSONGenerator(BaseDatasetJSONGenerator):
    """Bones, organs, muscles and vessels in CT, a mask file per structure."""

    record = catalogue.TOTALSEGMENTATOR


class ONDRIJSONGenerator(BaseDatasetJSONGenerator):
    """Brain and white-matter hyperintensities in MR."""

    record = catalogue.ONDRI


class WORDJSONGenerator(BaseDatasetJSONGenerator):
    """Sixteen abdominal organs in CT."""

    record = catalogue.WORD


class FreeSurferJSONGenerator(BaseDatasetJSONGenerator):
    """Structures of the brain and parts of its cortex in T1 MR."""

    record = catalogue.FREESURFER


class LIDCJSONGenerator(BaseDatasetJSONGenerator):
    """Lung nodules in CT."""

    record = catalogue.LIDC


class SoftTissueSarcomaJSONGenerator(BaseDatasetJSONGenerator):
    """Sarcomas of the limbs in CT and MR."""

    record = catalogue.SOFTTISSUESARCOMA


class SynapseJSONGenerator(BaseDatasetJSONGenerator):
    """Thirteen abdominal organs in CT (BTCV)."""

    record = catalogue.SYNAPSE


if __name__ == "__main__":
    sys.exit(list_command(lambda: find_generators(globals())))
