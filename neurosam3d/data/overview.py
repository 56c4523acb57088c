"""What is known of each dataset, and what a tree of prepared data holds of it.

A dataset is known by a record of the catalogue, or found in the tree by its indexes, or both.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index
from neurosam3d.data.prepare.catalogue import DatasetRecord
from neurosam3d.data.prepare.labels import parse_labels
from neurosam3d.data.prepare.pairing import Source
from neurosam3d.data.tree import SETS, Tree, folder_name, read_json, split_set_name

OWN_DATA = "own data"
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class SetFacts:
    """One prepared set.

    Args:
        num_cases: Images.
        num_objects: Labels, one per class and image.
        num_classes: Classes with an object.
        num_patients: Patients, as far as the raw data names them.
        spacing_mm: Smallest and largest voxel size along axis 0, 1, 2; empty without images.
    """

    num_cases: int
    num_objects: int
    num_classes: int
    num_patients: int
    spacing_mm: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "cases": self.num_cases,
            "objects": self.num_objects,
            "classes": self.num_classes,
            "patients": self.num_patients,
            "spacing_min_mm": [low for low, _ in self.spacing_mm],
            "spacing_max_mm": [high for _, high in self.spacing_mm],
        }


@dataclass(frozen=True)
class ClassFacts:
    """The objects of one class.

    Args:
        num_objects: Set -> number of labels.
        volume_mm3: Smallest, median and largest over all sets; empty without objects.
    """

    num_objects: Mapping[str, int]
    volume_mm3: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        volume = dict(zip(("min", "median", "max"), self.volume_mm3, strict=False))
        return {"objects": dict(self.num_objects), "volume_mm3": volume or None}


@dataclass(frozen=True)
class DatasetFacts:
    """One dataset.

    Args:
        name: Its name in the tree.
        modality: What the images are.
        record: What the catalogue says of it; None for a dataset of the user's own.
        licence: Its terms in short, where they are known.
        page: Address of the page that publishes it, where there is one.
        raw: Its raw folder, where that was found.
        sets: Set (Tr, Val, Ts) -> what is prepared.
        classes: Class, as its folder is named -> its objects; those of the record come first.
        problems: A sentence for each index that cannot be read.
    """

    name: str
    modality: tuple[str, ...] = ()
    record: DatasetRecord | None = None
    licence: str = ""
    page: str = ""
    raw: Path | None = None
    sets: Mapping[str, SetFacts] = field(default_factory=dict)
    classes: Mapping[str, ClassFacts] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def terms(self) -> str:
        """The licence, and the page that publishes the data."""
        missing = OWN_DATA if self.record is None else UNKNOWN
        return " ".join(filter(None, (self.licence, self.page))) or missing

    @property
    def templates(self) -> dict[str, list[str]]:
        """Set -> where its images and labels lie in the raw folder."""
        sources = {} if self.record is None else all_sources(self.record)
        return {
            suffix: [f"{source.images} -> {source.label}" for source in group]
            for suffix, group in sources.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "modality": list(self.modality),
            "licence": self.licence or ("" if self.record or self.page else OWN_DATA),
            "page": self.page,
            "raw_folder": self.record.raw_folder if self.record else "",
            "raw": None if self.raw is None else str(self.raw),
            "sources": self.templates,
            "sets": {suffix: found.to_json() for suffix, found in self.sets.items()},
            "classes": {name: found.to_json() for name, found in self.classes.items()},
            "problems": list(self.problems),
        }


def collect_facts(
    tree: Tree,
    *,
    records: Mapping[str, DatasetRecord],
    names: Sequence[str] = (),
    find_raw: Callable[[DatasetRecord], Path | None] = lambda record: None,
) -> list[DatasetFacts]:
    """Describe every dataset that is known or prepared, in the order of their names.

    Args:
        tree: The prepared data; its folder need not exist.
        records: The known datasets by name.
        names: Describe these only, in this order; none for all.
        find_raw: Returns the raw folder of a known dataset, or None where it is not there.

    Raises:
        ValueError: If a name is neither known nor prepared.
    """
    prepared: dict[str, list[str]] = defaultdict(list)
    for set_name in sorted(tree.list_sets(), key=lambda text: SETS.index(split_set_name(text)[1])):
        name, suffix = split_set_name(set_name)
        prepared[name].append(suffix)
    _check_names(names, records, prepared)
    facts = []
    for name in names or sorted({*records, *prepared}, key=str.lower):
        record = records.get(name)
        sets, problems = _read_sets(tree, name, prepared.get(name, ()))
        raw = None if record is None else find_raw(record)
        licence, page = (record.licence, record.page) if record else _declared_terms(tree, name)
        found = describe_dataset(name, record, sets, raw=raw, problems=problems)
        facts.append(replace(found, licence=licence, page=page))
    return facts


def _declared_terms(tree: Tree, name: str) -> tuple[str, str]:
    """Return licence and page as the layout of a user's own dataset declares them."""
    try:
        content = read_json(tree.dataset_json(name))
    except ValueError:
        content = {}  # the file may be missing; `data.py --check` tells of damaged ones
    content = content if isinstance(content, Mapping) else {}
    return str(content.get("licence", "")), str(content.get("page", ""))


