"""What records do about more than one image, label file, table or name of a subject."""

from pathlib import Path

import pytest

from neurosam3d.data.prepare.catalogue import RECORDS
from neurosam3d.data.prepare.catalogue.freesurfer import DESIKAN_KILLIANY, DESTRIEUX
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator, list_dataset
from neurosam3d.data.prepare.listing import Listing, RawItem


class Raw:
    """A raw folder of empty files, read by a record."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.record = RECORDS[name]

    def add(self, *names: str) -> "Raw":
        for name in names:
            path = self.root / self.record.raw_folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return self

    def list(self) -> Listing:
        class Generator(BaseDatasetJSONGenerator):
            pass

        Generator.record = self.record
        return list_dataset(Generator(), self.root)

    def items(self, set_name: str = "Tr") -> tuple[RawItem, ...]:
        return self.list().items[set_name]


def test_sequences_of_a_subject_share_its_label_and_patient(tmp_path: Path) -> None:
    raw = Raw(tmp_path, "BRATS")
    raw.add("imagesTr_T1/s1.nii.gz", "imagesTr_FLAIR/s1.nii.gz", "labelsTr/s1.nii.gz")
    items = raw.items()
    assert {(i.case, i.patient) for i in items} == {("s1_T1", "s1"), ("s1_FLAIR", "s1")}
    assert {i.seg.parent.name for i in items} == {"labelsTr"}
    assert [i.values for i in items if i.case == "s1_T1"] == [(1,), (2,), (4,)]


def test_the_label_of_brats_355_bears_its_own_name(tmp_path: Path) -> None:
    subject = "BraTS20_Training_355"
    raw = Raw(tmp_path, "BRATS").add(f"{subject}/{subject}_t1.nii")
    raw.add(f"{subject}/W39_1998.09.19_Segm.nii")
    assert {(i.case, i.patient) for i in raw.items()} == {(f"{subject}_t1", subject)}
    assert raw.list().problems == {}


@pytest.mark.parametrize(
    ("flair", "dwi", "label"),
    [
        ("imagesTr_FLAIR/s1.nii.gz", "imagesTr_DWI/s1.nii.gz", "labelsTr/s1.nii.gz"),
        (
            "rawdata/sub-1/ses-1/sub-1_ses-1_flair.nii.gz",
            "rawdata/sub-1/ses-1/sub-1_ses-1_dwi.nii.gz",
            "derivatives/sub-1/ses-1/sub-1_ses-1_msk.nii.gz",
        ),
    ],
)
def test_isles_leaves_flair_out_without_a_word(
    tmp_path: Path, flair: str, dwi: str, label: str
) -> None:
    listing = Raw(tmp_path, "ISLES").add(flair, dwi, label).list()
    assert [tmp_path / "ISLES-2022" / dwi] == [item.image for item in listing.items["Tr"]]
    assert listing.problems == {}


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        (
            "CovidCT",
            "imagesTr/s1.nii.gz",
            {"labelsTr_lung": ["right_lung", "left_lung"], "labelsTr_infection": ["infection"]},
        ),
        (
            "CTStroke",
            "imagesTr_CBV/s1.nii.gz",
            {"labelsTr_CBF": ["CBF"], "labelsTr_Tmax": ["Tmax"]},
        ),
        (
            "ONDRI",
            "imagesTr_FLAIR/s1.nii.gz",
            {"labelsTr_brain": ["brain"], "labelsTr_wmh": ["wmh"]},
        ),
    ],
)
def test_each_label_folder_has_its_own_table(
    tmp_path: Path, name: str, image: str, expected: dict[str, list[str]]
) -> None:
    raw = Raw(tmp_path, name).add(image, *(f"{folder}/s1.nii.gz" for folder in expected))
    found: dict[str, list[str]] = {}
    for item in raw.items():
        found.setdefault(item.seg.parent.name, []).append(item.class_name)
        assert item.values == (len(found[item.seg.parent.name]),)
    assert found == expected


@pytest.mark.parametrize("set_name", ["Tr", "Val"])
def test_a_masked_image_has_no_brain_to_find(tmp_path: Path, set_name: str) -> None:
    raw = Raw(tmp_path, "ONDRI")
    raw.add(*(f"images{set_name}_{folder}/s1.nii.gz" for folder in ("FLAIR", "FLAIR_masked")))
    raw.add(*(f"labels{set_name}_{folder}/s1.nii.gz" for folder in ("brain", "wmh")))
    assert [(i.case, i.class_name) for i in raw.items(set_name)] == [
        ("s1_FLAIR", "brain"),
        ("s1_FLAIR", "wmh"),
        ("s1_FLAIR_masked", "wmh"),
    ]
    assert raw.list().problems == {}


@pytest.mark.parametrize(
    ("image", "manual", "automatic"),
    [
        (
            "imagesTr_T1/UPENN-GBM-00002_{}.nii.gz",
            "labelsTr_seg/UPENN-GBM-00002_{}.nii.gz",
            "labelsTr_auto/UPENN-GBM-00002_{}.nii.gz",
        ),
        (
            "images_structural/UPENN-GBM-00002_{0}/UPENN-GBM-00002_{0}_T1.nii.gz",
            "images_segm/UPENN-GBM-00002_{}_segm.nii.gz",
            "automated_segm/UPENN-GBM-00002_{}_automated_approx_segm.nii.gz",
        ),
    ],
)
def test_a_manual_label_goes_before_the_automatic_one(
    tmp_path: Path, image: str, manual: str, automatic: str
) -> None:
    raw = Raw(tmp_path, "MRIGlioblastoma")
    raw.add(image.format(11), manual.format(11), automatic.format(11))
    raw.add(image.format(21), automatic.format(21))
    items = raw.items()
    folder = tmp_path / raw.record.raw_folder
    assert [(i.seg, i.class_name) for i in items] == [
        (folder / label, name)
        for label in (manual.format(11), automatic.format(21))
        for name in ("necrotic_tumor_core", "edema", "enhancing_tumor")
    ]
    assert {i.case for i in items} == {"UPENN-GBM-00002_11_T1", "UPENN-GBM-00002_21_T1"}
    assert {i.patient for i in items} == {"UPENN-GBM-00002"}
    assert raw.list().problems == {}


def test_the_decathlon_has_a_table_and_a_modality_per_task(tmp_path: Path) -> None:
    raw = Raw(tmp_path, "MedSamDecathlon")
    for task, case in [
        ("Task01_BrainTumour", "BRATS_001"),
        ("Task03_Liver", "liver_0"),
        ("Task05_Prostate", "prostate_00"),
        ("Task10_Colon", "colon_001"),
    ]:
        raw.add(*(f"{task}/{folder}Tr/{case}.nii.gz" for folder in ("images", "labels")))
        raw.add(f"{task}/imagesTr/._{case}.nii.gz", f"{task}/labelsTr/._{case}.nii.gz")
    assert [(i.case, i.modality, i.channel, i.values[0], i.class_name) for i in raw.items()] == [
        ("BRATS_001", "MRI", 0, 1, "edema"),
        ("BRATS_001", "MRI", 0, 2, "non-enhancing_tumor"),
        ("BRATS_001", "MRI", 0, 3, "enhancing_tumor"),
        ("liver_0", "CT", 0, 1, "liver"),
        ("liver_0", "CT", 0, 2, "tumor"),
        ("prostate_00", "MRI", 0, 1, "peripheral_zone"),
        ("prostate_00", "MRI", 0, 2, "transition_zone"),
        ("colon_001", "CT", 0, 1, "colon_cancer_primaries"),
    ]
    assert len(raw.record.sources["Tr"]) == 10


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("imagesTr/{}.nii.gz", "labelsTr/{}_{}.nii.gz"),
        ("{}/ct.nii.gz", "{}/segmentations/{}.nii.gz"),
    ],
)
def test_masks_belong_to_their_case_and_not_to_one_whose_name_begins_so(
    tmp_path: Path, image: str, mask: str
) -> None:
    raw = Raw(tmp_path, "TotalSegmentator").add(image.format("s0001"), image.format("s00010"))
    raw.add(mask.format("s0001", "lung_upper_lobe_left"), mask.format("s00010", "liver"))
    assert [(i.case, i.patient, i.class_name, i.binary) for i in raw.items()] == [
        ("s0001", "s0001", "lung_upper_lobe_left", True),
        ("s00010", "s00010", "liver", True),
    ]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}/mri/brain.mgz", "{}/mri/aseg.mgz"),
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    ],
)
def test_visits_of_a_subject_are_one_patient(tmp_path: Path, image: str, label: str) -> None:
    raw = Raw(tmp_path, "ADNI")
    for case in ("002_S_0295_m00", "002_S_0295_m12", "002_S_0413"):
        raw.add(image.format(case), label.format(case))
    items = raw.items()
    assert {(i.case, i.patient) for i in items} == {
        ("002_S_0295_m00", "002_S_0295"),
        ("002_S_0295_m12", "002_S_0295"),
        ("002_S_0413", "002_S_0413"),
    }
    assert [i.class_name for i in items[:255]] == [str(value) for value in range(1, 256)]


def test_freesurfer_names_structures_and_parts_of_the_cortex(tmp_path: Path) -> None:
    raw = Raw(tmp_path, "FreeSurfer")
    for subject in ("bert", "fsaverage"):
        raw.add(*(f"{subject}/mri/{name}.mgz" for name in ("norm", "aseg", "aparc+aseg")))
    raw.add("ernie/mri/norm.mgz", "ernie/mri/aparc.a2009s+aseg.mgz")
    items = raw.items()
    assert {i.case for i in items} == {"bert", "ernie"}
    found = {(i.case, i.class_name): (i.seg.name, i.values[0]) for i in items}
    assert found["bert", "Left-Hippocampus"] == ("aseg.mgz", 17)
    assert found["bert", "Right-Cerebral-Cortex"] == ("aseg.mgz", 42)
    assert found["bert", "ctx-lh-bankssts"] == ("aparc+aseg.mgz", 1001)
    assert found["bert", "ctx-rh-insula"] == ("aparc+aseg.mgz", 2035)
    assert found["ernie", "Left-Hippocampus"] == ("aparc.a2009s+aseg.mgz", 17)
    assert found["ernie", "ctx_lh_G_and_S_frontomargin"] == ("aparc.a2009s+aseg.mgz", 11101)
    assert found["ernie", "ctx_rh_S_temporal_transverse"] == ("aparc.a2009s+aseg.mgz", 12175)
    assert ("ernie", "Left-Cerebral-Cortex") not in found
    assert (len(DESIKAN_KILLIANY.split()), len(DESTRIEUX.split())) == (35, 75)


def test_kidneys_come_alone_and_with_their_masses(tmp_path: Path) -> None:
    raw = Raw(tmp_path, "Kits").add("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz")
    raw.add("case_00000/aggregated_MAJ_seg.nii.gz")
    assert [(i.values, i.class_name, i.seg.name) for i in raw.items()] == [
        ((1,), "kidney", "segmentation.nii.gz"),
        ((2,), "tumor", "segmentation.nii.gz"),
        ((3,), "cyst", "segmentation.nii.gz"),
        ((1, 2, 3), "kidney_and_masses", "segmentation.nii.gz"),
    ]


@pytest.mark.parametrize(
    ("kinds", "image", "label", "case"),
    [
        (("CT", "MR"), "imagesTr_{}/h1.nii.gz", "labelsTr_{}/h1.nii.gz", "h1_{}"),
        (("ct", "mr"), "{0}_train/{0}_1_image.nii", "{0}_train/{0}_1_label.nii", "{}_1"),
    ],
)
def test_hearts_in_ct_and_mr_are_told_apart(
    tmp_path: Path, kinds: tuple[str, str], image: str, label: str, case: str
) -> None:
    raw = Raw(tmp_path, "MultiModalWholeHeart")
    raw.add(*(file.format(kind) for kind in kinds for file in (image, label)))
    cases = [case.format(kind) for kind in kinds]
    assert {(i.case, i.modality) for i in raw.items()} == {*zip(cases, ("CT", "MRI"), strict=True)}
