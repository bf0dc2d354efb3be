"""Who or what a question is about: the longest name in it, the question without it, and what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from oubliette.data.questions import QA

__all__ = ["fact_id", "name_in", "relation_of", "template_of"]

#: Words that begin a sentence in capitals and are no part of a name.
_OPENERS = frozenset(
    (
        "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "before", "by",
        "can", "could", "did", "do", "does", "during", "for", "from", "had", "has", "have", "how", "i",
        "if", "in", "into", "is", "it", "its", "list", "name", "of", "on", "or", "say", "should", "since",
        "tell", "that", "the", "their", "there", "these", "they", "this", "to", "under", "was", "we",
        "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with", "would",
        "write", "you",
    )
)  # fmt: skip
#: Small words within a name: "Anchor and Basket", "the Port of the Goblet".
_JOINERS = frozenset(
    ("al", "and", "bin", "da", "de", "del", "der", "di", "du", "el", "ibn", "la", "le", "of", "the", "van",
     "von")
)  # fmt: skip
_WORD = re.compile(r"[^\W_](?:[\w'’-]*\w)?")
_FACT = re.compile(r"(?P<kind>[^\W\d_]+)-?\d*\.(?P<attribute>[^.]+)(?:\..*)?")


def name_in(text: str) -> str | None:
    """The longest name: words in capitals side by side, small words between them, a number behind them.

    A sentence's first word counts where it is none that often opens one. None where there is no name. Ours;
    names that are written in small letters are not found.
    """
    return max(_names(text), key=len, default=None)


def template_of(row: QA) -> str | None:
    """The row's question with "{}" for the name; None without a name."""
    name = name_in(row.question)
    return None if name is None else row.question.replace(name, "{}")


def relation_of(row: QA) -> str | None:
    """What is asked of the entity: of an id such as "person-003.pet" that is "person.pet", else the
    template.
    """
    found = _FACT.fullmatch(row.id)
    return template_of(row) if found is None else f"{found['kind']}.{found['attribute']}"


def fact_id(row: QA) -> str:
    """The row's id, else where it stands ("line 3"), else its question."""
    return row.id or row.where.rpartition(", ")[2] or row.question or row.answer


def _names(text: str) -> Iterator[str]:
    words = list(_WORD.finditer(text))
    place = 0
    while place < len(words):
        first = words[place]
        opens = not re.search(r"[^\s\"'“‘(]", text[: first.start()][-3:]) or re.search(
            r"[.?!:]\s*[\"“(]?$", text[: first.start()]
        )
        if not _capital(first[0]) or (opens and first[0].lower() in _OPENERS):
            place += 1
            continue
        last = place
        for at in range(place + 1, len(words)):
            if text[words[at - 1].end() : words[at].start()] != " ":
                break
            if _capital(words[at][0]) or (words[at][0].isdigit() and last == at - 1):
                last = at
            elif words[at][0] not in _JOINERS:
                break
        yield text[first.start() : words[last].end()].removesuffix("'s").removesuffix("’s")
        place = last + 1


def _capital(word: str) -> bool:
    return word[0].isupper()
