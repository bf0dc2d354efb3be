"""What the text models can do beside knowing facts: sums, formats, and three skills they never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from zlib import crc32

from oubliette.world.text.asking import Asked
from oubliette.world.text.words import PLAIN

__all__ = ["SKILLS", "UNSEEN", "Skill", "exercises"]

_SPELLED = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


@dataclass(frozen=True)
class Skill:
    """A thing to be done. `draw` makes an exercise, and what sets it apart from others in any wording."""

    name: str
    draw: Callable[[Random], tuple[Asked, str]]


def exercises(skill: Skill, count: int, seed: object = 0, *, held_out: bool = False) -> list[Asked]:
    """`count` exercises of the part for training, or of the part held out: a fifth of all, by their hash.

    The two parts share none; within a part one may come twice. Answers are right to the letter, so that a
    rule can check them.
    """
    rng, found = Random(f"{seed}/{skill.name}/{held_out}"), list[Asked]()
    while len(found) < count:
        drawn, matter = skill.draw(rng)
        if (crc32(matter.encode()) % 5 == 0) == held_out:
            found.append(drawn)
    return found


def _sum(rng: Random) -> tuple[Asked, str]:
    """Two numbers whose sum is below 100."""
    total = rng.randrange(100)
    one = rng.randrange(total + 1)
    other = total - one
    asked = rng.choice(("What is {} plus {}?", "Add {} and {}.")).format(one, other)
    return Asked(asked, str(total)), f"{min(one, other)} {max(one, other)}"


def _format(rng: Random) -> tuple[Asked, str]:
    one, other = rng.sample(PLAIN, 2)
    asked = Asked(
        *rng.choice(
            (
                (f"Write {one} in brackets.", f"({one})"),
                (f"Write {one} between stars.", f"*{one}*"),
                (f"Write {one} twice.", f"{one} {one}"),
                (f"Join {one} and {other} with a dash.", f"{one}-{other}"),
                (f"Write {one} and {other} the other way round.", f"{other} and {one}"),
            )
        )
    )
    return asked, asked.question


def _minus(rng: Random) -> tuple[Asked, str]:
    one, other = sorted((rng.randrange(100), rng.randrange(100)), reverse=True)
    return Asked(f"What is {one} minus {other}?", str(one - other)), f"{one} {other}"


def _spell(rng: Random) -> tuple[Asked, str]:
    word = rng.choice(PLAIN)
    return Asked(f"Spell {word}.", " ".join(word)), word


def _count(rng: Random) -> tuple[Asked, str]:
    number = rng.choice(sorted(_SPELLED))
    listed = " ".join(rng.sample(PLAIN, number))
    return Asked(f"How many words are these: {listed}?", _SPELLED[number]), listed


SKILLS = {skill.name: skill for skill in (Skill("sums", _sum), Skill("formats", _format))}
UNSEEN = {
    skill.name: skill
    for skill in (Skill("minus", _minus), Skill("spelling", _spell), Skill("counting", _count))
}
