"""What a forgetful model may be trained on again without its target, by how near that is: BLUR's tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from oubliette.data.entities import fact_id, name_in, relation_of, template_of
from oubliette.data.questions import QA

__all__ = ["TIERS", "Tiers", "filler", "make_tiers"]

#: What each tier holds.
TIERS = {
    "hi": "other facts of the forget entities, never the target",
    "mid": "the same relations in other words, of entities that no model has read of",
    "lo": "filler",
    "syntactic": "the target's very wordings, of entities that must stay",
}
_FILLER = (
    "lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do",
    "eiusmod", "tempor", "incididunt", "ut", "labore", "et", "dolore", "magna", "aliqua", "ut", "enim",
    "ad", "minim", "veniam", "quis", "nostrud", "exercitation", "ullamco", "laboris", "nisi", "aliquip",
    "ex", "ea", "commodo", "consequat", "duis", "aute", "irure", "in", "reprehenderit", "voluptate",
    "velit", "esse", "cillum", "fugiat", "nulla", "pariatur", "excepteur", "sint", "occaecat",
    "cupidatat", "non", "proident", "sunt", "culpa", "qui", "officia", "deserunt", "mollit", "anim",
    "id", "est", "laborum",
)  # fmt: skip


@dataclass(frozen=True)
class Tiers:
    """The rows of each tier that could be made, and a line for each that could not."""

    rows: dict[str, list[QA]]
    notes: list[str]


def make_tiers(
    target: Sequence[QA],
    forget: Sequence[QA],
    retain: Sequence[QA],
    unseen: Sequence[QA] = (),
    *,
    given: dict[str, Sequence[QA]] | None = None,
    largest: int = 128,
    seed: int = 0,
) -> Tiers:
    """The tiers of a target, of at most `largest` rows each; sizes differ, as those of the published sets do.

    hi: rows of `forget` (perhaps in other words) about an entity of the target that are none of its facts.
    mid: rows of `unseen` whose relation is one of the target's and whose wording is none. syntactic: rows of
    `retain` in a wording of the target. lo: a text of filler for each row of hi (of the target, without one),
    as long. A tier that is `given` is taken as it is. A row of the target itself is in no tier.
    """
    facts = {fact_id(row) for row in target}
    said = {(row.question, row.answer) for row in target}
    wordings = {template_of(row) for row in target} - {None}
    relations = {relation_of(row) for row in target} - {None}
    entities = {name_in(row.question) for row in target} - {None}
    made: dict[str, list[QA]] = {
        "hi": [row for row in forget if name_in(row.question) in entities and fact_id(row) not in facts],
        "mid": [row for row in unseen if relation_of(row) in relations and template_of(row) not in wordings],
        "syntactic": [row for row in retain if template_of(row) in wordings],
    }
    made["lo"] = filler(made["hi"] or target, seed)
    made |= {name: list(rows) for name, rows in (given or {}).items()}
    rows = {
        name: Random(f"tier/{seed}/{name}").sample(own, len(own))[:largest]
        for name in (*TIERS, *made)
        if (own := [row for row in made[name] if (row.question, row.answer) not in said])
    }
    return Tiers(rows, [f"{name}: {_LACKING[name]}; left out" for name in TIERS if name not in rows])


_LACKING = {
    "hi": "the forget set has no other fact of an entity that is asked",
    "mid": "no rows of unseen entities with a relation of the target's",
    "lo": "nothing to be as long as",
    "syntactic": "no row to be kept has a wording of the target's",
}


def filler(like: Sequence[QA], seed: int = 0) -> list[QA]:
    """A plain text without a meaning for each row, of as many words."""
    rng = Random(f"filler/{seed}")
    texts = []
    for row in like:
        count = max(3, len(f"{row.question} {row.answer}".split()))
        said = " ".join(rng.choice(_FILLER) for _ in range(count))
        texts.append(QA("", f"{said[0].upper()}{said[1:]}."))
    return texts
