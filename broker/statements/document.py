"""A document as values: sections with text and tables, printed as Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """One section: a heading of level 2, paragraphs, and a table of texts where it has one."""

    heading: str
    text: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole document."""

    title: str
    sections: tuple[Section, ...]


def plain(document: Document) -> dict[str, Any]:
    """Give it as plain values; each row of a table by its columns."""
    return {
        "title": document.title,
        "sections": [
            {
                "heading": each.heading,
                "text": list(each.text),
                "table": [dict(zip(each.columns, row, strict=True)) for row in each.rows],
            }
            for each in document.sections
        ],
    }


def markdown(document: Document) -> Iterator[str]:
    """Give its lines as Markdown."""
    yield f"# {document.title}"
    for number, section in enumerate(document.sections, start=1):
        yield from ("", f"## {number} {section.heading}")
        for paragraph in section.text:
            yield from ("", paragraph)
        if section.rows:
            yield from ("", _row(section.columns), _row("---" for _ in section.columns))
            yield from map(_row, section.rows)


def _row(cells: Any) -> str:
    return f"| {' | '.join(_cell(each) for each in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
