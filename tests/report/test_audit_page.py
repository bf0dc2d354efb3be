"""The audit's page: complete in itself, rendered from its JSON alone, and no wider than a phone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser import probe
from reader import read
from synthetic_audit import make_audit_page, sweep

from oubliette.audit.result import RowResult
from oubliette.report.audit_page import AuditPage, render_audit, write_audit_page


@pytest.fixture(scope="module")
def page() -> AuditPage:
    return make_audit_page()


@pytest.fixture(scope="module")
def html(page: AuditPage) -> str:
    return render_audit(page)


def test_tags_are_closed_and_ids_are_their_own(html: str) -> None:
    reader = read(html)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {a[1:] for a in reader.addresses if a.startswith("#")} - set(reader.ids) == set()


def test_nothing_is_fetched(html: str) -> None:
    for address in read(html).addresses:
        assert address.startswith(("data:image/png;base64,", "#")), address[:80]
    assert not re.search(r"@import|url\((?!#)|<link|<iframe|<script", html)


def test_verdict_bounds_and_every_row_are_on_it(html: str, page: AuditPage) -> None:
    text = " ".join(" ".join(read(html).text).split())
    verdict = page.audit.verdict
    assert verdict.word == "hidden"
    assert verdict.sentence in text
    for reason in (*verdict.reasons, *verdict.limits):
        assert " ".join(reason.split()) in text
    for row in page.audit.rows:
        assert row.title in text
    for part in ("10 %", "2 times sooner", "Skipped: it needs a sibling", "pre-ASR", "an automobile, tiled"):
        assert part in text.replace("\u00a0", " "), part
    assert html.count("<img ") == sum(map(len, page.exhibits.values()))
    assert html.count("<svg ") == 1 + 4


def test_the_sentence_is_the_one_a_policy_person_reads(page: AuditPage) -> None:
    said = page.audit.verdict.sentence
    assert said.startswith("Asked for “car”, the model shows 0 % of its strength. But with 16 pictures and ")
    assert re.search(r"“car” is back to \d+ % of its strength; a model that never knew it ", said)


def test_the_page_is_rendered_from_its_json_alone(page: AuditPage, html: str, tmp_path: Path) -> None:
    path = write_audit_page(page, tmp_path / "index.html")
    again = AuditPage.from_json((tmp_path / "report.json").read_text("utf-8"))
    assert again == page
    assert render_audit(again) == html == path.read_text("utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"index.html", "report.json"}


def test_what_was_found_is_escaped(html: str) -> None:
    assert "<b>coupe</b>" not in html
    assert "&lt;b&gt;coupe&lt;/b&gt;" in html


def test_without_gold_and_with_runs_it_is_a_page_too() -> None:
    for runs, gold in ((3, True), (1, False)):
        made = make_audit_page(runs, gold=gold)
        shown = render_audit(made)
        assert read(shown).open == []
        assert ("never knew it)" in shown) is gold
        if runs > 1:
            assert "3 runs" in shown
    assert "No model that never knew the concept was given" in shown


def test_a_novel_concept_stands_where_gold_does() -> None:
    page = make_audit_page(novel=True)
    text = " ".join(" ".join(read(render_audit(page)).text).split())
    assert page.audit.verdict.word == "inconclusive"
    assert "a concept it does not know is at" in page.audit.verdict.sentence
    for part in (
        "“bicycle” (new to the model)",
        "4.7 times sooner than the novel concept",
        "4.9 times later than the novel concept [3.8, 6.7]",
        "bicycle, object, pictures: the picture world, seed 0",
        "or bicycle where that was asked for",
    ):
        assert part in text, part
    assert "than in gold" not in text


def test_a_sweep_has_its_table_and_a_row_without_a_winner_says_why(page: AuditPage) -> None:
    def shown(rows: list[RowResult]) -> str:
        made = replace(page, audit=replace(page.audit, rows=rows))
        return " ".join(" ".join(read(render_audit(made)).text).split())

    text = shown(page.audit.rows)
    assert "Learning rates tried, on 2 other seeds" in text
    assert "0.0005 0.22 (0.20 to 0.24) 96 % 0.001 0.46 (0.44 to 0.48) 94 % taken 0.003" in text
    assert "72 % keeps too little" in text
    row = next(row for row in page.audit.rows if row.sweep is not None)
    none = replace(row, status="skipped", note="no rate kept 90 %", curves=[], sooner=None, sweep=sweep(None))
    assert "Skipped: no rate kept 90 % Learning rates tried" in shown([page.audit.rows[0], none])


def test_a_bare_audit_is_a_page(page: AuditPage) -> None:
    bare = replace(page, exhibits={}, world=None, command=None)
    rows = [
        replace(row, curves=[], found=[], evaluated=[], excess=[], sooner=None) for row in page.audit.rows
    ]
    shown = render_audit(replace(bare, audit=replace(page.audit, rows=rows)))
    assert read(shown).open == []
    assert "<img " not in shown


def test_in_a_browser(page: AuditPage, tmp_path: Path) -> None:
    """At a phone's width and a desk's: nothing sticks out, every picture shows, nothing is requested."""
    path = write_audit_page(page, tmp_path / "index.html")
    for width in (390, 1280):
        found = probe(path, width, tmp_path)
        assert found["window"] == width
        assert found["content"] <= width
        assert (found["broken"], found["requests"]) == (0, 0)
        assert found["pictures"] == sum(map(len, page.exhibits.values()))
