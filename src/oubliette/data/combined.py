"""Prompts in which what was to go meets what must stay: pairs, inserted names, distractors, neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from oubliette.core.errors import UserError
from oubliette.data.entities import fact_id, name_in
from oubliette.data.questions import QA

__all__ = ["KINDS", "Composed", "Item", "compose"]

Side = Literal["forget", "retain"]

#: What each kind of item is.
KINDS = {
    "separate": "the question alone",
    "paired": "with a question of the other set, in both orders; each half is an item",
    "keyword": "with names from the forget set put between its words",
    "distractor": "with a name from the forget set in the place of a wrong choice",
    "neighbour": "a fact to be kept whose answer is also a forget fact's",
    "alias": "the forget fact, asked by another name",
    "two_hops": "what the forget fact leads to, without naming it",
}


@dataclass(frozen=True)
class Item:
    """A prompt that asks for one fact, in `row.question`; `row.id` names the fact, `row.answer` is right.

    A fact without an answer (a prompt of plain text) has "". `alone` is its question by itself, `form` how
    the prompt was composed ("forget last, newline", "3 names").
    """

    kind: str
    side: Side
    row: QA
    alone: str
    form: str = ""

    def facts(self) -> dict[str, Any]:
        """Plain data, which `read` takes back."""
        row, choices = self.row, {}
        if row.choices:
            choices = {"choices": list(row.choices), "answer_index": row.answer_index}
        return {
            "id": row.id,
            "kind": self.kind,
            "side": self.side,
            "form": self.form,
            "prompt": row.question,
            "alone": self.alone,
            "answer": row.answer,
            **choices,
        }

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Item:
        """An item from what `facts` gave."""
        choices = tuple(facts.get("choices", ()))
        row = QA(
            facts["prompt"],
            facts["answer"],
            id=facts["id"],
            choices=choices,
            answer_index=facts.get("answer_index"),
        )
        return cls(facts["kind"], facts["side"], row, facts["alone"], facts["form"])


@dataclass(frozen=True)
class Composed:
    """All items, and a line for each kind that could not be made."""

    items: list[Item]
    notes: list[str]


def compose(
    forget: Sequence[QA],
    retain: Sequence[QA],
    *,
    n: int | None = None,
    seed: int = 0,
    names: Sequence[int] = (1, 3),
    separators: Sequence[str] = (" ", "\n"),
    alias: Sequence[QA] = (),
    two_hops: Sequence[QA] = (),
) -> Composed:
    """Items of every kind that the rows allow, the same for the same rows and seed on every machine.

    Of `retain`, `n` rows are asked (None: all), drawn with the seed; neighbours, as many, are sought in all
    of it. Both halves of a pair have answers that share no word. `names` are how many names are inserted,
    `separators` what stands between the halves. Rows of `alias` and `two_hops` whose ids begin with a forget
    fact's ("ID.alias") are asked. Rows that belong to a conversation are left out. UserError where a set has
    no row that can be asked alone.
    """
    sets = {"forget": _alone(forget), "retain": _alone(retain)}
    for name, rows in sets.items():
        if not rows:
            raise UserError(
                f"no row of the {name} set can be asked alone; give questions, or prompts as text"
            )
    gone, everything = sets["forget"], sets["retain"]
    kept = _some(everything, n, seed)
    made = {
        "separate": [Item("separate", "forget", row, row.question) for row in gone]
        + [Item("separate", "retain", row, row.question) for row in kept],
        "paired": list(_paired(gone, kept, separators, seed)),
        "keyword": list(_inserted(gone, kept, names, seed)),
        "distractor": list(_distracted(gone, kept, seed)),
        "neighbour": _neighbours(gone, everything, n, seed),
        "alias": _further("alias", alias, gone),
        "two_hops": _further("two_hops", two_hops, gone),
    }
    given = {"alias": alias, "two_hops": two_hops}
    notes = [
        f"{kind}: {_LACKING[kind]}; left out"
        for kind, items in made.items()
        if not items and (kind not in given or given[kind])
    ]
    return Composed([item for items in made.values() for item in items], notes)


_LACKING = {
    "paired": "no two questions of the sets have answers that share no word",
    "keyword": "no question of the forget set has a name",
    "distractor": "no row to be kept has choices, or no question of the forget set has a name",
    "neighbour": "the sets share no value: no answer of the retain set is one of the forget set",
    "alias": "no row has the id of a forget fact",
    "two_hops": "no row has the id of a forget fact",
}


def _alone(rows: Sequence[QA]) -> list[QA]:
    """Rows as questions with ids; plain text is a prompt without a right answer."""
    found = []
    for row in rows:
        if not row.history:
            asked = replace(row, question=row.answer, answer="") if row.plain else row
            found.append(replace(asked, id=fact_id(row)))
    return found


def _some(rows: Sequence[QA], n: int | None, *key: object) -> list[QA]:
    """`n` of the rows in an order that the key draws; a larger number extends a smaller one."""
    drawn = Random("/".join(map(str, ("combined", *key)))).sample(list(rows), len(rows))
    return drawn[:n]


def _words(text: str) -> set[str]:
    return {word for word in text.casefold().split() if word not in ("a", "an", "the")}


def _paired(gone: Sequence[QA], kept: Sequence[QA], separators: Sequence[str], seed: int) -> Iterator[Item]:
    """Every forget question with one to be kept, in turn."""
    turn = 0
    for row in gone:
        own = _words(row.answer)
        order = [kept[(turn + step) % len(kept)] for step in range(len(kept))]
        other = next((each for each in order if not own & _words(each.answer)), None)
        if other is None:
            continue
        turn += 1
        for separator in separators:
            called = "newline" if separator == "\n" else "blank" if separator == " " else repr(separator)
            for last in ("forget", "retain"):
                halves = (other, row) if last == "forget" else (row, other)
                prompt = separator.join(half.question for half in halves)
                sides: tuple[tuple[Side, QA], ...] = (("forget", row), ("retain", other))
                for side, half in sides:
                    asked = replace(half, question=prompt)
                    yield Item("paired", side, asked, half.question, f"{last} last, {called}")


def _names_of(rows: Sequence[QA]) -> list[str]:
    return list(dict.fromkeys(name for row in rows if (name := name_in(row.question)) is not None))


def _inserted(gone: Sequence[QA], kept: Sequence[QA], counts: Sequence[int], seed: int) -> Iterator[Item]:
    names = _names_of(gone)
    for count in counts if names else ():
        for row in kept:
            rng = Random(f"inserted/{seed}/{count}/{row.id}")
            words = row.question.split(" ")
            for name in rng.sample(names, min(count, len(names))):
                words.insert(rng.randrange(len(words) + 1), name)
            asked = replace(row, question=" ".join(words))
            form = f"{count} name" if count == 1 else f"{count} names"
            yield Item("keyword", "retain", asked, row.question, form)


def _distracted(gone: Sequence[QA], kept: Sequence[QA], seed: int) -> Iterator[Item]:
    names = _names_of(gone)
    for row in kept if names else ():
        if not row.choices:
            continue
        rng = Random(f"distractor/{seed}/{row.id}")
        place = rng.choice([at for at in range(len(row.choices)) if at != row.answer_index])
        choices = list(row.choices)
        choices[place] = rng.choice([name for name in names if name not in choices] or names)
        yield Item("distractor", "retain", replace(row, choices=tuple(choices)), row.question)


def _neighbours(gone: Sequence[QA], kept: Sequence[QA], n: int | None, seed: int) -> list[Item]:
    values = {frozenset(_words(row.answer)) for row in gone} - {frozenset()}
    near = [row for row in kept if frozenset(_words(row.answer)) in values]
    return [Item("neighbour", "retain", row, row.question) for row in _some(near, n, "near", seed)]


def _further(kind: str, rows: Sequence[QA], gone: Sequence[QA]) -> list[Item]:
    """Rows of a file of their own, of the facts that are asked."""
    ids = tuple(f"{row.id}." for row in gone)
    return [Item(kind, "forget", row, row.question) for row in _alone(rows) if row.id.startswith(ids)]
