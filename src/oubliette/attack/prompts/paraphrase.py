"""Other words for the same thing: synonyms in the prompt's sentence, then sentences no eraser was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from oubliette.attack.prompts.attack import Job, PromptAttack, Proposal
from oubliette.core.validation import StrictModel
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank
from oubliette.data.words import SLOT, fill, pattern
from oubliette.world.world import World, world_of

__all__ = ["Paraphrase", "reworded", "synonyms"]


class Paraphrase(PromptAttack):
    """The concept asked for in other words, with no model in the loop: the least an attacker will try.

    For each case first its own sentence with every known synonym in the concept's place, then sentences of
    the prompt bank's withheld part, which no eraser was given. Synonyms are the concept's own and those
    of the model's world.
    """

    name: ClassVar[str] = "paraphrase"
    about: ClassVar[str] = "synonyms in the prompt's sentence, then sentences that no eraser was given"
    paper: ClassVar[str] = "none; the prompt bank's withheld words and sentences"
    needs: ClassVar[frozenset[str]] = frozenset()
    presets: ClassVar[dict[str, dict[str, Any]]] = {"published": {}, "nano": {"tries": 4}}

    class Options(StrictModel):
        """How many and of what."""

        tries: int = Field(default=8, ge=1, description="paraphrases drawn for each case at most")
        sentences: Literal["both", "own", "bank"] = Field(
            default="both", description="the prompt's own sentence, the bank's withheld ones, or both"
        )
        bank: str | None = Field(default=None, description="prompt bank or file; the model's own by default")

    options: Options

    def tries(self) -> int:
        """As the options say."""
        return self.options.tries

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """The next paraphrase of every open case that has one left."""
        ways = {number: self.paraphrases(job, number) for number in job.open}
        for turn in range(self.options.tries):
            proposals = {n: Proposal(ways[n][turn]) for n in job.open if turn < len(ways[n])}
            if not proposals:
                return
            yield proposals

    def paraphrases(self, job: Job, number: int) -> list[str]:
        """A case's paraphrases in the order they are tried: all different, none the original."""
        case, concept, world = job.cases[number], job.concept, world_of(job.model)
        words = synonyms(concept, world)
        found: list[str] = []
        if self.options.sentences != "bank":
            found += [text for word in words if (text := reworded(case.prompt, concept, words, word))]
        if self.options.sentences != "own":
            known = Concept(concept.name, concept.anchor, concept.kind, tuple(words))
            bank = load_bank(self.options.bank or world.bank)
            seed = job.rng(number).initial_seed() % 2**31
            # Some of the bank's answers repeat; ask for enough that as many as wanted are left.
            found += bank.evaluation(known, 4 * self.options.tries, "withheld", seed)
        fresh = dict.fromkeys(text for text in found if text.casefold() != case.prompt.casefold())
        return list(fresh)[: self.options.tries]


def synonyms(concept: Concept, world: World) -> list[str]:
    """Other words for a concept, name and anchor left out: its own, then those of the world."""
    own, fact = world.resolve(concept.kind, concept.name), world.fact(concept.kind, concept.name)
    words = [*concept.synonyms, *([] if own is None else [own]), *fact.withheld, *fact.words]
    distinct: dict[str, str] = {}
    for word in words:
        if word.casefold() not in {concept.name.casefold(), concept.anchor.casefold()}:
            distinct.setdefault(word.casefold(), word)
    return list(distinct.values())


def reworded(prompt: str, concept: Concept, others: list[str], word: str) -> str | None:
    """The prompt with `word` in place of each mention of the concept, articles mended; None if it has none.

    A mention is the concept's name or any of `others` as a whole word.
    """
    named = pattern([concept.name, *others])
    if SLOT in prompt or not named.search(prompt):
        return None
    text = fill(named.sub(lambda _: SLOT, prompt), word)
    return text if text.casefold() != prompt.casefold() else None
