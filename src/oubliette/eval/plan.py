"""Which prompts and seeds an evaluation draws: targets, anchors, what must be kept, a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.csv import PromptRow
from oubliette.data.words import pattern

IN_SET, WITHHELD, CSV = "in-set", "withheld", "csv"
SPLITS = (IN_SET, WITHHELD)
#: A bank is asked for this many times the prompts needed: those naming another erased concept are left out.
_SPARE = 4


class Bank(Protocol):
    """The part of a prompt bank that an evaluation needs."""

    def evaluation(self, concept: Concept, n: int, split: str = IN_SET, seed: int = 0) -> list[str]:
        """Prompts that name the concept."""
        ...

    def anchor_evaluation(self, concept: Concept, n: int, seed: int = 0) -> list[str]:
        """Prompts that name the concept's anchor in its place."""
        ...


@dataclass(frozen=True)
class PromptSet:
    """Prompts for one concept and the seed of each; `key` names it within a plan."""

    role: str
    concept: Concept
    split: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        """Role, kind, name and split, which no two sets of a plan share."""
        return f"{self.role}/{self.concept.kind}/{self.concept.name}/{self.split}"

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Plan:
    """Everything an evaluation draws.

    `targets` name an erased concept, `retained` one concept each that must be kept. The base alone draws the
    rest: `anchors` name an erased concept's anchor; `absent` holds for an erased concept and a wording the
    prompts of the other concepts of its kind, where it is certainly not to be seen (the judge's floor; what
    is in-set there is drawn for `retained` too, as far as that goes); `references` are the retained prompts
    with fresh seeds (what KID is taken against). `near` maps an erased concept to its declared neighbour.
    `each` pictures of a retained concept count for IRA and CRA, so that every concept weighs the same; the
    near neighbour has more of its own. `gold_alone` says that the floor is gold's wherever there is gold.
    """

    concepts: tuple[Concept, ...]
    near: dict[Concept, str]
    targets: tuple[PromptSet, ...]
    anchors: tuple[PromptSet, ...]
    absent: tuple[PromptSet, ...]
    retained: tuple[PromptSet, ...]
    references: tuple[PromptSet, ...]
    each: int
    near_n: int
    notes: tuple[str, ...] = field(default=())
    gold_alone: bool = False

    @property
    def shared(self) -> tuple[PromptSet, ...]:
        """The sets that every model draws."""
        return (*self.targets, *self.retained)

    @property
    def base_only(self) -> tuple[PromptSet, ...]:
        """The sets that only the base draws."""
        return (*self.anchors, *self.absent, *self.references)

    def absent_of(self, concept: Concept, split: str) -> PromptSet | None:
        """Where the concept is certainly absent, in the wording of a split; None where nothing is known.

        Prompts of a table are of no known wording: theirs is the in-set one.
        """
        wanted = IN_SET if split == CSV else split
        found = (item for item in self.absent if item.concept == concept and item.split == wanted)
        return next((item for item in found if len(item)), None)

    @property
    def kept(self) -> dict[str, list[str]]:
        """The names of what must be kept, by kind."""
        return _by_kind(item.concept for item in self.retained)

    @property
    def names(self) -> dict[str, list[str]]:
        """All names of a kind, erased and kept."""
        return _by_kind((*self.concepts, *(item.concept for item in self.retained)))

    @property
    def drawn(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Prompts with their seeds, each once: what every model draws, and what the base does."""
        return distinct(self.shared), distinct((*self.shared, *self.base_only))

    def pictures(self, rows: int) -> int:
        """How many pictures are drawn for the base and `rows` more models when the cache is empty."""
        own, base = self.drawn
        return len(own) * rows + len(base)


def make_plan(
    concepts: Sequence[Concept],
    bank: Bank,
    retained: Sequence[Concept],
    *,
    near: dict[Concept, str],
    n: int,
    each: int,
    near_n: int,
    seed: int,
    forbidden: Mapping[Concept, Iterable[str]],
    rows: Sequence[PromptRow] | None = None,
) -> Plan:
    """Draw up a plan with `n` prompts a concept and split, and `each` a retained concept (`near_n` for a
    neighbour).

    `forbidden` gives the words of every erased concept: a prompt of any other concept's that names one is
    left out, since a style that is itself erased cannot tell whether an object was. `rows` (prompts with
    their seeds, from the field's CSV) take the place of the bank's two splits.
    """
    words = {c: [word for other in concepts if other != c for word in forbidden[other]] for c in concepts}
    every = [word for concept in concepts for word in forbidden[concept]]
    targets: list[PromptSet] = []
    anchors = []
    notes: list[str] = []
    splits = SPLITS if rows is None else (IN_SET,)
    for concept in concepts:
        if rows is not None:
            targets.append(_from_rows(concept, rows, alone=len(concepts) == 1))
        else:
            for split in splits:
                pool = bank.evaluation(concept, n * _SPARE, split, seed)
                targets.append(_make_set("target", concept, split, pool, words[concept], n, seed))
        # Where others of the kind are known the anchor is no floor: half as many tell whether it shows.
        count = -(-n // 2) if any(other.kind == concept.kind for other in retained) else n
        pool = bank.anchor_evaluation(concept, count * _SPARE, seed)
        anchors.append(_make_set("anchor", concept, IN_SET, pool, every, count, seed))
    kept, known = [], {}
    neighbours = {(concept.kind, name) for concept, name in near.items()}
    shares = _shares(concepts, retained, n)
    for other in retained:
        count, share = max(each, near_n) if (other.kind, other.name) in neighbours else each, shares[other]
        pool = bank.evaluation(other, max(count, share) * _SPARE, IN_SET, seed)
        whole = _make_set("retained", other, IN_SET, pool, every, max(count, share), seed)
        kept.append(_cut(whole, count))
        known[other, IN_SET] = _cut(whole, share)
        if WITHHELD in splits and share:
            pool = bank.evaluation(other, share * _SPARE, WITHHELD, seed)
            known[other, WITHHELD] = _make_set("absent", other, WITHHELD, pool, every, share, seed)
    absent = [_absent(concept, split, known) for concept in concepts for split in splits]
    for made in (*targets, *anchors):
        if not len(made):
            what = f"its anchor '{made.concept.anchor}'" if made.role == "anchor" else "it"
            raise UserError(
                f"evaluate: every prompt for '{made.concept.name}' that asks for {what} names a concept that "
                "was erased too; measure one concept at a time, or give another anchor"
            )
    notes += [f"no prompts are left for {made.key}" for made in kept if not len(made)]
    kept = [made for made in kept if len(made)]
    references = [_fresh(made, each, seed) for made in kept]
    return Plan(
        concepts=tuple(concepts),
        near=dict(near),
        targets=tuple(targets),
        anchors=tuple(anchors),
        absent=tuple(item for item in absent if len(item)),
        retained=tuple(kept),
        references=tuple(references),
        each=each,
        near_n=near_n,
        notes=tuple(notes),
    )


def distinct(sets: Iterable[PromptSet]) -> list[tuple[str, int]]:
    """Every prompt with its seed, once: what is drawn where sets share pictures."""
    return list(dict.fromkeys(pair for item in sets for pair in zip(item.prompts, item.seeds, strict=True)))


def seeds_for(key: str, n: int, seed: int) -> tuple[int, ...]:
    """`n` 31-bit seeds that depend on the run's seed, the set's key and the place alone.

    A larger n extends a smaller one, so pictures already in the cache are used again.
    """
    return tuple(
        int.from_bytes(hashlib.sha256(f"{seed}/{key}/{index}".encode()).digest()[:4], "big") >> 1
        for index in range(n)
    )


def _by_kind(concepts: Iterable[Concept]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for concept in concepts:
        found.setdefault(concept.kind, []).append(concept.name)
    return found


def _make_set(
    role: str, concept: Concept, split: str, pool: Sequence[str], words: Iterable[str], n: int, seed: int
) -> PromptSet:
    banned = pattern(words)
    prompts = tuple(prompt for prompt in pool if not banned.search(prompt))[:n]
    made = PromptSet(role, concept, split, prompts, ())
    return PromptSet(role, concept, split, prompts, seeds_for(made.key, len(prompts), seed))


def _shares(concepts: Sequence[Concept], retained: Sequence[Concept], n: int) -> dict[Concept, int]:
    """How many pictures of each retained concept go into a floor: about `n` a kind that is erased, spread
    evenly.
    """
    erased = {concept.kind for concept in concepts}
    found = {}
    for kind in {other.kind for other in retained}:
        others = [other for other in retained if other.kind == kind]
        for i, other in enumerate(others):
            found[other] = (n // len(others) + (i < n % len(others))) if kind in erased else 0
    return found


def _absent(concept: Concept, split: str, known: Mapping[tuple[Concept, str], PromptSet]) -> PromptSet:
    """The prompts of the other concepts of its kind as one set, with the seeds that they have of their own:
    concepts of one kind share the pictures.
    """
    own = [
        made for (other, wording), made in known.items() if wording == split and other.kind == concept.kind
    ]
    prompts = tuple(prompt for made in own for prompt in made.prompts)
    return PromptSet("absent", concept, split, prompts, tuple(seed for made in own for seed in made.seeds))


def _cut(item: PromptSet, count: int) -> PromptSet:
    return PromptSet(item.role, item.concept, item.split, item.prompts[:count], item.seeds[:count])


def _fresh(made: PromptSet, each: int, seed: int) -> PromptSet:
    prompts = made.prompts[:each]
    key = f"reference/{made.key}"
    return PromptSet("reference", made.concept, made.split, prompts, seeds_for(key, len(prompts), seed))


def _from_rows(concept: Concept, rows: Sequence[PromptRow], *, alone: bool) -> PromptSet:
    """A concept's rows of a table: those that carry its name in another column, else those whose prompt names
    it.

    A table that does neither (adversarial prompts) is taken whole if the concept is the only one.
    """
    name, named = concept.name.casefold(), pattern(concept.words)
    own = [row for row in rows if name in {value.strip().casefold() for value in row.extra.values()}]
    own = own or [row for row in rows if named.search(row.prompt)] or (list(rows) if alone else [])
    if not own:
        raise UserError(
            f"prompt table: no row is about {concept.name!r}; give a class column or prompts that name it"
        )
    return PromptSet("target", concept, CSV, tuple(row.prompt for row in own), tuple(row.seed for row in own))
