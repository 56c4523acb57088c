"""Step 1: a class per dataset that lists its raw files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neurosam3d.data.prepare.catalogue.record import STANDARD_SOURCES, DatasetRecord
from neurosam3d.data.prepare.labels import LabelTable, parse_labels
from neurosam3d.data.prepare.listing import Listing
from neurosam3d.data.prepare.pairing import Source, list_sources


class BaseDatasetJSONGenerator:
    """Lists the images of one dataset and their labels.

    A subclass states `dir`, `name`, `modality` and `labels`, as class attributes or in its own
    `__init__` without arguments. That is enough for images in `imagesTr`, `imagesVal` and
    `imagesTs` whose labels lie in `labelsTr`, ... under the same file name. For another layout
    state `sources`, or override `generate`:

        class LiverJSONGenerator(BaseDatasetJSONGenerator):
            dir = LIVER
            name = "Liver"
            modality = ["CT"]
            labels = {0: "background", 1: "liver", 2: "tumor", (1, 2): "liver with tumor"}

    Attributes:
        dir: The raw folder: absolute, or relative to the command's `--root`.
        name: Name of the dataset in the tree and, with _Tr, _Val or _Ts, in configurations.
        modality: What the images are, for example ["CT"].
        labels: Label value, or tuple of values of a region, -> class name.
        num_seg_classes: Number of classes without background; checked against `labels`. None:
            as many as `labels` names.
        sources: Set (Tr, Val, Ts) -> where its images and labels lie.
        release: The same for a set of which `sources` find no image with a label.
        record: A record of the catalogue, in place of `name`, `modality`, `labels`, `sources`,
            `release` and, where the class states none, `dir`.
    """

    dir: str | Path = ""
    name: str = ""
    modality: Sequence[str] = ()
    labels: LabelTable = MappingProxyType({})
    num_seg_classes: int | None = None
    sources: Mapping[str, Sequence[Source]] = STANDARD_SOURCES
    release: Mapping[str, Sequence[Source]] = MappingProxyType({})
    record: DatasetRecord | None = None

    def __init__(self, dir: str | Path | None = None, num_seg_classes: int | None = None) -> None:
        if self.record is not None:
            self.dir = self.dir or self.record.raw_folder
            self.name = self.record.name
            self.modality = self.record.modality
            self.labels = self.record.labels
            self.sources = self.record.sources
            self.release = self.record.release
            self.num_seg_classes = len(parse_labels(self.labels)) or None
        if dir is not None:
            self.dir = dir
        if num_seg_classes is not None:
            self.num_seg_classes = num_seg_classes

    def generate(self) -> dict[str, Any]:
        """List the raw files below `dir`.

        Returns:
            {"name", "modality", "labels", "training", "validation", "testing"}; each set is None
            or a list of {"image", "seg", "seg_index"}, one item per class and image. Relative
            paths are relative to `dir`. "problems" may say what could not be listed.

        Raises:
            ValueError: If `num_seg_classes` disagrees with `labels`, or the files with `sources`.
        """
        self._check_num_seg_classes()
        listing = list_sources(
            Path(self.dir),
            self.name,
            modality=(self.modality,) if isinstance(self.modality, str) else self.modality,
            labels=self.labels,
            sources=self.sources,
            release=self.release,
        )
        return listing.to_json()

    def _check_num_seg_classes(self) -> None:
        num_named = len(parse_labels(self.labels))
        if self.num_seg_classes not in (None, num_named):
            raise ValueError(
                f"num_seg_classes of {self.name} must equal the {num_named} classes that labels "
                f"names, got {self.num_seg_classes}"
            )


def find_generators(namespace: Mapping[str, Any]) -> dict[str, BaseDatasetJSONGenerator]:
    """Make one generator of every dataset class defined in a module.

    Args:
        namespace: The module's `globals()`; classes it only imports do not count.

    Raises:
        ValueError: If a class has no name or that of another, or cannot be made without arguments.
    """
    generators: dict[str, BaseDatasetJSONGenerator] = {}
    for value in namespace.values():
        if not (isinstance(value, type) and issubclass(value, BaseDatasetJSONGenerator)):
            continue
        if value.__module__ != namespace["__name__"]:
            continue
        try:
            generator = value()
        except TypeError as error:
            raise ValueError(f"{value.__name__} must be made without arguments: {error}") from error
        if not generator.name or generator.name in generators:
            raise ValueError(f"{value.__name__} needs a name of its own, got {generator.name!r}")
        generators[generator.name] = generator
    return generators


def list_dataset(generator: BaseDatasetJSONGenerator, root: Path) -> Listing:
    """Run a dataset's generator on its raw folder.

    Args:
        generator: The dataset.
        root: Parent of the raw folders.

    Raises:
        ValueError: If the raw folder is missing, or no image in it has a label.
    """
    folder = root.absolute() / generator.dir
    if not folder.is_dir():
        raise ValueError(f"{generator.name}: no raw folder {folder}")
    generator.dir = folder
    listing = Listing.from_json(
        generator.generate(), source=f"the list of {generator.name}", folder=folder
    )
    is_below = folder.is_relative_to(root.absolute())
    parent = root.absolute() if is_below else folder.parent
    listing = replace(listing, root=parent, raw_folder=str(folder.relative_to(parent)))
    if generator.record is not None:
        listing = replace(listing, page=generator.record.page, licence=generator.record.licence)
    every = (*generator.sources.values(), *generator.release.values())
    looked_for = [source.images for sources in every for source in sources]
    return listing.require_items(f"in {folder}; looked for {', '.join(looked_for)}")
