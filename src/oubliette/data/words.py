"""Putting words into sentences: articles, whole-word search and replacement."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CONSONANT_SOUND = re.compile(r"(uni([^nm]|$)|eu|use|user|usual|one\b|once|ufo)", re.IGNORECASE)
_SILENT_H = re.compile(r"(hour|honest|honou?r|heir)", re.IGNORECASE)
_DETERMINED = re.compile(r"(an?|the|my|some|one|his|her|their|our) ", re.IGNORECASE)
SLOT = "{}"


def article(word: str) -> str:
    """ "a" or "an", by the sound a word most likely begins with."""
    if _SILENT_H.match(word) or (word[:1].lower() in "aeiou" and not _CONSONANT_SOUND.match(word)):
        return "an"
    return "a"


def with_article(word: str) -> str:
    """A common noun with its article; a word that has one, or that is a name (capital letters), as it is."""
    if not word or _DETERMINED.match(word) or word != word.lower():
        return word
    return f"{article(word)} {word}"


def fill(template: str, word: str) -> str:
    """The template with `word` in each slot; an "a" or "an" before the slot fits the word or goes if it has
    its own.
    """

    def put(match: re.Match[str]) -> str:
        given = match.group(1)
        if not given or _DETERMINED.match(word):
            return word
        fitting = article(word)
        return f"{fitting.capitalize() if given[0].isupper() else fitting} {word}"

    return re.sub(r"(?:\b([Aa]n?) )?\{\}", put, template)


def pattern(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the words (or its plural in s) as a whole word, whatever the case."""
    any_of = "|".join(
        re.escape(word).replace(r"\ ", r"\s+") for word in sorted(words, key=len, reverse=True) if word
    )
    return re.compile(rf"(?<!\w)(?:{any_of})(?:s|'s|es)?(?!\w)" if any_of else r"(?!)", re.IGNORECASE)


def slotted(caption: str, word: str) -> str | None:
    """The caption with a slot in place of each `word`, or None if the word is not in it."""
    if not word:
        return None
    found, count = re.subn(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _: SLOT, caption, flags=re.IGNORECASE)
    return found if count else None
