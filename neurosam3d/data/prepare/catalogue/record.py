"""What is known of a public dataset before its files are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from neurosam3d.data.prepare.catalogue.sources import STANDARD_SOURCES
from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source


@dataclass(frozen=True)
class DatasetRecord:
    """One public dataset: what its classes are called and where its files lie.

    Args:
        name: Name in the tree and in configurations.
        modality: What the images are.
        raw_folder: Folder of the dataset below the root of all raw data.
        labels: Label value, or values of a region, -> class name. Left empty where the label
            files name their classes or every source brings its own table.
        sources: Set (Tr, Val, Ts) -> where its images and labels lie, usually in its sorted copy.
        release: Where they lie as released. Looked at for a set of which `sources` find no image
            with a label, so that a release and its sorted copy in one folder are not both read.
        page: Address of the page that publishes the data and says on which terms.
        licence: The terms in short, where that page states them; "" sends the reader there.
    """

    name: str
    modality: tuple[str, ...]
    raw_folder: str = ""
    labels: LabelTable = field(default_factory=dict)
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=lambda: STANDARD_SOURCES)
    release: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    page: str = ""
    licence: str = ""
