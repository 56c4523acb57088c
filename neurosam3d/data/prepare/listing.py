"""The list of a dataset's raw files: step 1 writes it, step 2 prepares what it names.

Its JSON form is {"name", "modality", "labels", "training", "validation", "testing"}; each set is
null or a list of {"image", "seg", "seg_index"}, one item per class and image. An item may also
say "case", "class", "patient", "channel" (of a multi-channel image), "binary" (the label file is
the mask of this class alone) and "threshold" (it holds fractions); what it leaves out is worked
out here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosam3d.data.prepare.labels import Values, flat_table, labels_to_json, to_values
from neurosam3d.data.tree import Tree, check_name, folder_name, read_json, write_json

SET_KEYS = {"Tr": "training", "Val": "validation", "Ts": "testing"}
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".mgz", ".mgh")


@dataclass(frozen=True)
class RawItem:
    """One class of one raw image.

    Args:
        image: The image file.
        seg: The label file.
        values: Label values that together make up the class.
        class_name: Name of the class, fit to name a folder.
        case: Name of the image within its set; no two images share one.
        patient: Whom the image shows, if known.
        channel: Which channel of the image to store.
        binary: Whether every voxel of `seg` above 0 belongs to the class, whatever its value.
        threshold: For labels that hold fractions or probabilities from 0 to 1: voxels of at least
            this much belong to the class. None: labels hold integers.
    """

    image: Path
    seg: Path
    values: Values
    class_name: str
    case: str
    patient: str | None = None
    channel: int = 0
    binary: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class Listing:
    """Every raw image of a dataset with its labels, by set.

    Args:
        name: The dataset's name in the tree.
        modality: What the images are, for example ("CT", "MRI").
        labels: Label value -> class name, or a table of such tables.
        items: Set (Tr, Val, Ts) -> items; sets without items are left out.
        root: Folder that the raw files lie below when they can be moved as a whole.

    Raises:
        ValueError: If the name cannot name a folder, two images share a case name, or a case
            has two labels for one class.
    """

    name: str
    modality: tuple[str, ...]
    labels: Mapping[Any, Any]
    items: Mapping[str, tuple[RawItem, ...]]
    root: Path | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        for set_name, items in self.items.items():
            _check_cases(items, f"{self.name}_{set_name}")

    def __str__(self) -> str:
        counts = (
            f"{set_name} images {len({i.case for i in items})} "
            f"classes {len({i.class_name for i in items})}"
            for set_name, items in self.items.items()
        )
        return f"{self.name}: {', '.join(counts) or 'nothing'}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        sets = {
            key: [_to_entry(item) for item in self.items.get(set_name, ())] or None
            for set_name, key in SET_KEYS.items()
        }
        root = {} if self.root is None else {"root": str(self.root)}
        labels = labels_to_json(self.labels)
        return {
            "name": self.name,
            "modality": list(self.modality),
            "labels": labels,
            **root,
            **sets,
        }

    @classmethod
    def from_json(cls, content: Any, *, source: str, folder: Path) -> "Listing":
        """Check the JSON form and complete its items.

        Args:
            content: The decoded JSON.
            source: Where it comes from, for messages.
            folder: What relative paths in it are relative to.

        Raises:
            ValueError: If a key is missing or unfit.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"{source} must hold an object, got {type(content).__name__}")
        missing = [key for key in ("name", "modality", "labels") if key not in content]
        if missing:
            raise ValueError(f"{source} lacks {', '.join(missing)}")
        table = flat_table(content["labels"])
        items = {}
        for set_name, key in SET_KEYS.items():
            place = f"{source}, {key}"
            found = [_to_item(entry, table, folder, place) for entry in content.get(key) or ()]
            if found:
                items[set_name] = tuple(_name_cases(found))
        modality = content["modality"]
        root = content.get("root")
        return cls(
            name=str(content["name"]),
            modality=(modality,) if isinstance(modality, str) else tuple(map(str, modality)),
            labels=content["labels"],
            items=items,
            root=None if root is None else Path(root),
        )

    def moved_to(self, root: Path) -> "Listing":
        """Return the listing with the raw files below another root folder.

        Raises:
            ValueError: If the listing does not know which root its files lay below.
        """
        if self.root is None:
            raise ValueError(
                f"{self.name} was listed without a root folder, so its files cannot be looked "
                f"for in {root}; list them again"
            )
        old, new = self.root, root.absolute()
        items = {
            set_name: tuple(
                replace(item, image=_move(item.image, old, new), seg=_move(item.seg, old, new))
                for item in found
            )
            for set_name, found in self.items.items()
        }
        return replace(self, items=items, root=new)


def write_listing(tree: Tree, listing: Listing, *, raw: Path) -> Path:
    """Write a dataset's `dataset.json`, unless it says the same already.

    An unchanged file keeps its date, by which step 2 sees that what it made is still right.

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


def strip_suffix(path: Path) -> str:
    """Return a volume's file name without its suffix."""
    suffix = next((end for end in VOLUME_SUFFIXES if path.name.lower().endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def _to_entry(item: RawItem) -> dict[str, Any]:
    return {
        "image": str(item.image),
        "seg": str(item.seg),
        "seg_index": item.values[0] if len(item.values) == 1 else list(item.values),
        "class": item.class_name,
        "case": item.case,
        **({"patient": item.patient} if item.patient else {}),
        **({"channel": item.channel} if item.channel else {}),
        **({"binary": True} if item.binary else {}),
        **({} if item.threshold is None else {"threshold": item.threshold}),
    }


def _to_item(entry: Any, table: Mapping[Values, str], folder: Path, place: str) -> RawItem:
    if not isinstance(entry, Mapping) or not {"image", "seg", "seg_index"} <= entry.keys():
        raise ValueError(f"{place}: an item needs image, seg and seg_index, got {entry!r}")
    values = to_values(entry["seg_index"])
    class_name = entry.get("class") or table.get(values)
    if class_name is None:
        raise ValueError(f"{place}: labels names no class for seg_index {entry['seg_index']}")
    return RawItem(
        image=folder.absolute() / entry["image"],
        seg=folder.absolute() / entry["seg"],
        values=values,
        class_name=folder_name(str(class_name)),
        case=folder_name(entry["case"]) if "case" in entry else "",
        patient=entry.get("patient"),
        channel=int(entry.get("channel", 0)),
        binary=bool(entry.get("binary", False)),
        threshold=None if entry.get("threshold") is None else float(entry["threshold"]),
    )


def _name_cases(items: Sequence[RawItem]) -> list[RawItem]:
    """Name the cases that have no name yet after their image files."""
    stems = Counter(strip_suffix(image) for image in {i.image for i in items if not i.case})
    return [item if item.case else replace(item, case=_case(item, stems)) for item in items]


def _check_cases(items: Sequence[RawItem], set_name: str) -> None:
    images: dict[str, Path] = {}
    labels: set[tuple[str, str]] = set()
    for item in items:
        if images.setdefault(item.case, item.image) != item.image:
            raise ValueError(
                f"{set_name}: case {item.case!r} stands for two images, "
                f"{images[item.case]} and {item.image}"
            )
        if (item.case, item.class_name) in labels:
            raise ValueError(
                f"{set_name}: case {item.case!r} has two labels for class {item.class_name!r}"
            )
        labels.add((item.case, item.class_name))


def _case(item: RawItem, stems: Counter[str]) -> str:
    stem = strip_suffix(item.image)
    # Sequences of one subject often share a file name and differ by folder.
    return folder_name(stem if stems[stem] == 1 else f"{item.image.parent.name}_{stem}")


def _move(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path
