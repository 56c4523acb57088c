"""The benchmarks' tables, for the terminal and as Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

ORIGINALS = Path(__file__).parent / "originals.json"
NOT_MEASURED = "not measured"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Figures:
    """Figures in rows, the first column of which names them.

    Attributes:
        caption: What they are.
        headings: One per column.
        rows: As text.
    """

    caption: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def rich(self) -> Table:
        """Lay them out for a terminal."""
        table = Table(title=self.caption)
        for number, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Lay them out as Markdown, the caption below."""
        lines = [self.headings, ("---", *("--:" for _ in self.headings[1:])), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{table}\n\n{self.caption}\n"


def network_table(rows: Sequence[Row]) -> Figures:
    """Set our gemms and memory beside those of the plain reading and of the published program."""
    originals = json.loads(ORIGINALS.read_text(encoding="utf-8"))
    body = []
    for row in rows:
        known = originals.get(row["network"], {})
        original = known.get(row["item"].split(",")[0], {})
        plain = row.get("plain_gemms")
        body.append(
            (
                f"`{row['network']}`, {row['item']}",
                _figure(row["gemms"]),
                _figure(plain),
                _figure(plain and plain / row["gemms"]),
                _figure(original.get("gemms")),
                _figure("gemms" in original and original["gemms"] / row["gemms"]),
                f"{row['peak_mib']:.0f}",
                _figure(original.get("peak_mib")),
                f"{row['gemm_seconds']:.3f}",
            )
        )
    headings = (
        "",
        "gemms",
        "plain reading",
        "times faster",
        "published program",
        "times faster",
        "peak of the process, MiB",
        "published program's, MiB",
        "a gemm, s",
    )
    threads = ", ".join(sorted({str(row["threads"]) for row in rows}))
    return Figures(f"On a CPU, float32, batch 1, {threads} threads.", headings, body)


def gpu_table(rows: Sequence[Row] | None) -> Figures:
    """Show speed, utilisation and memory by batch, as they are and compiled."""
    headings = ("", "batch", "samples/s", "utilisation", "peak, GiB", "clicks/s")
    names = ("batch", "samples_per_second", "utilisation", "peak_gib", "clicks_per_second")
    if rows is None:
        missing = [("any network", *(NOT_MEASURED for _ in names))]
        return Figures("On a GPU: there was none.", headings, missing)
    body = [
        (
            f"`{row['network']}`{', compiled' * row['compiled']}",
            *(_figure(row.get(name)) for name in names),
        )
        for row in rows
    ]
    return Figures("On a GPU, bfloat16 by autocast, 11 clicks per step.", headings, body)


def _figure(value: float | None) -> str:
    """Write a number with three digits, or nothing."""
    if not value:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
