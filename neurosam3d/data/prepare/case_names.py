"""Names of cases: every image of a set has its own."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.raw_item import RawItem, strip_suffix
from neurosam3d.data.tree import folder_name


def name_cases(items: Sequence[RawItem]) -> tuple[RawItem, ...]:
    """Name the cases that have no name yet after their image files."""
    stems = Counter(strip_suffix(image) for image in {i.image for i in items if not i.case})
    return tuple(item if item.case else replace(item, case=_case(item, stems)) for item in items)


def part_same_names(items: Sequence[RawItem]) -> tuple[tuple[RawItem, ...], tuple[Problem, ...]]:
    """Leave out the cases whose name stands for several images; nobody knows which is meant."""
    images = _images(items)
    twice = {case: paths for case, paths in images.items() if len(paths) > 1}
    problems = tuple(
        Problem(Kind.SAME_NAME, f"case {case!r} stands for {_several(paths)}", case)
        for case, paths in twice.items()
    )
    return tuple(item for item in items if item.case not in twice), problems


def check_cases(items: Sequence[RawItem], set_name: str) -> None:
    """Make sure that no two images share a name, and that no class of a case has two labels.

    Args:
        items: Items of one set.
        set_name: The set, for messages.

    Raises:
        ValueError: If not.
    """
    for case, paths in _images(items).items():
        if len(paths) > 1:
            raise ValueError(f"{set_name}: case {case!r} stands for {_several(paths)}")
    counts = Counter((item.case, item.class_name) for item in items)
    for (case, class_name), count in counts.items():
        if count > 1:
            raise ValueError(f"{set_name}: case {case!r} has two labels for class {class_name!r}")


def _images(items: Sequence[RawItem]) -> Mapping[str, list[Path]]:
    """Images by the name of their case."""
    images: dict[str, dict[Path, None]] = defaultdict(dict)
    for item in items:
        images[item.case][item.image] = None
    return {case: list(paths) for case, paths in images.items()}


def _several(paths: Sequence[Path]) -> str:
    count = "two" if len(paths) == 2 else str(len(paths))
    return f"{count} images, {' and '.join(map(str, paths))}"


def _case(item: RawItem, stems: Counter[str]) -> str:
    stem = strip_suffix(item.image)
    # Sequences of one subject often share a file name and differ by folder.
    return folder_name(stem if stems[stem] == 1 else f"{item.image.parent.name}_{stem}")
