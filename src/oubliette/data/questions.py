"""Question sets for language models: JSONL with question/answer, prompt/completion or text alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oubliette.data.jsonl import objects
from oubliette.errors import UserError

_SHAPES = (("question", "answer"), ("prompt", "completion"))
_EXPECTED = '{"question": ..., "answer": ...}, {"prompt": ..., "completion": ...} or {"text": ...}'


@dataclass(frozen=True)
class QA:
    """A question with its answer (the loss is on the answer alone), or plain text (question "", all of it
    counts).
    """

    question: str
    answer: str

    @property
    def plain(self) -> bool:
        """Whether this is text alone."""
        return not self.question


def read_questions(path: Path | str) -> list[QA]:
    """Read a JSONL file of one object a line; blank lines are skipped, other keys ignored.

    Raises UserError with file and line number for what is no JSON object, lacks the keys, or holds
    something other than text in them, and for a file without rows.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            rows = [_row(where, content) for where, content in objects(path, file, _EXPECTED)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 (byte {error.start})") from error
    if not rows:
        raise UserError(f"{path}: holds no rows; expected lines of {_EXPECTED}")
    return rows


def _row(where: str, content: dict[str, Any]) -> QA:
    for question, answer in _SHAPES:
        if question in content or answer in content:
            return QA(_text(where, content, question), _text(where, content, answer))
    if "text" in content:
        return QA("", _text(where, content, "text"))
    raise UserError(f"{where}: has the keys {', '.join(sorted(content)) or 'none'}; expected {_EXPECTED}")


def _text(where: str, content: dict[str, Any], key: str) -> str:
    if key not in content:
        raise UserError(f"{where}: no '{key}'; found {', '.join(sorted(content))}")
    value = content[key]
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' must be text, found {type(value).__name__}")
    if not value.strip():
        raise UserError(f"{where}: '{key}' is empty")
    return value
