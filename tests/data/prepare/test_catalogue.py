"""Records of public datasets: their facts, and every layout they read in miniature."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from neurosam3d.data.prepare.catalogue import RECORDS, DatasetRecord
from neurosam3d.data.prepare.catalogue.sources import same_names
from neurosam3d.data.prepare.generator import (
    BaseDatasetJSONGenerator,
    find_generators,
    list_dataset,
)
from neurosam3d.data.prepare.labels import parse_labels
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.problems import Kind
from neurosam3d.data.tree import SETS, folder_name, split_set_name
from utils import prepare_json_data
from utils.data_list import POSSIBLE_DATASETS
from utils.prepare_data import DATASET_LIST

REFERENCE = Path(__file__).parents[2] / "reference"
SAMPLE = Path(__file__).parents[2] / "sample"
FACTS = yaml.safe_load((REFERENCE / "datasets.yaml").read_text(encoding="utf-8"))
NUMBERED = {value: str(value) for value in range(1, 256)}
UNPUBLISHED = {"CTStroke"}
# Their releases are sorted already, or hold nothing that can be read without converting it.
SORTED_ONLY = {"CTStroke", "ONDRI", "WORD"}
# Their sorted files bear the names of patients; elsewhere those of scans.
NAMED_BY_PATIENT = {
    *("ADNI", "BRATS", "CTStroke", "HealthyTotalBody", "ISLES", "Kits", "MRIGlioblastoma", "ONDRI"),
    *("PancreasCt", "SegThoracicOrgans", "TotalSegmentator"),
}

# Set -> image, label, case and patient of each file, as its release names them.
RELEASES = yaml.safe_load((REFERENCE / "releases.yaml").read_text(encoding="utf-8"))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def list_record(record: DatasetRecord, root: Path) -> Listing:
    """List a record whose raw folder lies below a root."""

    class Generator(BaseDatasetJSONGenerator):
        pass

    Generator.record = record
    return list_dataset(Generator(), root)


def test_every_record_has_a_class_and_a_place_in_the_lists() -> None:
    generators = find_generators(vars(prepare_json_data))
    assert list(generators) == DATASET_LIST
    assert {name: g.record for name, g in generators.items()} == RECORDS
    assert {name: g.dir for name, g in generators.items()} == {
        name: record.raw_folder for name, record in RECORDS.items()
    }
    assert len({record.raw_folder for record in RECORDS.values()}) == len(RECORDS)
    sets = [split_set_name(name) for name in POSSIBLE_DATASETS]
    assert {name for name, _ in sets} == {name for name, s in sets if s == "Tr"} == set(RECORDS)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["name"])
def test_classes_are_called_as_documented(fact: dict[str, Any]) -> None:
    generator = getattr(prepare_json_data, fact["class"])()
    assert (generator.name, generator.dir) == (fact["name"], fact["raw_folder"])
    assert set(fact["modality"]) <= set(generator.modality)
    assert {f"{fact['name']}_{s}" for s, *_ in fact["folders"]} <= set(POSSIBLE_DATASETS)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["name"])
def test_a_sorted_copy_is_listed_with_the_documented_classes(
    tmp_path: Path, fact: dict[str, Any]
) -> None:
    raw = tmp_path / fact["raw_folder"]
    by_file = fact["name"] == "TotalSegmentator"
    expected: dict[tuple[str, ...], dict[int, str]] = {}
    for number, (set_name, images, labels, *table) in enumerate(fact["folders"]):
        names = {1: "left_lung"} if by_file else (table or [fact.get("labels", NUMBERED)])[0]
        for sequence in ("_T1", "_DWI") if "*" in images else ("",):
            file = f"sub{number}{fact.get('extension', '.nii.gz')}"
            image = f"{images.replace('*', sequence)}/{file}"
            label = f"{labels}/{file.replace('.', '_left_lung.', 1) if by_file else file}"
            touch(raw, image, label)
            expected[set_name, image, label] = {v: folder_name(n) for v, n in names.items()}
    listing = list_record(RECORDS[fact["name"]], tmp_path)
    found: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for set_name, items in listing.items.items():
        for item in items:
            files = (path.relative_to(raw).as_posix() for path in (item.image, item.seg))
            if len(item.values) == 1:  # regions are ours
                found.setdefault((set_name, *files), {})[item.values[0]] = item.class_name
    assert found == expected
    assert listing.problems == {}
    patients = {item.patient for items in listing.items.values() for item in items}
    assert (None not in patients) == (fact["name"] in NAMED_BY_PATIENT)


def test_every_release_has_a_miniature() -> None:
    assert {split_set_name(name)[0] for name in RELEASES} == set(RECORDS) - SORTED_ONLY


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_is_listed_with_its_cases_and_patients(tmp_path: Path, release: str) -> None:
    name, set_name = split_set_name(release)
    record = RECORDS[name]
    raw = tmp_path / record.raw_folder
    touch(raw, *(file for image, label, *_ in RELEASES[release] for file in (image, label)))
    listing = list_record(record, tmp_path)
    assert {
        (
            item.image.relative_to(raw).as_posix(),
            item.seg.relative_to(raw).as_posix(),
            item.case,
            item.patient,
        )
        for item in listing.items[set_name]
    } == {tuple(row) for row in RELEASES[release]}
    assert list(listing.items) == [set_name]
    assert listing.problems == {}


def test_a_release_beside_its_sorted_copy_is_not_read_as_well(tmp_path: Path) -> None:
    raw = tmp_path / "LITS"
    touch(raw, "imagesTr/volume-0.nii", "labelsTr/volume-0.nii")
    touch(raw, *(f"b/{kind}-{n}.nii" for kind in ("volume", "segmentation") for n in (0, 1)))
    listing = list_record(RECORDS["LiTS"], tmp_path)
    assert {item.image for item in listing.items["Tr"]} == {raw / "imagesTr/volume-0.nii"}
    assert listing.problems == {}


def test_a_set_that_is_not_sorted_is_read_as_released(tmp_path: Path) -> None:
    folders = ("imagesTr", "labelsTr", "imagesVa", "labelsVa")
    touch(tmp_path / "AMOS", *(f"{folder}/amos_{folder[-2:]}.nii.gz" for folder in folders))
    found = list_record(RECORDS["AMOS"], tmp_path).items
    cases = {set_name: {item.case for item in items} for set_name, items in found.items()}
    assert cases == {"Tr": {"amos_Tr"}, "Val": {"amos_Va"}}


def test_a_set_may_be_in_the_release_only(tmp_path: Path) -> None:
    touch(tmp_path / "x", "imagesTs/a.nii.gz", "labelsTs/a.nii.gz")
    release = {"Ts": (same_names("Ts"),)}
    record = DatasetRecord("X", ("CT",), "x", labels={1: "liver"}, sources={}, release=release)
    assert list(list_record(record, tmp_path).items) == ["Ts"]


def test_what_is_paired_in_neither_form_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "AMOS", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    touch(tmp_path / "AMOS", "imagesVal/b.nii.gz", "labelsVa/c.nii.gz")
    problems = list_record(RECORDS["AMOS"], tmp_path).problems["Val"]
    assert [problem.kind for problem in problems] == [Kind.NO_LABEL, Kind.NO_IMAGE]


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name)
def test_a_record_is_consistent(record: DatasetRecord) -> None:
    assert record.page.startswith(("https://", "http://")) or record.name in UNPUBLISHED
    assert {*record.sources, *record.release} <= set(SETS)
    places = (*record.sources.values(), *record.release.values())
    sources = [source for found in places for source in found]
    assert {source.modality for source in sources} <= {"", *record.modality}
    for source in sources:
        table = parse_labels(record.labels if source.labels is None else source.labels)
        assert bool(table) != ("{class}" in source.label)
        assert len({folder_name(name) for name in table.values()}) == len(table)


def test_the_sample_s_scans_of_a_patient_belong_together() -> None:
    items = list_record(RECORDS["SoftTissueSarcoma"], SAMPLE).items["Tr"]
    assert {(i.case, i.patient, i.modality) for i in items} == {
        ("STS_002_CT", "STS_002", "CT"),
        ("STS_002_MR", "STS_002", "MRI"),
        ("STS_003_MR", "STS_003", "MRI"),
        ("STS_010_MR", "STS_010", "MRI"),
    }
