"""What is to be erased, and what the user brought for it: methods read this and nothing else of a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import hint
from oubliette.data.csv import read_table
from oubliette.data.text import InputWarning, check_text
from oubliette.data.words import pattern

if TYPE_CHECKING:
    from oubliette.data.concept import Concept
    from oubliette.data.questions import QA
    from oubliette.recipe import ConceptSpec, Recipe

_COLUMNS = ("target", "anchor")


@dataclass(frozen=True)
class PromptPair:
    """A prompt with a concept, and the same with its anchor; `concept` indexes the request's concepts."""

    target: str
    anchor: str
    concept: int = 0


@dataclass(frozen=True)
class ErasureRequest:
    """One erasure: its concepts and the user's own material, which goes before the bank's.

    `concepts` may be empty for language models, whose material is `forget`, `retain_file` and further
    `sources` by name. `pairs` are the
    user's prompts, `pictures` a folder of the user's anchor pictures, `retain` prompts that are to stay as
    they are. `prompt_count` is how many prompts are made for each concept, `picture_count` how many pictures
    for all together, where the user brought none; `picture_steps` and `picture_guidance` how the base draws.
    `bank` names the prompt bank (None: the one that fits the model). `avoid` are concepts that were erased
    before: no anchor prompt and no prompt to retain may name one, since the base no longer shows it. `rows`
    are those of "forget" and "retain" where they are at hand: their files are then not read.
    """

    concepts: tuple[Concept, ...] = ()
    pairs: tuple[PromptPair, ...] = ()
    retain: tuple[str, ...] = ()
    pictures: Path | None = None
    bank: str | None = None
    prompt_count: int = 200
    picture_count: int = 1000
    picture_steps: int = 25
    picture_guidance: float = 6.0
    forget: Path | None = None
    retain_file: Path | None = None
    sources: Mapping[str, Path] = field(default_factory=dict)
    avoid: tuple[Concept, ...] = ()
    rows: Mapping[str, Sequence[QA]] = field(default_factory=dict)

    @classmethod
    def from_recipe(cls, recipe: Recipe, rows: Mapping[str, Sequence[QA]] | None = None) -> ErasureRequest:
        """What a recipe asks to be erased; UserError for a concept or a pair file that cannot be used.

        Warns (InputWarning) of what can be used and is probably not meant.
        """
        from oubliette.data.concept import Concept

        def made(specs: Iterable[ConceptSpec]) -> tuple[Concept, ...]:
            return tuple(Concept(each.name, each.anchor, each.kind, tuple(each.synonyms)) for each in specs)

        concepts = made(recipe.concepts)
        twice = {one.name for one in concepts if sum(one.name == other.name for other in concepts) > 1}
        if twice:
            raise UserError(f"concept '{min(twice)}' is listed twice")
        data = recipe.data
        request = cls(
            concepts=concepts,
            pairs=read_pairs(data.pairs, concepts) if data.pairs is not None else (),
            retain=tuple(data.retain),
            pictures=None if data.path is None else Path(data.path),
            bank=data.bank,
            prompt_count=data.prompts,
            picture_count=data.pictures,
            picture_steps=data.picture_steps,
            picture_guidance=data.picture_guidance,
            forget=None if recipe.forget is None else Path(recipe.forget),
            retain_file=None if recipe.retain is None else Path(recipe.retain),
            sources={name: Path(path) for name, path in recipe.sources.items()},
            avoid=made(data.avoid),
            rows=rows or {},
        )
        for prompt in request.retain:
            check_text(prompt, "the prompt to retain")
            request.refuse_avoided(prompt, "the prompt to retain")
        for pair in request.pairs:
            request.refuse_avoided(pair.anchor, "the anchor prompt")
        for concept in concepts:
            request.refuse_avoided(concept.anchor, f"concept '{concept.name}': the anchor")
            refuse_going(concept.anchor, concept, concepts, f"concept '{concept.name}': the anchor")
        hint(concepts)
        request._warn_of_contradictions()
        return request

    def _warn_of_contradictions(self) -> None:
        """Prompts to retain that name what is to go pull both ways; UserError where all of them do."""
        named = pattern(word for concept in self.concepts for word in concept.words)
        found = [prompt for prompt in self.retain if named.search(prompt)]
        if not found:
            return
        count = f"{len(found)} of {len(self.retain)}"
        said = f"{count} prompts to retain name a concept to erase, as {found[0]!r} does"
        if len(found) == len(self.retain):
            raise UserError(f"{said}: nothing else would be kept; give prompts of other things")
        warnings.warn(said, InputWarning, stacklevel=2)

    def refuse_avoided(self, text: str, what: str) -> None:
        """UserError if a text of the user's names a concept that was erased before; `what` opens the line."""
        for concept in self.avoid:
            if pattern(concept.words).search(text):
                raise UserError(
                    f"{what} {text!r} names '{concept.name}', which was erased before: the model no longer "
                    "shows it; take another"
                )


def refuse_going(text: str, concept: Concept, concepts: Sequence[Concept], what: str) -> None:
    """UserError if the anchor `text` of a concept names another one that is itself to be erased; `what` opens
    the line.
    """
    for other in concepts:
        if other is not concept and pattern(other.words).search(text):
            raise UserError(
                f"{what} {text!r} names '{other.name}', which is itself to be erased; give an anchor that "
                "stays"
            )


def read_pairs(path: Path | str, concepts: Sequence[Concept]) -> tuple[PromptPair, ...]:
    """The user's own prompt pairs: a CSV file with the columns `target` and `anchor`, one pair a row.

    With several concepts, a third column `concept` names the one each pair belongs to. Warns (InputWarning)
    of a concept that none of its targets names. UserError, with file and line, for what `read_table` refuses,
    an unknown concept, an empty target, and an anchor that is itself to be erased.
    """
    rows = read_table(path, (*_COLUMNS, *(("concept",) if len(concepts) > 1 else ())))
    pairs = tuple(_pair(row, where, concepts) for where, row in rows)
    for number, concept in enumerate(concepts):
        targets = [pair.target for pair in pairs if pair.concept == number]
        named = pattern(concept.words)
        if targets and not any(named.search(target) for target in targets):
            warnings.warn(
                f"{path}: none of the {len(targets)} target prompts names '{concept.name}', as in "
                f"{targets[0]!r}: what they describe is erased in its place",
                InputWarning,
                stacklevel=2,
            )
    return pairs


def _pair(row: dict[str, str], where: str, concepts: Sequence[Concept]) -> PromptPair:
    target, anchor = (row[column].strip() for column in _COLUMNS)
    if not target:
        raise UserError(f"{where}: the target prompt is empty; only the anchor's may be")
    names = [concept.name for concept in concepts]
    name = row.get("concept", "").strip()
    if name and name not in names:
        raise UserError(f"{where}: '{name}' is none of the concepts to erase; {suggest(name, names)}")
    if not name and len(concepts) > 1:
        raise UserError(f"{where}: the concept is empty; known: {', '.join(names)}")
    number = names.index(name) if name else 0
    if concepts:
        refuse_going(anchor, concepts[number], concepts, f"{where}: the anchor prompt")
    return PromptPair(target, anchor, number)
