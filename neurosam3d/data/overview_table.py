"""The facts of `neurosam3d.data.overview` as tables for a terminal of 80 columns or more."""

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from neurosam3d.data.overview import DatasetFacts
from neurosam3d.data.tree import SETS

_NONE = "-"
_WIDE = 110  # columns that a table with the pages of the datasets needs
_LONGEST_NAME = 24  # characters that a terminal of 80 columns leaves for the name of a set
_MM3_PER_ML = 1000


def show_all(
    datasets: Sequence[DatasetFacts], *, with_raw: bool, width: int
) -> Iterator[RenderableType]:
    """Lay out all datasets: first what is known of each, then what is prepared.

    Args:
        datasets: The facts.
        with_raw: Whether raw folders were looked for, so that they are worth a column.
        width: Columns of the terminal; narrow ones see the licence or else the site of a dataset.
    """
    names = [facts.name for facts in datasets]
    table = _table("Datasets", names, "dataset", "modality", "#classes")
    if with_raw:
        table.add_column("raw")
    table.add_column("prepared")
    table.add_column("licence, page" if width >= _WIDE else "licence or site", overflow="fold")
    for facts in datasets:
        raw = [_NONE if facts.raw is None else "found"] if with_raw else []
        table.add_row(
            Text(facts.name),
            Text(", ".join(facts.modality) or _NONE),
            _count(len(facts.classes)),
            *raw,
            " ".join(facts.sets) or _NONE,
            _terms(facts) if width >= _WIDE else _short_terms(facts),
        )
    yield table
    yield from _show_sets(datasets)


def show_one(facts: DatasetFacts, *, with_raw: bool) -> Iterator[RenderableType]:
    """Lay out one dataset: where it comes from, its prepared sets, and every class.

    Args:
        facts: The facts.
        with_raw: Whether the raw folder was looked for.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("dataset", Text(facts.name))
    grid.add_row("modality", Text(", ".join(facts.modality) or _NONE))
    grid.add_row("licence, page", Text(facts.terms))
    if facts.record is not None:
        found = f", found: {facts.raw}" if facts.raw else ", not found" if with_raw else ""
        grid.add_row("raw folder", Text(f"{facts.record.raw_folder or _NONE}{found}"))
    for suffix, templates in facts.templates.items():
        grid.add_row(f"raw files, {suffix}", Text("\n".join(templates)))
    if not facts.sets:
        grid.add_row("classes", Text(", ".join(facts.classes) or "named by the label files"))
    yield grid
    yield Text()
    yield from _show_sets([facts])
    if facts.sets:
        yield _class_table(facts)


def _show_sets(datasets: Iterable[DatasetFacts]) -> Iterator[RenderableType]:
    sets = {f"{facts.name}_{s}": found for facts in datasets for s, found in facts.sets.items()}
    if not sets:
        yield Text("No set is prepared.\n")
        return
    headings = ("set", "#cases", "#patients", "#objects", "#classes", "spacing in mm")
    table = _table("Prepared sets", list(sets), *headings)
    for name, found in sets.items():
        table.add_row(
            Text(name),
            _count(found.num_cases),
            _count(found.num_patients),
            _count(found.num_objects),
            _count(found.num_classes),
            " x ".join(_range(low, high) for low, high in found.spacing_mm) or _NONE,
        )
    yield table


def _class_table(facts: DatasetFacts) -> Table:
    suffixes = [suffix for suffix in SETS if suffix in facts.sets]
    headings = ("class", *(f"#{suffix}" for suffix in suffixes), "#median in ml", "#range in ml")
    table = _table("Objects of each class", list(facts.classes), *headings)
    for name, found in facts.classes.items():
        low, middle, high = (mm3 / _MM3_PER_ML for mm3 in found.volume_mm3 or (0, 0, 0))
        table.add_row(
            Text(name),
            *(_count(found.num_objects.get(suffix, 0)) for suffix in suffixes),
            _number(middle) if found.volume_mm3 else _NONE,
            _range(low, high) if found.volume_mm3 else _NONE,
        )
    return table


def _table(title: str, names: Sequence[str], *headings: str) -> Table:
    """Begin a table with a column of names; a heading that starts with # is one of numbers."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    longest = max(map(len, names), default=0)
    for heading in headings:
        table.add_column(
            heading.removeprefix("#"),
            justify="right" if heading.startswith("#") else "left",
            overflow="fold",
            min_width=min(longest, _LONGEST_NAME) if heading == headings[0] else None,
        )
    return table


def _terms(facts: DatasetFacts) -> Text:
    """Return licence and page, the page without what most addresses have in common."""
    page = facts.page
    shown = page.partition("://")[2].removeprefix("www.").removesuffix("/")
    return Text(facts.terms.replace(page, shown), style=f"link {page}" if page else "")


def _short_terms(facts: DatasetFacts) -> Text:
    """Return the licence, else the site of the page."""
    site = urlsplit(facts.page).netloc.removeprefix("www.")
    return Text(facts.licence or site or facts.terms)


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ") if number else _NONE


def _range(low: float, high: float) -> str:
    """Write a range, or one number where three digits do not tell its ends apart."""
    ends = _number(low), _number(high)
    return ends[0] if ends[0] == ends[1] else "-".join(ends)


def _number(value: float) -> str:
    """Write three digits, or all before the point: 0.977, 3.27, 1043."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
