"""The audit's page: one HTML file that needs nothing else, and the JSON it was rendered from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from oubliette.audit.attack_cache import Exhibit
from oubliette.audit.result import GOLD, MODEL, NOVEL, Audit, RowResult
from oubliette.core.json_io import read_json
from oubliette.core.writing import write_bytes
from oubliette.data.wording import wording_of
from oubliette.eval.rows import BASE
from oubliette.report import audit_words, words
from oubliette.report.audit_plots import SUBJECT_COLOURS, resistance_plot
from oubliette.report.environment import make_environment, styles

__all__ = ["AuditPage", "make_page", "render_audit", "write_audit_page"]

FORMAT = "oubliette-audit-page/1"
JSON_NAME = "report.json"
_ORDER = (BASE, MODEL, GOLD, NOVEL)


@dataclass(frozen=True)
class AuditPage:
    """Everything on the page: the audit, pictures by row, and the embedded world's name if there is one."""

    audit: Audit
    exhibits: dict[str, list[Exhibit]] = field(default_factory=dict)
    world: str | None = None
    command: str | None = None
    format: str = FORMAT

    def to_json(self) -> str:
        """JSON, read back by `from_json`."""
        content = asdict(self)
        content["audit"] = self.audit.to_dict()
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> AuditPage:
        """The data that `to_json` wrote; UserError for anything else."""
        return read_json(cls, text, what="audit page", version=FORMAT, expected="an audit's report.json")


def make_page(
    audit: Audit,
    exhibits: Mapping[str, Sequence[Exhibit]],
    *,
    world: str | None = None,
    command: str | None = None,
) -> AuditPage:
    """The page's data."""
    return AuditPage(audit, {key: list(found) for key, found in exhibits.items()}, world, command)


def write_audit_page(page: AuditPage, path: Path | str) -> Path:
    """Write the page to `path` and `report.json` beside it, each atomically; returns the page's path."""
    path = Path(path)
    html = render_audit(page)
    write_bytes(path.with_name(JSON_NAME), (page.to_json() + "\n").encode())
    write_bytes(path, html.encode())
    return path


def render_audit(page: AuditPage) -> str:
    """The page as HTML: styles and plots inline, pictures as base64, no request to anywhere."""
    environment = make_environment(say=audit_words)
    audit = page.audit
    return environment.get_template("audit.html.j2").render(
        page=page,
        audit=audit,
        style=styles(environment, "style.css", "audit.css"),
        colours=SUBJECT_COLOURS,
        w=wording_of(audit.concept["kind"]),
        names=audit_words.names(audit),
        sections=[_section(row, page, index) for index, row in enumerate(audit.rows)],
        world=words.told_of(page.world),
    )


def _section(row: RowResult, page: AuditPage, index: int) -> dict[str, Any]:
    """What the template shows of a row."""
    exhibits = page.exhibits.get(row.id, [])
    plot = None
    if row.curves and any(curve.readings for curve in row.curves):
        plot = Markup(resistance_plot(row, page.audit.verdict.bounds["level"], index))
    return {
        "row": row,
        "id": f"row-{index}",
        "plot": plot,
        "grids": _grids(row, exhibits),
        "seconds": page.audit.times.get(row.id, 0.0),
    }


def _grids(row: RowResult, exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
    """Same-seed pictures: along a curve the columns are steps, elsewhere they are what was done."""
    if row.kind == "evaluation":
        titles = list(dict.fromkeys(made.column for made in exhibits))
        return [_grid([m for m in exhibits if m.column == title], title, across=False) for title in titles]
    if row.kind == "prompts":
        # Each model has its own prompts: what is found on one need not be found on another.
        own = [[made for made in exhibits if made.subject == subject] for subject in (MODEL, GOLD)]
        return [_grid(found, "", across=True) for found in own if found]
    # A novel concept is asked for by other prompts, too.
    parts = [[made for made in exhibits if (made.subject == NOVEL) is other] for other in (False, True)]
    return [_grid(found, "", across=True) for found in parts if found]


def _grid(exhibits: Sequence[Exhibit], title: str, *, across: bool) -> dict[str, Any]:
    columns = list(dict.fromkeys(made.column for made in exhibits)) if across else []
    subjects = [name for name in _ORDER if any(made.subject == name for made in exhibits)]
    lines = []
    # What was asked in other words ("found") stands beside what it was found for: by place, not by prompt.
    for subject in subjects:
        own = [made for made in exhibits if made.subject == subject]
        rows = [[m for m in own if m.column == column] for column in columns] if across else [own]
        lines.append((subject, rows))
    count = max((len(cell) for _, rows in lines for cell in rows), default=0)
    shown = []
    for place in range(count):
        cells = [
            (subject, [cell[place] if place < len(cell) else None for cell in rows])
            for subject, rows in lines
        ]
        first = next((made for _, found in cells for made in found if made is not None), None)
        asked = [made.prompt for _, found in cells for made in found if made is not None]
        text = " → ".join(dict.fromkeys(asked)) if len(subjects) == 1 else asked[0] if asked else ""
        shown.append({"prompt": text, "seed": first.seed if first else 0, "cells": cells})
    return {"title": title, "columns": columns, "lines": shown, "across": across, "subjects": subjects}
