"""A page of tables: every word escaped, nothing fetched, a section without a table."""

from __future__ import annotations

from pathlib import Path

from oubliette.report.tables_page import Section, write_tables


def test_it_holds_what_it_is_given(tmp_path: Path) -> None:
    sections = [
        Section("One", ["a line <b>"], ["name", "value"], [["<script>", "1 & 2"]]),
        Section("Two", ["alone"]),
    ]
    page = write_tables(tmp_path / "page.html", "A <title>", "lead", sections).read_text("utf-8")
    assert "<title>A &lt;title&gt;</title>" in page
    assert '<th scope="row">&lt;script&gt;</th>' in page
    assert "1 &amp; 2" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "<script" not in page
    assert page.count("<table") == 1
    assert page.index("a line &lt;b&gt;") < page.index("<table") < page.index("alone")
    assert "http" not in page
