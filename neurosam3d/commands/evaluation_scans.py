"""Which scans an evaluation is about: sets of a prepared tree, or plain folders."""

from collections.abc import Sequence
from pathlib import Path

from neurosam3d.data.index import find_sets
from neurosam3d.data.scan_list import ScanList
from neurosam3d.data.tree import Tree
from neurosam3d.evaluation.case_files import Scan, keep_apart, list_folder


def list_scans(
    data: Path,
    *,
    labels: Path | None = None,
    set_name: str = "Ts",
    datasets: Sequence[str] = (),
    channel: int = 0,
) -> list[Scan]:
    """List the scans of a folder, whatever its layout, in the order of its index or names.

    Args:
        data: A tree that `data.py` has prepared, or a folder of images and labels.
        labels: The label files of the images in `data`.
        set_name: Tr, Val or Ts.
        datasets: Names of data sets in a prepared tree; by default all that have the set.
        channel: Which channel of images with several, in plain folders.

    Raises:
        ValueError: If there is nothing to be found.
    """
    prepared = [name for name in Tree(data).list_sets() if name.endswith(f"_{set_name}")]
    if datasets:
        if labels is not None:
            raise ValueError(
                "--datasets are of a prepared tree, --labels of plain folders; got both"
            )
        return list_prepared(data, [f"{name}_{set_name}" for name in datasets])
    if labels is None and prepared:
        return list_prepared(data, prepared)
    return list_folder(data, labels=labels, set_name=set_name, channel=channel)


def list_prepared(root: Path, sets: Sequence[str]) -> list[Scan]:
    """List the scans of prepared sets with the masks of all their classes.

    Args:
        root: The tree.
        sets: Their names, `<NAME>_<SET>`.

    Raises:
        ValueError: If a set has no index or one is damaged.
    """
    return keep_apart([Scan.from_entry(entry) for entry in ScanList(find_sets(root, sets))])
