"""A page of tables: one HTML file that needs nothing else, of sections with a few lines and a table each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oubliette.core.writing import write_bytes
from oubliette.report.environment import make_environment, styles

__all__ = ["Section", "write_tables"]


@dataclass(frozen=True)
class Section:
    """A heading, what must be said above the table, and the table, which may be missing."""

    title: str
    lines: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())


def write_tables(path: Path | str, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page to `path`, atomically, every word escaped; returns the path."""
    environment = make_environment()
    page = environment.get_template("tables.html.j2").render(
        title=title, lead=lead, sections=sections, style=styles(environment, "style.css")
    )
    write_bytes(path, page.encode())
    return Path(path)
