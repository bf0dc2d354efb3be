"""Render the page: one HTML file that needs nothing else, and the JSON it was rendered from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from oubliette.core.writing import write_bytes
from oubliette.data.wording import wording_of
from oubliette.eval.grids import Grid
from oubliette.eval.metric import by_metric, number
from oubliette.eval.remarks import remarks
from oubliette.eval.result import Evaluation
from oubliette.report import words
from oubliette.report.colours import colour_names
from oubliette.report.data import ReportData
from oubliette.report.environment import make_environment, styles
from oubliette.report.plots import curve_plot, leakage_plot, utility_plot

JSON_NAME = "report.json"


def write_page(data: ReportData, path: Path | str) -> Path:
    """Write the page to `path` and `report.json` beside it, each atomically; returns the page's path."""
    path = Path(path)
    page = render(data)
    write_bytes(path.with_name(JSON_NAME), (data.to_json() + "\n").encode())
    write_bytes(path, page.encode())
    return path


def render(data: ReportData) -> str:
    """The page as HTML: styles and plots inline, pictures as base64, no request to anywhere."""
    environment = make_environment()
    return environment.get_template("template.html.j2").render(
        data=data,
        evaluation=data.evaluation,
        style=styles(environment, "style.css"),
        sections=_sections(data),
        colours=_colours(data.evaluation),
        w=wording_of(data.evaluation.rows[0].concepts[0].kind),
        methods={run.name: run.method for run in data.runs},
        curves=[(curve, Markup(curve_plot(curve, index))) for index, curve in enumerate(data.curves)],
        world=words.told_of(data.world),
        base=words.short(data.evaluation.base),
        metrics=by_metric(data.evaluation.metrics),
        number=number,
    )


def _sections(data: ReportData) -> list[dict[str, Any]]:
    """What the template shows of each concept."""
    evaluation = data.evaluation
    sections = []
    for index, figures in enumerate(evaluation.rows[0].concepts):
        checked = figures.judge is not None
        sections.append(
            {
                "name": figures.name,
                "kind": figures.kind,
                "anchor": figures.anchor,
                "remarks": [
                    line.removeprefix(mark)
                    for line in remarks(evaluation.rows, evaluation.bounds)
                    if line.startswith(mark := f"{figures.name}: ")
                ],
                "near": figures.near,
                "judge": figures.judge,
                "id": f"concept-{index}",
                "rows": [(row, row.concepts[index]) for row in evaluation.rows],
                "grids": [_grid(grid, evaluation) for grid in data.grids if grid.group == figures.name],
                "leakage": Markup(leakage_plot(evaluation, index)) if checked else None,
                "utility": Markup(utility_plot(evaluation, index)) if checked and figures.utility else None,
                "splits": list(dict.fromkeys(figure.split for figure in figures.leakage)),
                "other_judges": list(
                    dict.fromkeys(figure.judge for figure in figures.leakage if figure.judge != figures.judge)
                ),
            }
        )
    return sections


def _grid(grid: Grid, evaluation: Evaluation) -> dict[str, Any]:
    return {"grid": grid, "names": [words.label(name, evaluation) for name in grid.columns]}


def _colours(evaluation: Evaluation) -> dict[str, str]:
    return colour_names(
        [row.name for row in evaluation.rows if row.role == "model"],
        [row.name for row in evaluation.rows if row.role != "model"],
    )