def describe_dataset(
    name: str,
    record: DatasetRecord | None,
    sets: Mapping[str, Iterable[Case]],
    *,
    raw: Path | None = None,
    problems: Iterable[str] = (),
) -> DatasetFacts:
    """Sum up the indexes of one dataset.

    Args:
        name: Its name.
        record: What the catalogue says of it.
        sets: Set (Tr, Val, Ts) -> entries of its index.
        raw: Its raw folder.
        problems: What is wrong with its other indexes.
    """
    counts = {suffix: _count(cases) for suffix, cases in sets.items()}
    modalities = [word for found in counts.values() for word in found.modalities]
    return DatasetFacts(
        name=name,
        modality=record.modality if record else tuple(dict.fromkeys(modalities)),
        record=record,
        raw=raw,
        sets={suffix: found.to_facts() for suffix, found in counts.items()},
        classes=_describe_classes(counts, known_classes(record) if record else ()),
        problems=tuple(problems),
    )


def all_sources(record: DatasetRecord) -> dict[str, list[Source]]:
    """Return set -> where its files may lie: in the sorted copy first, then as released."""
    sources = {s: [*record.sources.get(s, ()), *record.release.get(s, ())] for s in SETS}
    return {suffix: group for suffix, group in sources.items() if group}


def known_classes(record: DatasetRecord) -> list[str]:
    """Name the classes of a record's label tables as their folders are named."""
    tables = [record.labels]
    tables += [source.labels or {} for group in all_sources(record).values() for source in group]
    names = [folder_name(name) for table in tables for name in parse_labels(table).values()]
    return list(dict.fromkeys(names))


def _read_sets(
    tree: Tree, name: str, suffixes: Iterable[str]
) -> tuple[dict[str, Sequence[Case]], list[str]]:
    sets: dict[str, Sequence[Case]] = {}
    problems = []
    for suffix in suffixes:
        try:
            sets[suffix] = read_index(tree.index(name, suffix))
        except ValueError as error:
            problems.append(str(error))
    return sets, problems


def _check_names(names: Sequence[str], *groups: Iterable[str]) -> None:
    known, prepared = (sorted(group, key=str.lower) for group in groups)
    for name in names:
        if name not in known and name not in prepared:
            raise ValueError(
                f"unknown dataset {name!r}; known: {', '.join(known) or 'none'}; "
                f"prepared: {', '.join(prepared) or 'none'}"
            )


@dataclass
class _Counts:
    """What one pass over an index finds; the dictionaries serve as sets that keep their order."""

    images: set[Path] = field(default_factory=set)
    patients: set[str | None] = field(default_factory=set)
    spacings: set[tuple[float, ...]] = field(default_factory=set)
    modalities: dict[str, None] = field(default_factory=dict)
    volumes: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def to_facts(self) -> SetFacts:
        return SetFacts(
            num_cases=len(self.images),
            num_objects=sum(map(len, self.volumes.values())),
            num_classes=len(self.volumes),
            num_patients=len(self.patients - {None}),
            spacing_mm=tuple((min(mm), max(mm)) for mm in zip(*self.spacings, strict=True)),
        )


def _count(cases: Iterable[Case]) -> _Counts:
    counts = _Counts()
    for case in cases:
        counts.images.add(case.image)
        counts.patients.add(case.patient)
        counts.spacings.add(case.spacing)
        counts.volumes[case.class_name].append(case.volume_mm3)
        said = case.extra.get("modality") or ()
        counts.modalities.update(dict.fromkeys((said,) if isinstance(said, str) else said))
    return counts


def _describe_classes(counts: Mapping[str, _Counts], known: Iterable[str]) -> dict[str, ClassFacts]:
    names = dict.fromkeys([*known, *(name for found in counts.values() for name in found.volumes)])
    facts = {}
    for name in names:
        by_set = {s: found.volumes[name] for s, found in counts.items() if name in found.volumes}
        volumes = [volume for found in by_set.values() for volume in found]
        summary = (min(volumes), median(volumes), max(volumes)) if volumes else ()
        facts[name] = ClassFacts({s: len(found) for s, found in by_set.items()}, summary)
    return facts
