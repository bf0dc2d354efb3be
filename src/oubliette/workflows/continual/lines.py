"""A stream as JSON lines: a record or a group of records a line, or what a request of the YAML form takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.validation import validated
from oubliette.data.jsonl import read_lines
from oubliette.data.questions import QA, rows_of
from oubliette.workflows.continual.request import Recorded, StreamRequest

__all__ = ["requests_in"]

_EXPECTED = (
    'a record as --forget has them ({"question": ..., "answer": ...}, {"text": ...}), a list of records, or '
    'what a request takes ({"concept": ...}, {"forget": FILE})'
)
_ASKED = ("question", "answer")
#: What tells a request of the YAML form from a record.
_REQUESTED = ("concept", "forget")


def requests_in(path: Path) -> list[StreamRequest]:
    """The requests of a JSONL file, one a line.

    Of a record with a text and a question with its answer the text is forgotten, and the question asked
    afterwards; of any other what is forgotten is asked. A line's `id` is that of its first record. UserError
    with file and line for what is neither record, list of records nor request, for a record with half of
    question and answer, and for a text without them where others of the stream have both.
    """
    found: list[StreamRequest] = []
    asked = alone = ""  # where a text first stands with a question, and without one
    for where, content in read_lines(path):
        if isinstance(content, dict) and any(key in content for key in _REQUESTED):
            found.append(validated(StreamRequest, content, where))
            continue
        rows: list[QA] = []
        questions: list[QA] = []
        records = content if isinstance(content, list) and content else [content]
        for record in records:
            if not isinstance(record, dict):
                raise UserError(f"{where}: found a {type(record).__name__}, expected {_EXPECTED}")
            own, after = _split(where, record)
            rows, questions = rows + own, questions + after
            if "text" in record:
                asked, alone = (asked or where, alone) if after else (asked, alone or where)
        if asked and alone:
            raise UserError(f"{alone}: a record without its question, which that of {asked} has")
        name = rows[0].id or where.rpartition(", ")[2]
        found.append(Recorded(id=name, rows=tuple(rows), asked=tuple(questions)))
    return found


def _split(where: str, record: dict[str, Any]) -> tuple[list[QA], list[QA]]:
    """What is forgotten of a record, and what is asked afterwards where that is something else."""
    there = [key for key in _ASKED if key in record]
    if "text" not in record or not there:
        return rows_of(where, record), []
    if len(there) == 1:
        lacking = next(key for key in _ASKED if key not in there)
        raise UserError(f"{where}: a record without its {lacking}; found {', '.join(sorted(record))}")
    text = {key: value for key, value in record.items() if key in ("id", "text")}
    rest = {key: value for key, value in record.items() if key != "text"}
    return rows_of(where, text), rows_of(where, rest)
