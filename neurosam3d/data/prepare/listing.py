"""The list of a dataset's raw files: step 1 writes it, step 2 prepares what it names.

Its JSON form is {"name", "modality", "labels", "training", "validation", "testing"}; each set is
null or a list of {"image", "seg", "seg_index"}, one item per class and image. An item may also
say "case", "class", "patient", "channel" (of a multi-channel image), "binary" (the label file is
the mask of this class alone), "threshold" (it holds fractions) and "modality" (of this image, in a
dataset of several kinds); what it leaves out is worked out here. "problems" holds, by set, what
could not be listed as {"kind", "case", "sentence"}.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurosam3d.data.prepare.case_names import check_cases, name_cases, part_same_names
from neurosam3d.data.prepare.labels import flat_table, labels_to_json
from neurosam3d.data.prepare.problems import Problem, group_by_kind
from neurosam3d.data.prepare.raw_item import VOLUME_SUFFIXES, RawItem, strip_suffix
from neurosam3d.data.tree import Tree, check_name, read_json, write_json

__all__ = [
    "SET_KEYS",
    "VOLUME_SUFFIXES",
    "Listing",
    "RawItem",
    "read_listing",
    "strip_suffix",
    "write_listing",
]

SET_KEYS = {"Tr": "training", "Val": "validation", "Ts": "testing"}


@dataclass(frozen=True)
class Listing:
    """Every raw image of a dataset with its labels, by set.

    Args:
        name: The dataset's name in the tree.
        modality: What the images are, for example ("CT", "MRI").
        labels: Label value -> class name, or a table of such tables.
        items: Set (Tr, Val, Ts) -> items; sets without items are left out.
        root: Folder that the raw folders of all datasets lie below, by which they can be moved.
        problems: Set -> what could not be listed: images without label, labels without image,
            images that would share a name.
        raw_folder: The dataset's own folder below `root`; empty for `root` itself.
        page: Address of the page that publishes the data.
        licence: The terms in short.

    Raises:
        ValueError: If the name cannot name a folder, two images share a case name, or a case
            has two labels for one class.
    """

    name: str
    modality: tuple[str, ...]
    labels: Mapping[Any, Any]
    items: Mapping[str, tuple[RawItem, ...]]
    root: Path | None = None
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    raw_folder: str = ""
    page: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        for set_name, items in self.items.items():
            check_cases(items, f"{self.name}_{set_name}")

    def __str__(self) -> str:
        counts = (
            f"{set_name} images {len({i.case for i in items})} "
            f"classes {len({i.class_name for i in items})}"
            for set_name, items in self.items.items()
        )
        return f"{self.name}: {', '.join(counts) or 'nothing'}"

    @property
    def raw(self) -> Path | None:
        """The dataset's raw folder, if it can be moved as a whole."""
        return None if self.root is None else self.root / self.raw_folder

    def sum_up_problems(self) -> list[str]:
        """Return a sentence for each set and kind of problem: how many, and the first of them."""
        return [
            f"{self.name}_{set_name}: {kind}: {len(found)}, the first: {found[0]}"
            for set_name, problems in self.problems.items()
            for kind, found in group_by_kind(problems).items()
        ]

    def require_items(self, place: str) -> "Listing":
        """Return the listing itself if it has an image with a label.

        Args:
            place: Where they were looked for, for the message.

        Raises:
            ValueError: If it has none.
        """
        if not any(self.items.values()):
            raise ValueError("; ".join([f"no image with a label {place}", *self.sum_up_problems()]))
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; what is not set is left out."""
        sets = {
            key: [item.to_json() for item in self.items.get(set_name, ())] or None
            for set_name, key in SET_KEYS.items()
        }
        problems = {
            key: [{"case": p.case, **p.to_json()} for p in self.problems[set_name]]
            for set_name, key in SET_KEYS.items()
            if self.problems.get(set_name)
        }
        extra = {
            "page": self.page,
            "licence": self.licence,
            "root": "" if self.root is None else str(self.root),
            "raw_folder": self.raw_folder,
        }
        return {
            "name": self.name,
            "modality": list(self.modality),
            "labels": labels_to_json(self.labels),
            **{key: value for key, value in extra.items() if value},
            **({"problems": problems} if problems else {}),
            **sets,
        }

    @classmethod
    def from_json(cls, content: Any, *, source: str, folder: Path) -> "Listing":
        """Check the JSON form and complete its items.

        Images that would share a case name are left out and become problems.

        Args:
            content: The decoded JSON.
            source: Where it comes from, for messages.
            folder: What relative paths in it are relative to.

        Raises:
            ValueError: If a key is missing or unfit.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"{source} must hold an object, got {type(content).__name__}")
        if not isinstance(content.get("root") or "", str):
            raise ValueError(f"{source}, root must be a text, got {content['root']!r}")
        missing = [key for key in ("name", "modality", "labels") if key not in content]
        if missing:
            raise ValueError(f"{source} lacks {', '.join(missing)}")
        table, folder = flat_table(content["labels"]), folder.absolute()
        items, problems = {}, {}
        for set_name, key in SET_KEYS.items():
            place = f"{source}, {key}"
            if not isinstance(content.get(key) or [], list):
                raise ValueError(f"{place} must be a list of items, got {content[key]!r}")
            entries = [
                RawItem.from_json(entry, table=table, folder=folder, place=place)
                for entry in content.get(key) or ()
            ]
            kept, same_names = part_same_names(name_cases(entries))
            known = _problems_from_json(content.get("problems"), key, source)
            if kept:
                items[set_name] = kept
            if known or same_names:
                problems[set_name] = (*known, *same_names)
        modality, root = content["modality"], content.get("root")
        if not isinstance(modality, str | list):
            raise ValueError(f"{source}, modality must be a text or a list, got {modality!r}")
        return cls(
            name=str(content["name"]),
            modality=(modality,) if isinstance(modality, str) else tuple(map(str, modality)),
            labels=content["labels"],
            items=items,
            root=Path(root) if root else None,
            problems=problems,
            raw_folder=str(content.get("raw_folder", "")),
            page=str(content.get("page", "")),
            licence=str(content.get("licence", "")),
        )

    def moved_to(self, raw: Path) -> "Listing":
        """Return the listing with its files in another raw folder.

        Raises:
            ValueError: If the listing does not know which folder its files lay below.
        """
        if self.raw is None:
            raise ValueError(
                f"{self.name} was listed without a root folder, so its files cannot be looked "
                f"for in {raw}; list them again"
            )
        old, new = self.raw, raw.absolute()
        items = {
            set_name: tuple(
                replace(item, image=_move(item.image, old, new), seg=_move(item.seg, old, new))
                for item in found
            )
            for set_name, found in self.items.items()
        }
        return replace(self, items=items, root=new, raw_folder="")

    def with_patients(self, set_name: str, patients: Mapping[str, str]) -> "Listing":
        """Return the listing with patients of one set; where none is given its own stay.

        Args:
            set_name: Tr, Val or Ts.
            patients: Case -> patient.

        Raises:
            ValueError: If a case has neither a patient given nor one of its own.
        """
        if set_name not in self.items:
            return self
        items = self.items[set_name]
        unknown = sorted({i.case for i in items if not i.patient} - patients.keys())
        if unknown:
            raise ValueError(
                f"{self.name}_{set_name}: no patient is given for case {unknown[0]!r} "
                f"({len(unknown)} missing)"
            )
        given = tuple(replace(i, patient=patients.get(i.case, i.patient)) for i in items)
        return replace(self, items={**self.items, set_name: given})


