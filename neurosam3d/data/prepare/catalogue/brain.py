"""The brain and its lesions. Records of FreeSurfer's own numbers are in `freesurfer`."""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.catalogue.sources import in_folders, named, sequences
from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source

_BRATS_FOLDERS = (
    "",
    "MICCAI_BraTS2020_TrainingData/",
    "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData/",
)
_BRATS = Source(
    "{patient}/{patient}_{sequence}{ext}",
    "{patient}/{patient}_seg{ext}",
    case="{patient}_{sequence}",
    patient="{patient}",
)
# One label of the release bears a name of its own.
_BRATS_355 = Source(
    "BraTS20_Training_355/BraTS20_Training_355_{sequence}{ext}",
    "BraTS20_Training_355/W39_1998.09.19_Segm{ext}",
    case="BraTS20_Training_355_{sequence}",
    patient="BraTS20_Training_355",
)

# BraTS 2020, a label for four sequences of a subject.
BRATS = DatasetRecord(
    name="BRATS",
    modality=("MRI",),
    raw_folder="BraTs2020",
    labels={
        0: "background",
        1: "necrotic and nonenhancing tumor core",
        2: "peritumoral edema",
        4: "enhancing tumor",
    },
    sources={"Tr": (sequences("Tr", "labelsTr"),)},
    release={
        "Tr": (*in_folders(_BRATS, *_BRATS_FOLDERS), *in_folders(_BRATS_355, *_BRATS_FOLDERS))
    },
    page="https://www.med.upenn.edu/cbica/brats2020/data.html",
)

_CBF: LabelTable = {0: "background", 1: "CBF"}
_TMAX: LabelTable = {0: "background", 1: "Tmax"}

# Two label folders, named after the maps of perfusion: cerebral blood flow (CBF) and the time to
# the maximum (Tmax). No page is known to publish a dataset of this name; its sorted form is read.
CTSTROKE = DatasetRecord(
    name="CTStroke",
    modality=("CT",),
    raw_folder="CTStroke",
    sources={
        "Tr": (
            sequences("Tr", "labelsTr_CBF", labels=_CBF),
            sequences("Tr", "labelsTr_Tmax", labels=_TMAX),
        )
    },
)

_NO_FLAIR = ("FLAIR", "flair")

# ISLES 2022: doi:10.1038/s41597-022-01875-5. The lesions are drawn on the grid of DWI and ADC,
# which is not that of FLAIR.
ISLES = DatasetRecord(
    name="ISLES",
    modality=("MRI",),
    raw_folder="ISLES-2022",
    labels={0: "background", 1: "stroke lesion"},
    sources={"Tr": (sequences("Tr", "labelsTr", exclude=_NO_FLAIR),)},
    release={
        "Tr": tuple(
            Source(
                f"{folder}/{{patient}}_{{session}}_{{sequence}}{{ext}}",
                "derivatives/{patient}/{session}/{patient}_{session}_msk{ext}",
                case="{patient}_{session}_{sequence}",
                patient="{patient}",
                exclude=_NO_FLAIR,
            )
            for folder in ("{patient}/{session}/dwi", "rawdata/{patient}/{session}")
        )
    },
    page="https://zenodo.org/records/7153326",
    licence="CC BY 4.0",
)

_VISIT = "{patient}_{visit}"


def _sorted_visits(label_folder: str) -> tuple[Source, ...]:
    scans = sequences("Tr", label_folder)
    return named(scans, _VISIT, patient="{patient}"), scans


def _released_visits(label: str) -> tuple[Source, ...]:
    scans = Source(
        f"images_structural/{_VISIT}/{_VISIT}_{{sequence}}{{ext}}",
        label,
        case=f"{_VISIT}_{{sequence}}",
        patient="{patient}",
    )
    return in_folders(scans, "", "NIfTI-files/", "UPENN-GBM/NIfTI-files/")


# UPENN-GBM: doi:10.7937/TCIA.709X-DN49. Of an image's two labels the one that experts corrected
# counts; the automatic one serves where there is no other, so no target comes twice.
MRIGLIOBLASTOMA = DatasetRecord(
    name="MRIGlioblastoma",
    modality=("MRI",),
    raw_folder="PKG - UPENN-GBM-NIfTI",
    labels={0: "background", 1: "necrotic tumor core", 2: "edema", 4: "enhancing tumor"},
    sources={"Tr": (*_sorted_visits("labelsTr_seg"), *_sorted_visits("labelsTr_auto"))},
    release={
        "Tr": (
            *_released_visits(f"images_segm/{_VISIT}_segm{{ext}}"),
            *_released_visits(f"automated_segm/{_VISIT}_automated_approx_segm{{ext}}"),
        )
    },
    page="https://www.cancerimagingarchive.net/collection/upenn-gbm/",
    licence="CC BY 4.0",
)

_BRAIN: LabelTable = {0: "background", 1: "brain"}
_WMH: LabelTable = {0: "background", 1: "wmh"}

# White-matter hyperintensities (wmh) and the brain in label folders of their own, value 1 in both.
# Where an image is masked to the brain already, finding the brain in it would be no task.
ONDRI = DatasetRecord(
    name="ONDRI",
    modality=("MRI",),
    raw_folder="wmh_hab",
    sources={
        set_name: (
            sequences(set_name, f"labels{set_name}_brain", labels=_BRAIN, exclude=("masked",)),
            sequences(set_name, f"labels{set_name}_wmh", labels=_WMH),
        )
        for set_name in ("Tr", "Val")
    },
    page="https://ondri.ca",
)
