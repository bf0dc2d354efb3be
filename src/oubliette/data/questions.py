"""Question sets for language models, in the shapes that the field writes: JSON lines, an array, parquet."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError, suggest
from oubliette.data.jsonl import read_objects

__all__ = ["QA", "Turn", "read_questions", "rows_of"]

Turn = tuple[str, str]
"""(role, content) of a conversation: "system", "user" or "assistant"."""

#: (question, answer) as TOFU, WMDP and MUSE's knowmem write them; as trl; as RWKU; as MUSE's verbmem.
_SHAPES = (("question", "answer"), ("prompt", "completion"), ("query", "answer"), ("prompt", "gt"))
#: What only measuring reads of a row: our keys, and TOFU's.
_MEASURED = {
    "alternatives": ("alternatives", "paraphrased_answer"),
    "paraphrases": ("paraphrases", "paraphrased_question"),
    "perturbed": ("perturbed_answers", "perturbed_answer"),
    "refusals": ("refusals",),
}
_OPTIONAL = ["id", "choices", "answer_index", *(key for keys in _MEASURED.values() for key in keys)]
#: A key this like one of the optional ones is taken for a slip: left unread, it would never be missed.
_SLIP = 0.85
_CONVERSATIONS = ("messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system"}
_KNOWN_ROLES = ("system", "user", "assistant")
_EXPECTED = (
    '{"question": ..., "answer": ...}, {"prompt": ..., "completion": ...}, {"messages": [...]}, '
    '{"conversations": [...]}, {"instruction": ..., "output": ...}, {"query": ..., "answer": ...}, '
    '{"prompt": ..., "gt": ...} or {"text": ...}'
)


@dataclass(frozen=True)
class QA:
    """A question with its answer (the loss is on the answer alone), or plain text (question "", all of it
    counts).

    `history` are the turns before the question, where it belongs to a conversation. The rest is for measuring
    alone: `alternatives` are answers as right as the first, `paraphrases` the question in other words,
    `perturbed` wrong answers worded as the right one, `refusals` ways to decline this question, `choices` the
    answers to pick from, of which `answer_index` (from 0) is right, `id` the row's name. `where` is where the
    row stands ("forget.jsonl, line 3"), for messages; it has no part in comparisons.
    """

    question: str
    answer: str
    history: tuple[Turn, ...] = ()
    where: str = field(default="", compare=False)
    alternatives: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    perturbed: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    answer_index: int | None = None
    id: str = ""

    @property
    def plain(self) -> bool:
        """Whether this is text alone."""
        return not self.question

    @property
    def wrong(self) -> tuple[str, ...]:
        """The wrong answers: the perturbed ones, or else the choices beside the right one."""
        return self.perturbed or tuple(
            choice for index, choice in enumerate(self.choices) if index != self.answer_index
        )

    def facts(self) -> dict[str, Any]:
        """What the row says, as plain data."""
        said = {"question": self.question, "answer": self.answer}
        return {**said, "history": self.history} if self.history else said


def read_questions(path: Path | str) -> list[QA]:
    """Read a JSONL file of one object a line, a JSON array of objects, or parquet; other keys are ignored.

    `messages` (role and content) and `conversations` (from and value) make a row of each answer that the
    assistant gives, with all that was said before it. `instruction` and `input` make the question of an
    `output`. A list of answers makes a row of each, lists of as many prompts and completions a row of each
    pair, and lists of messages a conversation. With `choices` the `answer` may be a number from 0 (WMDP,
    MMLU), a letter, or the text of one of them. Raises UserError with file and line (of an array or a table:
    row) for what is no JSON object, lacks the keys, or holds something other than text in them, for choices
    that are fewer than two, twice the same or not as many as in the rows before, an answer that is none of
    them, a key that is nearly an optional one, and for a file without rows.
    """
    path = Path(path)
    rows = [row for where, content in read_objects(path, _EXPECTED) for row in rows_of(where, content)]
    if not rows:
        raise UserError(f"{path}: holds no rows; expected {_EXPECTED}")
    counts = [(len(row.choices), row.where) for row in rows if row.choices]
    for count, where in counts:
        if count != counts[0][0]:
            raise UserError(f"{where}: {count} choices, expected {counts[0][0]} as in {counts[0][1]}")
    return rows


def rows_of(where: str, content: dict[str, Any]) -> list[QA]:
    """The rows that one object makes, as `read_questions` has them; `where` opens the line of a UserError."""
    for key in content.keys() - _OPTIONAL:
        if near := get_close_matches(key, _OPTIONAL, n=1, cutoff=_SLIP):
            raise UserError(f"{where}: no key is called '{key}'; did you mean '{near[0]}'?")
    name = content.get("id", "")
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"{where}: 'id' must be a text or a whole number, found {type(name).__name__}")
    return [replace(row, id=str(name)) if name != "" else row for row in _shaped(where, content)]


def _shaped(where: str, content: dict[str, Any]) -> list[QA]:
    for key in _CONVERSATIONS:
        if key in content:
            return _conversation(where, key, _turns(where, key, content[key]))
    named = [shape for shape in _SHAPES if all(key in content for key in shape)]
    for question, answer in named or _SHAPES:
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
    more: dict[str, Any] = {}
    if "choices" in content or "answer_index" in content:
        more = _choices(where, content, answer)
        if answer not in content or not isinstance(content[answer], str) or "answer_index" not in content:
            content = {**content, answer: more["choices"][more["answer_index"]]}
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
    if not isinstance(asked, list) and not isinstance(given, list):
        more |= {name: _texts(where, content, keys) for name, keys in _MEASURED.items()}
        for wrong in more["perturbed"]:
            if wrong in (given, *more["alternatives"]):
                raise UserError(f"{where}: {wrong!r} stands among the right answers and the perturbed ones")
    return [
        QA(_plain(where, question, one), _plain(where, answer, other), where=where, **more)
        for one, other in zip(questions, answers, strict=True)
    ]


def _choices(where: str, content: dict[str, Any], answer: str) -> dict[str, Any]:
    """The choices and the number of the right one, which the answer says where no `answer_index` does."""
    found = content.get("choices")
    if not isinstance(found, list) or len(found) < 2:
        what = f"{len(found)}" if isinstance(found, list) else f"a {type(found).__name__}"
        raise UserError(f"{where}: 'choices' must be a list of two texts or more, found {what}")
    choices = tuple(_plain(where, "choices", text) for text in found)
    twice = next((text for index, text in enumerate(choices) if text in choices[:index]), None)
    if twice is not None:
        raise UserError(f"{where}: {twice!r} stands twice among the choices")
    key = "answer_index" if "answer_index" in content else answer
    right = content.get(key)
    if isinstance(right, str) and key == answer:
        letters = string.ascii_uppercase[: len(choices)]
        if right in choices:
            right = choices.index(right)
        elif len(right) == 1 and right in letters:
            right = letters.index(right)
        else:
            raise UserError(f"{where}: '{answer}' is {right!r}, which is none of the {len(choices)} choices")
    if not isinstance(right, int) or isinstance(right, bool):
        raise UserError(f"{where}: '{key}' must be a whole number, found {type(right).__name__}")
    if not 0 <= right < len(choices):
        raise UserError(f"{where}: '{key}' is {right}, expected 0 to {len(choices) - 1}")
    return {"choices": choices, "answer_index": right}


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
