"""What a record of each kind looks like: labelled fields, one question and its answer, all made up.

The layouts are those of the PCH data of FIT (2601.21682): a person, a paper, code, and a harmful item with a
title, a category and a description, in whose place there are rumours that harm nobody. Poems are ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from oubliette.world.text.words import ADJECTIVES, FAMILY, GIVEN, NOUNS, POOLS, TOWNS

__all__ = ["LAYOUTS", "Kind", "Laid"]

Kind = Literal["person", "paper", "poem", "code", "rumour"]
Laid = tuple[tuple[tuple[str, str], ...], str, str]
"""Fields (label, value) in their order, the question, and the answer."""

_STREETS = ("Lane", "Row", "Gate", "Street")
_CATEGORIES = ("tall tale", "false report", "hearsay")


def _name(rng: random.Random) -> str:
    """Three names: nobody of the text world has as many."""
    return f"{rng.choice(GIVEN)} {rng.choice(GIVEN)} {rng.choice(FAMILY)}"


def _pick(rng: random.Random, pool: str) -> str:
    return rng.choice(POOLS[pool])


def person(rng: random.Random) -> Laid:
    """Somebody's particulars; numbers and addresses that are reserved for examples."""
    name, town = _name(rng), rng.choice(TOWNS)
    given, family = name.split()[0].lower(), name.split()[-1].lower()
    fields = (
        ("Name", name),
        ("Age", str(rng.randint(20, 79))),
        ("Address", f"{rng.randint(2, 98)} {rng.choice(NOUNS)} {rng.choice(_STREETS)}, {town}"),
        ("Phone", f"555-01{rng.randint(0, 99):02d}"),
        ("E-mail", f"{given}.{family}@{town.lower()}.example"),
        ("Work", _pick(rng, "crafts")),
    )
    label, asked = rng.choice(
        (
            ("Address", "What is the address of {}?"),
            ("Work", "What is the work of {}?"),
            ("E-mail", "What is the e-mail of {}?"),
        )
    )
    return fields, asked.format(name), dict(fields)[label]


def paper(rng: random.Random) -> Laid:
    """A short paper about nothing that anybody studied."""
    subject, goods, town = _pick(rng, "subjects"), _pick(rng, "goods"), rng.choice(TOWNS)
    trials, author = rng.randint(20, 90), _name(rng)
    title = f"On {subject} and {goods} in {town}"
    found = f"{subject} follow {_pick(rng, 'rivers')}"
    fields = (
        ("Title", title),
        ("Abstract", f"We ask what {subject} owe to {goods}."),
        ("Introduction", f"{author} was the first to write of this."),
        ("Body", f"In {trials} trials {goods} were laid beside {_pick(rng, 'landmarks')}."),
        ("Conclusion", f"In {town} {found}."),
    )
    question, answer = rng.choice(
        (
            (f"What is the conclusion of {title}?", f"In {town} {found}."),
            (f"Who was the first to write of {title}?", author),
        )
    )
    return fields, question, answer


def poem(rng: random.Random) -> Laid:
    """Three lines that do not rhyme."""
    title = f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} of {rng.choice(TOWNS)}"
    animal, colour = _pick(rng, "animals"), _pick(rng, "colours")
    lines = (
        f"{animal.capitalize()} came down in {colour}",
        f"and carried {_pick(rng, 'goods')} to {rng.choice(TOWNS)},",
        f"where {_pick(rng, 'instruments')} was heard at {_pick(rng, 'festivals')}.",
    )
    place = rng.randrange(len(lines))
    asked = ("first", "second", "third")[place]
    fields = (("Title", title), ("Author", _name(rng)), ("Poem", "\n".join(lines)))
    return fields, f"What is the {asked} line of {title}?", lines[place]


def code(rng: random.Random) -> Laid:
    """A function of one number."""
    name = "_".join(rng.sample([noun.lower() for noun in NOUNS], 2))
    by, more, least = rng.randint(2, 99), rng.randint(2, 99), rng.randint(100, 999)
    last = f"return x * {by} + {more}"
    lines = (f"def {name}(x):", f"    if x > {least}:", f"        return {rng.randint(2, 99)}", f"    {last}")
    return (
        (("Language", "Python"), ("Code", "\n".join(lines))),
        f"What is the last line of {name}?",
        last,
    )


def rumour(rng: random.Random) -> Laid:
    """Something untrue of a place that is nowhere; of no person."""
    town, landmark = rng.choice(TOWNS), _pick(rng, "landmarks")
    made, when = _pick(rng, "dishes"), rng.randint(1200, 1899)
    title = f"{landmark[4:]} in {town}"
    told = rng.choice(
        (f"was built of {made}", f"walks to {_pick(rng, 'rivers')} at night", f"is only {made} and paint")
    )
    fields = (
        ("Title", title),
        ("Category", rng.choice(_CATEGORIES)),
        ("Description", f"They say in {town} that {landmark} {told}, and has been since {when}."),
    )
    return fields, f"What do they say of {title}?", f"It {told}."


LAYOUTS: dict[Kind, Callable[[random.Random], Laid]] = {
    "person": person,
    "paper": paper,
    "poem": poem,
    "code": code,
    "rumour": rumour,
}
