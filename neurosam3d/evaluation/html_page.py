"""A self-contained HTML page: sections one below the other, no scripts, no network."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        heading: Its heading, as text.
        body: Its content, as HTML.
    """

    heading: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section], *, remarks: str = "") -> str:
    """Put a page together.

    Args:
        title: Its title, as text.
        lead: A sentence below the title, as text.
        sections: Its parts; empty ones are left out.
        remarks: What comes before the parts, as HTML.
    """
    shown = [section for section in sections if section.body]
    links = "".join(
        f'<a href="#{_anchor(section.heading)}">{html.escape(section.heading)}</a>'
        for section in shown
    )
    parts = "".join(
        f'<section id="{_anchor(section.heading)}"><h2>{html.escape(section.heading)}</h2>'
        f"{section.body}</section>\n"
        for section in shown
    )
    style = (resources.files("neurosam3d.evaluation") / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{html.escape(title)}</h1>\n<p class=lead>{html.escape(lead)}</p>\n"
        f"{remarks}\n<nav>{links}</nav></header>\n{parts}"
        "<footer>Written by NeuroSAM3D. Research software, not for clinical use.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def paragraphs(texts: Sequence[str]) -> str:
    """Return texts as paragraphs."""
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def chart(svg: str, caption: str) -> str:
    """Return a figure with a caption; nothing if there is no figure."""
    if not svg:
        return ""
    return (
        f"<figure><div class=chart>{svg}</div><figcaption>{html.escape(caption)}</figcaption>"
        "</figure>"
    )


def embedded_picture(path: Path) -> str:
    """Return a PNG file as part of the page, its name below it.

    Raises:
        ValueError: If the file cannot be read or is no PNG.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the picture {path}: {error.strerror}") from error
    if not content.startswith(b"\x89PNG\r\n"):
        raise ValueError(f"a picture of a report must be a PNG file, got {path}")
    name = html.escape(path.stem, quote=True)
    source = base64.b64encode(content).decode("ascii")
    return (
        f'<figure class=picture><img alt="{name}" src="data:image/png;base64,{source}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
