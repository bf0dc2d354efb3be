"""What is known of what a model was trained on, as one object that everything asks; `OPEN` knows nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from oubliette.core.errors import UserError, suggest
from oubliette.core.registry import Registry

__all__ = ["OPEN", "WORLDS", "Fact", "World", "every_world", "world_of"]


@dataclass(frozen=True)
class Fact:
    """One thing of the world: its broader word, the words for it, its near neighbour, and whether it is
    novel.

    `words` may be used in what erasers are given; `withheld` are synonyms that only the base model's training
    captions and the evaluation use, so that generalisation beyond the training prompts can be measured.
    """

    anchor: str
    words: tuple[str, ...]
    withheld: tuple[str, ...] = ()
    near: str | None = None
    novel: bool = False


#: What a world says of a thing that it does not have.
_UNKNOWN = Fact("", ())


@dataclass(frozen=True, eq=False)
class World:
    """What is known of what a model was trained on; a world that is given nothing claims nothing (`OPEN`).

    A model carries its world's name in its record and to everything made from it; `world_of` gives the
    object. What lies in rooms above is named, never imported: prompt banks (`oubliette.data.prompts.BANKS`),
    judges (`oubliette.eval.judge.JUDGES`), models, and `scenes` as "package.module:Attribute".
    """

    name: str | None = None
    """As records have it."""
    tables: Mapping[str, Mapping[str, Fact]] = field(default_factory=dict)
    """By kind of concept, everything there is, by its own name; kinds in the order they are tried."""
    anchors: Mapping[str, str] = field(default_factory=dict)
    """By kind, the broader word that stands for a concept without an anchor; none: the empty prompt."""
    unseen: tuple[tuple[str, str, str], ...] = ()
    """(name, anchor, kind) of what the gold model never saw: the concepts to report on; none where those are
    rows of files, whose user names gold."""
    gold: str | None = None
    """The model that was trained without `unseen`, as `open_model` takes it."""
    bank: str = "general"
    """The prompt bank."""
    judges: Mapping[str, str] = field(default_factory=dict)
    """Judges that know this world and what their weights are called, the one that decides first."""
    scenes: str | None = None
    """A class (concept, seed, *, avoid, without) whose `paint(count, what)` gives an attacker's pictures and
    their captions (`oubliette.attack.scenes.SceneSampler`); None: an attacker brings or draws them."""
    overlay: str | None = None
    """What presets for this world's models end in ("nano": `doco-nano`, the attack `L1-nano`, a search's
    preset `nano`), taken where there is one. Models of a world with an overlay are small: budgets that have
    values for small models (`nano:` in a suite's row) take those."""
    title: str = ""
    """What pages call it."""
    can: tuple[str, ...] = ()
    """What figures on this world's models can show, in sentences for the report."""
    cannot: tuple[str, ...] = ()
    """What they cannot show."""

    def names(self, kind: str, *, novel: bool = False) -> list[str]:
        """Names of a kind in declared order; with `novel=True` those of the novel pool alone."""
        return [name for name, fact in self._table(kind).items() if fact.novel == novel]

    def all_names(self, kind: str) -> list[str]:
        """Names of a kind, known and novel, in declared order: the classes of a judge's head."""
        return list(self._table(kind))

    def resolve(self, kind: str, word: str) -> str | None:
        """The world's own name for a word or synonym of a kind, or None where the world does not know it."""
        lowered = word.lower()
        for name, fact in self._table(kind).items():
            if lowered in {w.lower() for w in (name, *fact.words, *fact.withheld)}:
                return name
        return None

    def fact(self, kind: str, word: str) -> Fact:
        """What is known of the thing that a word of a kind names: no words and no neighbour where nothing."""
        name = self.resolve(kind, word)
        return _UNKNOWN if name is None else self._table(kind)[name]

    def near(self, kind: str, word: str) -> str | None:
        """The declared near neighbour of a thing, or None where it has none."""
        return self.fact(kind, word).near

    def word(self, kind: str, word: str) -> str | None:
        """The usual word for what `word` names, or None where the world does not have it."""
        return next(iter(self.fact(kind, word).words), None)

    def kind_of(self, word: str) -> str:
        """The kind of the thing that a word names; "object" in a world that knows no things.

        Raises UserError, with the nearest name, for a word that a world with things does not know.
        """
        if not self.tables:
            return "object"
        for kind in self.tables:
            if self.resolve(kind, word) is not None:
                return kind
        known = [name for kind in self.tables for name in self.names(kind)]
        raise UserError(
            f"the {self.name} world has no {word!r} (--kind says what else it is); {suggest(word, known)}"
        )

    def anchor(self, kind: str) -> str:
        """The broader word that stands for a kind; "", the empty prompt, where there is none."""
        return self.anchors.get(kind, "")

    def is_unseen(self, kind: str, word: str) -> bool:
        """Whether a word names something that the gold model was trained without."""
        return (self.resolve(kind, word), kind) in {(name, other) for name, _, other in self.unseen}

    def stranger(self, kind: str, word: str) -> str | None:
        """A novel thing of a kind, of the same broader word as what `word` names where there is one; None
        where the world has no novel ones.
        """
        pool, kin = self.names(kind, novel=True), self.fact(kind, word).anchor
        alike = [name for name in pool if self._table(kind)[name].anchor == kin]
        return next(iter([*alike, *pool]), None)

    def _table(self, kind: str) -> Mapping[str, Fact]:
        return self.tables.get(kind, {})


#: The world of a model of no known world: everything may be in it, and nothing is known of it.
OPEN = World()

#: Other packages bring theirs by entry points of the group "oubliette.worlds".
WORLDS: Registry[World] = Registry(
    "world", {"picture": "oubliette.world.facts:PICTURE", "text": "oubliette.world.text.world:TEXT"}
)


def world_of(model: Any) -> World:
    """The world that a model's record names; `OPEN` where it names none.

    Raises UserError where it names one that is not there: its package is not installed.
    """
    name = getattr(model, "world", None)
    if name is None:
        return OPEN
    try:
        return WORLDS.get(name)
    except UserError as error:
        raise UserError(f"{getattr(model, 'source', 'the model')}: comes from a world, and {error}") from None


def every_world() -> Iterator[World]:
    """Every world that is known by name, in the order of the names."""
    for name in WORLDS:
        yield WORLDS.get(name)
