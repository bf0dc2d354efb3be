"""The page: complete in itself, rendered from its JSON alone, and no wider than a phone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser import probe
from reader import read
from synthetic import CONCEPTS, make_evaluation, make_report

from oubliette.core.errors import UserError
from oubliette.report.data import ReportData
from oubliette.report.page import render, write_page


@pytest.fixture(scope="module")
def data() -> ReportData:
    return make_report()


@pytest.fixture(scope="module")
def html(data: ReportData) -> str:
    return render(data)


def test_tags_are_closed_and_ids_are_their_own(html: str) -> None:
    reader = read(html)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    missing = {a[1:] for a in reader.addresses if a.startswith("#")} - set(reader.ids)
    assert missing == set()


def test_nothing_is_fetched(html: str) -> None:
    for address in read(html).addresses:
        assert address.startswith(("data:image/png;base64,", "#")), address[:80]
    assert not re.search(r"@import|url\((?!#)|<link|<iframe|<script src", html)


def test_everything_is_on_it(html: str, data: ReportData) -> None:
    text = " ".join(" ".join(read(html).text).split())
    for name, _, _, near in CONCEPTS:
        assert name in text
        assert near in text
    for part in (
        "suppressed on prompts",
        "not erased",
        "destroyed",
        "forget loss",
        "name: doco",
        "DiffusionPipeline.from_pretrained",
        "What the nano world can show",
        "What it cannot",
        "KID",
        "CMMD",
        "0.050 [0.020, 0.080]",
        "AUROC 0.990 [0.970, 1.000], 80 pictures with it and 60 without",
        "seed 0",
        "torch 2.15.0",
        "oubliette demo",
        "at or below 10 %",
    ):
        assert part in text, part
    assert html.count("<img ") == sum(len(line.pictures) for grid in data.grids for line in grid.lines)
    assert html.count("<svg ") == 1 + 2 * len(CONCEPTS) + len(data.curves)


def test_the_page_is_rendered_from_its_json_alone(data: ReportData, html: str, tmp_path: Path) -> None:
    write_page(data, tmp_path / "report.html")
    again = ReportData.read(tmp_path / "report.json")
    assert again == data
    assert render(again) == html
    assert (tmp_path / "report.html").read_text("utf-8") == html
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}


def test_figures_on_the_page_are_those_of_the_json(html: str) -> None:
    figure = make_evaluation().row("UCE").concepts[0].leakage_of("withheld")
    assert figure is not None
    assert figure.leakage is not None
    assert figure.rate.hits == 8
    assert "16\u00a0% (8\u00a0of\u00a050)" in html
    assert f"{100 * figure.leakage.value:.0f}\u00a0% [{100 * figure.leakage.low:.0f},\u00a0" in html


def test_names_and_prompts_are_escaped(data: ReportData) -> None:
    grid = data.grids[0]
    line = replace(grid.lines[0], prompt='<script>alert("x")</script> & co')
    page = render(replace(data, title="<b>bold</b>", grids=[replace(grid, lines=[line])]))
    assert "<script>alert" not in page
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_complaints_stand_at_the_top(data: ReportData) -> None:
    broken = replace(data.evaluation, complaints=["car: the oracle finds it everywhere"])
    page = render(replace(data, evaluation=broken))
    assert page.index("Do not trust these figures") < page.index('id="concept-0"')


def test_a_bare_report_is_a_page(data: ReportData) -> None:
    """No pictures, runs or curves, and a concept that no judge covers."""
    rows = [
        replace(
            row, concepts=[replace(f, judge=None, leakage=[], utility=None, clip=[]) for f in row.concepts]
        )
        for row in data.evaluation.rows
    ]
    page = render(ReportData("Bare", replace(data.evaluation, rows=rows)))
    assert "Not checked: no judge covers this concept" in page
    assert "What the nano world can show" not in page
    assert read(page).open == []


def test_foreign_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"title": 3}')
    with pytest.raises(UserError, match=r"expected a report\.json"):
        ReportData.read(tmp_path / "report.json")
    with pytest.raises(UserError, match="cannot be read"):
        ReportData.read(tmp_path / "nothing.json")


def test_in_a_browser(data: ReportData, tmp_path: Path) -> None:
    """At a phone's width and a desk's: nothing sticks out, every picture shows, nothing is requested."""
    page = write_page(data, tmp_path / "report.html")
    for width in (390, 1200):
        found = probe(page, width, tmp_path)
        assert found["window"] == width
        assert found["content"] <= width
        assert (found["broken"], found["requests"]) == (0, 0)
        assert found["pictures"] == sum(len(line.pictures) for grid in data.grids for line in grid.lines)
