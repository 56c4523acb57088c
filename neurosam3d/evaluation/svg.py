"""Pieces of inline SVG: texts, marks of series, and the picture around them.

Colours come from the page's style sheet (`report.css`) by class, so that one figure suits light and
dark. A series has one of six classes, s0 to s5, and a mark of its own shape.
"""

import html
from collections.abc import Sequence

NUM_STYLES = 6
_LABEL_LENGTH = 27


def text(x: float, y: float, words: str, kind: str, *, full: str = "") -> str:
    """Write a text; where it was cut, the full one appears when pointed at.

    Args:
        x: Where its anchor is.
        y: Its base line.
        words: What to write.
        kind: Its classes.
        full: What was cut.
    """
    hint = f"<title>{html.escape(full)}</title>" if full and full != words else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{hint}{html.escape(words)}</text>'


def line(kind: str, *, x: tuple[float, float], y: tuple[float, float]) -> str:
    """Draw a straight line from one point to another."""
    return f'<line class="{kind}" x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"/>'


def style_of(place: int) -> str:
    """Return the class of the series at a place; after the last they begin anew."""
    return f"s{place % NUM_STYLES}"


def mark(x: float, y: float, place: int) -> str:
    """Draw the mark of the series at a place."""
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"',
        f'<rect x="{x - 3.7:.1f}" y="{y - 3.7:.1f}" width="7.4" height="7.4"',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 8.6h-10z"',
        f'<path d="M{x:.1f} {y - 5.2:.1f}l5.2 5.2l-5.2 5.2l-5.2 -5.2z"',
        f'<path d="M{x:.1f} {y + 5:.1f}l5 -8.6h-10z"',
        f'<path d="M{x - 4.5:.1f} {y - 1.5:.1f}h3v-3h3v3h3v3h-3v3h-3v-3h-3z"',
    )
    return f'{shapes[place % NUM_STYLES]} class="mark {style_of(place)}"/>'


def cut(name: str) -> str:
    """Shorten a name to what fits beside a chart."""
    return name if len(name) <= _LABEL_LENGTH else f"{name[: _LABEL_LENGTH - 1]}\u2026"


def picture(width: float, height: float, parts: Sequence[str], *, title: str) -> str:
    """Put parts together to an SVG element of a size in its own units.

    Args:
        width: Its width.
        height: Its height.
        parts: What is in it.
        title: What it shows, for screen readers.
    """
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}">{"".join(parts)}</svg>'
    )
