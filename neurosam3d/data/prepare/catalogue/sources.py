"""Named patterns of how the images and labels of a dataset lie.

Most groups keep a dataset in one of two forms: as it was released, or sorted into folders
`imagesTr` and `labelsTr` in which an image and its label share a file name. A record names both.
"""

from collections.abc import Mapping
from dataclasses import replace

from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source
from neurosam3d.data.tree import SETS


def same_names(set_name: str, *, patient: str = "") -> Source:
    """Images and labels of the same file names in `images<SET>` and `labels<SET>`.

    Args:
        set_name: Tr, Val or Ts.
        patient: How the file name makes up the patient's name.
    """
    return Source(
        f"images{set_name}/{{case}}{{ext}}", f"labels{set_name}/{{case}}{{ext}}", patient=patient
    )


STANDARD_SOURCES: Mapping[str, tuple[Source, ...]] = {name: (same_names(name),) for name in SETS}
# The same where a file name is the patient's.
PATIENT_SOURCES: Mapping[str, tuple[Source, ...]] = {
    name: (same_names(name, patient="{case}"),) for name in SETS
}


def in_folders(source: Source, *folders: str) -> tuple[Source, ...]:
    """The same files below one of several folders, such as the parts a release comes in.

    Args:
        source: The files, seen from such a folder.
        folders: Templates that end in "/", or "" for the raw folder itself.
    """
    return tuple(
        replace(source, images=folder + source.images, label=folder + source.label)
        for folder in folders
    )


def sequences(
    set_name: str,
    label_folder: str,
    *,
    labels: LabelTable | None = None,
    exclude: tuple[str, ...] = (),
) -> Source:
    """Several images of a subject, each in a folder `images<SET>...`, that share one label.

    Every image is a case named after the subject and the rest of its folder's name, and the cases
    of a subject belong to one patient.

    Args:
        set_name: Tr, Val or Ts.
        label_folder: Folder of the label files, which bear the images' names.
        labels: The folder's own table; None for the dataset's.
        exclude: Leave out images whose path holds one of these words.
    """
    return Source(
        f"images{set_name}{{sequence}}/{{case}}{{ext}}",
        f"{label_folder}/{{case}}{{ext}}",
        labels=labels,
        case="{case}{sequence}",
        patient="{case}",
        exclude=exclude,
    )


def named(source: Source, name: str, *, patient: str) -> Source:
    """A source for those of its files whose case name tells the patient.

    Args:
        source: A source whose files are named by `{case}`.
        name: What stands for `{case}`, for example "{patient}_{visit}".
        patient: How its placeholders make up the patient's name.
    """
    images, label, case = (
        text.replace("{case}", name) for text in (source.images, source.label, source.case)
    )
    return replace(source, images=images, label=label, case=case, patient=patient)


def numbered(last: int) -> LabelTable:
    """A table that names every value from 1 to `last` by its number, as for a whole atlas."""
    return {value: str(value) for value in range(1, last + 1)}
