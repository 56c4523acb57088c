"""Tables of a report, and how they are shown in the terminal, in Markdown and in HTML."""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.table

NOTHING = "-"
_NAME_WIDTH = 10  # of a column in the terminal, at least
_MARKS = re.compile(r"[\\|*_`\[\]~]")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Args:
        title: Heading.
        columns: Headings of the columns.
        rows: The cells, as many in each row as there are columns.
        num_names: How many columns, from the left, hold names; the others hold numbers.
        has_total: Whether the last row sums up the others.
        note: What a reader must know, below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1
    has_total: bool = False
    note: str = ""

    def markdown(self) -> str:
        """Return the table as GitHub shows it, with its heading."""
        edges = [":---" if i < self.num_names else "---:" for i in range(len(self.columns))]
        rows = [list(map(markdown_text, row)) for row in self.rows]
        if self.has_total and rows:
            rows[-1] = [f"**{cell}**" if cell else "" for cell in rows[-1]]
        lines = [list(map(markdown_text, self.columns)), edges, *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        note = f"\n\n{markdown_text(self.note)}" if self.note else ""
        return f"### {markdown_text(self.title)}\n\n{body}{note}\n"

    def html(self, *, with_title: bool = True) -> str:
        """Return the table as an HTML figure; every text is escaped.

        Args:
            with_title: Whether the title stands above it.
        """
        title = f"<h3>{html.escape(self.title)}</h3>" if with_title else ""
        head = "".join(self._cell("th", i, name) for i, name in enumerate(self.columns))
        rows = []
        for place, row in enumerate(self.rows):
            is_total = self.has_total and place == len(self.rows) - 1
            cells = "".join(self._cell("td", i, text) for i, text in enumerate(row))
            rows.append(f"<tr{' class=total' if is_total else ''}>{cells}</tr>")
        note = f"<figcaption>{html.escape(self.note)}</figcaption>" if self.note else ""
        return (
            f"<figure class=table>{title}<div class=scroll><table>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
            f"{note}</figure>"
        )

    def terminal(self) -> "rich.table.Table":
        """Return the table for a rich console; brackets in names are what they are."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = RichTable(
            title=Text(self.title, "bold"),
            caption=Text(self.note) if self.note else None,
            title_justify="left",
            caption_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for place, name in enumerate(self.columns):
            if place < self.num_names:
                shown.add_column(Text(name), overflow="fold", min_width=_NAME_WIDTH)
                continue
            # A number is never broken; a number with its interval is, if it must be.
            is_short = all(" " not in row[place] for row in self.rows)
            heading = Text("\n".join(name.split()) if is_short else name)
            longest = max(map(len, name.split()))
            shown.add_column(heading, justify="right", no_wrap=is_short, min_width=longest)
        for place, row in enumerate(self.rows):
            if self.has_total and place == len(self.rows) - 1:
                shown.add_section()
            shown.add_row(*map(Text, row))
        return shown

    def _cell(self, tag: str, column: int, text: str) -> str:
        if column >= self.num_names:
            return f"<{tag} class=number>{html.escape(text)}</{tag}>"
        return f"<{tag}>{html.escape(text).replace('_', '_<wbr>')}</{tag}>"  # may break there


def show_number(value: float | None, digits: int = 3) -> str:
    """Return a number as tables have it; "inf" for an infinite one."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def show_mean(value: float | None, interval: Sequence[float] | None) -> str:
    """Return a mean and its interval, as in `0.812 (0.780 to 0.841)`."""
    if value is None or interval is None:
        return show_number(value)
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def show_p(value: float | None) -> str:
    """Return a p-value as tables have it."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def show_value(value: Any) -> str:
    """Return a setting of a protocol as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(show_value, value)) or "none"
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def show_clicks(clicks: int) -> str:
    """Return a number of clicks in words."""
    if clicks < 0:
        return "best over clicks"
    return {0: "no click", 1: "1 click"}.get(clicks, f"{clicks} clicks")


def short_clicks(clicks: int) -> str:
    """Return a number of clicks where a heading tells that it is one."""
    return "best" if clicks < 0 else str(clicks)


def show_count(number: int, thing: str) -> str:
    """Return a number of things, as in `1 scan` and `2 scans`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def show_names(names: Sequence[str], most: int = 12) -> str:
    """Return a list of names in one text; of many the first ones and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def markdown_text(text: str) -> str:
    """Escape what Markdown, or the HTML in it, would read as a mark of its own."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return _MARKS.sub(r"\\\g<0>", escaped)
