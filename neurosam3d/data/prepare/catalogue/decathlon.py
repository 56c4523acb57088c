"""The Medical Segmentation Decathlon: ten tasks, each a folder with a table of its own."""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source


def _task(folder: str, modality: str, labels: LabelTable, *, channel: int = 0) -> Source:
    """One task; the release is sorted already."""
    return Source(
        f"{folder}/imagesTr/{{case}}{{ext}}",
        f"{folder}/labelsTr/{{case}}{{ext}}",
        labels={0: "background", **labels},
        channel=channel,
        modality=modality,
    )


# doi:10.1038/s41467-022-30695-9. Two tasks have images of several channels: of the brain's FLAIR,
# T1w, T1gd and T2w the first is stored, and of the prostate's T2 and ADC the first.
MEDSAMDECATHLON = DatasetRecord(
    name="MedSamDecathlon",
    modality=("CT", "MRI"),
    raw_folder="MSD",
    sources={
        "Tr": (
            _task(
                "Task01_BrainTumour",
                "MRI",
                {1: "edema", 2: "non-enhancing tumor", 3: "enhancing tumor"},
                channel=0,
            ),
            _task("Task02_Heart", "MRI", {1: "left atrium"}),
            _task("Task03_Liver", "CT", {1: "liver", 2: "tumor"}),
            _task(
                "Task04_Hippocampus", "MRI", {1: "anterior hippocampus", 2: "posterior hippocampus"}
            ),
            _task(
                "Task05_Prostate", "MRI", {1: "peripheral zone", 2: "transition zone"}, channel=0
            ),
            _task("Task06_Lung", "CT", {1: "tumor"}),
            _task("Task07_Pancreas", "CT", {1: "pancreatic parenchyma", 2: "pancreatic mass"}),
            _task("Task08_HepaticVessel", "CT", {1: "vessel", 2: "tumor"}),
            _task("Task09_Spleen", "CT", {1: "spleen"}),
            _task("Task10_Colon", "CT", {1: "colon cancer primaries"}),
        )
    },
    page="http://medicaldecathlon.com",
    licence="CC BY-SA 4.0",
)
