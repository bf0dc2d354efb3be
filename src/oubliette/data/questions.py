"""Question sets for language models: JSON lines, or a JSON array, in the shapes that the field writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError, suggest
from oubliette.data.jsonl import read_objects

__all__ = ["QA", "Turn", "read_questions"]

Turn = tuple[str, str]
"""(role, content) of a conversation: "system", "user" or "assistant"."""

_SHAPES = (("question", "answer"), ("prompt", "completion"))
#: What only measuring reads of a row: our keys, and TOFU's.
_MEASURED = {
    "alternatives": ("alternatives", "paraphrased_answer"),
    "paraphrases": ("paraphrases", "paraphrased_question"),
}
_CONVERSATIONS = ("messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system"}
_KNOWN_ROLES = ("system", "user", "assistant")
_EXPECTED = (
    '{"question": ..., "answer": ...}, {"prompt": ..., "completion": ...}, {"messages": [...]}, '
    '{"conversations": [...]}, {"instruction": ..., "output": ...} or {"text": ...}'
)


@dataclass(frozen=True)
class QA:
    """A question with its answer (the loss is on the answer alone), or plain text (question "", all of it
    counts).

    `history` are the turns before the question, where it belongs to a conversation. `alternatives` are
    answers as right as the first, `paraphrases` the question in other words; both are for measuring alone.
    `where` is where the row stands ("forget.jsonl, line 3"), for messages; it has no part in comparisons.
    """

    question: str
    answer: str
    history: tuple[Turn, ...] = ()
    where: str = field(default="", compare=False)
    alternatives: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether this is text alone."""
        return not self.question

    def facts(self) -> dict[str, Any]:
        """What the row says, as plain data."""
        said = {"question": self.question, "answer": self.answer}
        return {**said, "history": self.history} if self.history else said


def read_questions(path: Path | str) -> list[QA]:
    """Read a JSONL file of one object a line, or a JSON array of objects; other keys are ignored.

    `messages` (role and content) and `conversations` (from and value) make a row of each answer that the
    assistant gives, with all that was said before it. `instruction` and `input` make the question of an
    `output`. A list of answers makes a row of each, lists of as many prompts and completions a row of each
    pair, and lists of messages a conversation. Raises UserError with file and line (of an array: row) for
    what is no JSON object, lacks the keys, or holds something other than text in them, and for a file without
    rows.
    """
    path = Path(path)
    rows = [row for where, content in read_objects(path, _EXPECTED) for row in _rows(where, content)]
    if not rows:
        raise UserError(f"{path}: holds no rows; expected {_EXPECTED}")
    return rows


def _rows(where: str, content: dict[str, Any]) -> list[QA]:
    for key in _CONVERSATIONS:
        if key in content:
            return _conversation(where, key, _turns(where, key, content[key]))
    for question, answer in _SHAPES:
        if question in content or answer in content:
            return _pairs(where, content, question, answer)
    if "instruction" in content or "output" in content:
        asked = [_text(where, content, "instruction")]
        if content.get("input"):
            asked.append(_text(where, content, "input"))
        return [QA("\n\n".join(asked), _text(where, content, "output"), where=where)]
    if "text" in content:
        return [QA("", _text(where, content, "text"), where=where)]
    raise UserError(f"{where}: has the keys {', '.join(sorted(content)) or 'none'}; expected {_EXPECTED}")


def _pairs(where: str, content: dict[str, Any], question: str, answer: str) -> list[QA]:
    for key in (question, answer):
        if key not in content:
            raise UserError(f"{where}: no '{key}'; found {', '.join(sorted(content))}")
    asked, given = content[question], content[answer]
    if _are_turns(asked) and _are_turns(given):
        before = _turns(where, question, asked)
        return _conversation(where, answer, [*before, *_turns(where, answer, given)], first=len(before))
    answers = given if isinstance(given, list) and given else [given]
    questions = asked if isinstance(asked, list) else [asked] * len(answers)
    if len(questions) != len(answers):
        raise UserError(
            f"{where}: {len(questions)} in '{question}' and {len(answers)} in '{answer}'; expected as many"
        )
    more: dict[str, Any] = {}
    if not isinstance(asked, list) and not isinstance(given, list):
        more = {name: _texts(where, content, keys) for name, keys in _MEASURED.items()}
    return [
        QA(_plain(where, question, one), _plain(where, answer, other), where=where, **more)
        for one, other in zip(questions, answers, strict=True)
    ]


def _texts(where: str, content: dict[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """The texts, one or several, that lie under the first of the keys that is there."""
    key = next((key for key in keys if content.get(key)), None)
    if key is None:
        return ()
    found = content[key]
    return tuple(_plain(where, key, text) for text in (found if isinstance(found, list) else [found]))


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _turns(where: str, key: str, value: Any) -> list[Turn]:
    """Turns as OpenAI ("role", "content") or ShareGPT ("from", "value") writes them."""
    if not _are_turns(value):
        raise UserError(f"{where}: '{key}' must be a list of turns with role and content")
    found: list[Turn] = []
    for number, turn in enumerate(value, start=1):
        place = f"{where}: '{key}', turn {number}"
        said = turn.get("role", turn.get("from"))
        role = _ROLES.get(str(said), str(said))
        if role not in _KNOWN_ROLES:
            raise UserError(f"{place}: no role {said!r}; {suggest(role, [*_KNOWN_ROLES, *_ROLES])}")
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
            content = "".join(str(part["text"]) for part in content)
        found.append((role, _plain(where, f"{key}, turn {number}", content)))
    return found


def _conversation(where: str, key: str, turns: Sequence[Turn], first: int = 0) -> list[QA]:
    """A row of each of the assistant's answers from turn `first` on."""
    rows = []
    for place, (role, content) in enumerate(turns):
        if role != "assistant" or place < first:
            continue
        if place == 0 or turns[place - 1][0] != "user":
            raise UserError(f"{where}: '{key}': an answer of the assistant follows no turn of the user")
        rows.append(QA(turns[place - 1][1], content, tuple(turns[: place - 1]), where))
    if not rows:
        raise UserError(f"{where}: '{key}' holds no answer of the assistant to learn from")
    return rows


def _text(where: str, content: dict[str, Any], key: str) -> str:
    if key not in content:
        raise UserError(f"{where}: no '{key}'; found {', '.join(sorted(content))}")
    return _plain(where, key, content[key])


def _plain(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' must be text, found {type(value).__name__}")
    if not value.strip():
        raise UserError(f"{where}: '{key}' is empty")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{where}: '{key}' holds half a character (a lone surrogate), which is no text")
    return value