def write_listing(tree: Tree, listing: Listing, *, raw: Path) -> Path:
    """Write a dataset's `dataset.json`, unless it says the same already.

    Args:
        tree: Where the prepared files will go.
        listing: What to write.
        raw: The raw folder, in which nothing is ever written.

    Raises:
        ValueError: If the tree's folder of the dataset lies in the raw folder or the other way
            round.
    """
    path = tree.dataset_json(listing.name)
    prepared, raw = path.parent.resolve(), raw.resolve()
    if prepared.is_relative_to(raw) or raw.is_relative_to(prepared):
        raise ValueError(f"prepared files go to another folder than {raw}, got {prepared}")
    content = listing.to_json()
    try:
        unchanged = read_json(path) == content
    except ValueError:
        unchanged = False
    if not unchanged:
        write_json(path, content)
    return path


def read_listing(tree: Tree, name: str) -> Listing:
    """Read a dataset's `dataset.json`.

    Raises:
        ValueError: If step 1 has not written it, or it is unfit.
    """
    path = tree.dataset_json(name)
    if not path.is_file():
        known = ", ".join(tree.list_datasets()) or "none"
        raise ValueError(
            f"no {path} (datasets listed in {tree.root}: {known}); write it with: "
            f"python utils/prepare_json_data.py {name} --out {tree.root}, or prepare a raw folder "
            f"without a class: python data.py -dt Tr --raw DIR --name {name} --out {tree.root}"
        )
    return Listing.from_json(read_json(path), source=str(path), folder=path.parent)


def _problems_from_json(content: Any, key: str, source: str) -> tuple[Problem, ...]:
    """Read the problems of one set; a file of an earlier date has none."""
    entries: Iterable[Any] = content.get(key) or () if isinstance(content, Mapping) else ()
    try:
        return tuple(Problem.from_json(entry, str(entry["case"])) for entry in entries)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source}, problems: an entry needs kind, case and sentence, got {error}"
        ) from error


def _move(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path
