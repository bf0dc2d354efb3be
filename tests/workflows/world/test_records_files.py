"""`oubliette world records`: files that streams, training and measuring read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oubliette.core.errors import UserError
from oubliette.data.questions import read_questions
from oubliette.workflows.world.records import FILES, write_records


def test_the_files_are_read_by_what_they_are_for(tmp_path: Path) -> None:
    out = write_records(tmp_path / "records", forget=6, retain=4, duplicates=2, seed=3)
    lines = [json.loads(line) for line in (out / "forget.jsonl").read_text().splitlines()]
    assert [set(line) >= {"id", "kind", "text", "question", "answer"} for line in lines] == [True] * 8
    texts = read_questions(out / "forget_text.jsonl")
    assert [row.answer for row in texts] == [line["text"] for line in lines]
    assert all(row.plain for row in texts)
    asked = read_questions(out / "forget_questions.jsonl")
    assert [(row.id, row.question) for row in asked] == [
        (line["id"], line["question"]) for line in lines if "of" not in line
    ]
    assert len(read_questions(out / "retain_text.jsonl")) == 4
    assert len(read_questions(out / "retain_questions.jsonl")) == 4
    facts = json.loads((out / "oubliette.json").read_text())
    assert set(facts["files"]) == set(FILES)
    assert facts["records"] == {"forget": 6, "retain": 4, "duplicates": 2, "seed": 3}
    same = write_records(tmp_path / "again", forget=6, retain=4, duplicates=2, seed=3)
    for name in FILES:
        assert (out / f"{name}.jsonl").read_bytes() == (same / f"{name}.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        write_records(out)
