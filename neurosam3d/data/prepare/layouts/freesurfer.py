"""FreeSurfer: a folder per subject, images and labels in its mri folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurosam3d.data.prepare import catalogue
from neurosam3d.data.prepare.labels import LabelTable, Values
from neurosam3d.data.prepare.layouts.layout import Layout, RawFolder
from neurosam3d.data.prepare.listing import Listing, RawItem
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.raw_files import RawFiles
from neurosam3d.data.tree import folder_name

# The first that is there: intensities normalised and the skull removed, before earlier steps.
_IMAGES = ("norm", "brain", "T1", "orig")
# The cortex is one structure per side in aseg and comes in parts in the others, whose numbers tell
# the atlas; numbers below 1000 mean the same in all.
_LABELS: Mapping[str, range] = {
    "aseg": range(0),
    "aparc+aseg": range(1000, 3000),
    "aparc.DKTatlas+aseg": range(1000, 3000),
    "aparc.a2009s+aseg": range(11000, 13000),
}
_AVERAGE = "fsaverage"  # FreeSurfer keeps its average brain among the subjects


@dataclass(frozen=True)
class _Subject:
    name: str
    image: Path | None
    labels: Mapping[str, Path]

    def items(self, table: Mapping[Values, str], channel: int) -> Iterator[RawItem]:
        """Yield an item for each class; what several files hold is taken from the first."""
        named: set[str] = set()
        for file, seg in self.labels.items():
            for values, name in table.items():
                is_held = all(value < 1000 or value in _LABELS[file] for value in values)
                if self.image is not None and is_held and name not in named:
                    named.add(name)
                    class_name = folder_name(name)
                    yield RawItem(
                        self.image, seg, values, class_name, self.name, self.name, channel
                    )

    def problems(self) -> Iterator[Problem]:
        """Yield what the subject lacks."""
        if self.image is None:
            for seg in self.labels.values():
                sentence = f"no image belongs to {seg}; looked for {', '.join(_IMAGES)}"
                yield Problem(Kind.NO_IMAGE, sentence, self.name)
        elif not self.labels:
            sentence = f"no label belongs to {self.image}; looked for {', '.join(_LABELS)}"
            yield Problem(Kind.NO_LABEL, sentence, self.name)


def _subjects(raw: Path) -> Iterator[_Subject]:
    """Yield every subject; the raw folder may be one itself."""
    mri = raw / "mri"
    folders = [mri] if mri.is_dir() else [path for path, _ in RawFiles(raw).find("{subject}/mri/")]
    for folder in folders:
        files = RawFiles(folder)
        images = [path for name in _IMAGES for path, _ in files.find(f"{name}{{ext}}")]
        labels = {name: path for name in _LABELS for path, _ in files.find(f"{name}{{ext}}")}
        subject = _Subject(folder.parent.name, images[0] if images else None, labels)
        if (images or labels) and not subject.name.startswith(_AVERAGE):
            yield subject


def _standard_table() -> LabelTable:
    """The structures of aseg and the parts of the cortex in two atlases."""
    record = catalogue.RECORDS["FreeSurfer"]
    tables = [source.labels or {} for source in record.sources["Tr"]]
    return {value: name for table in (record.labels, *tables) for value, name in table.items()}


def _list_freesurfer(raw: RawFolder) -> Listing:
    table = raw.table(_standard_table())
    subjects = list(_subjects(raw.path))
    items = tuple(item for subject in subjects for item in subject.items(table, raw.channel))
    problems = tuple(problem for subject in subjects for problem in subject.problems())
    return Listing(
        name=raw.name,
        modality=("MRI",),
        labels=table,
        items={"Tr": items} if items else {},
        problems={"Tr": problems} if problems else {},
    )


FREESURFER = Layout(
    "FreeSurfer",
    "<subject>/mri/norm.mgz or brain, T1, orig; aseg.mgz or aparc*+aseg.mgz",
    lambda raw: any(True for _ in _subjects(raw)),
    _list_freesurfer,
)
