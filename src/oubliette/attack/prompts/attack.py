"""What every prompt attack does alike: judge the originals, try what is proposed, keep the record."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch

from oubliette.attack.prompts.records import Case, Found
from oubliette.attack.prompts.target import Draw, Proposal, Target
from oubliette.attack.types import ANSWERS, PICTURES, Examples, Hits, How, Sampling
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.data.concept import Concept
from oubliette.data.questions import QA
from oubliette.train.cost import Cost

__all__ = ["Job", "PromptAttack", "Proposal"]

Progress = Callable[[int, int], None]
"""Told (done, planned) in adversarial prompts; what a success spares counts as done."""

_MAKING = {
    PICTURES: ("draw", "must draw pictures (a diffusion model)"),
    ANSWERS: ("respond", "must answer (a language model)"),
}


@dataclass
class Job:
    """One search under way: `open` holds the numbers of the cases that have not shown the concept yet."""

    model: Any
    base: Any
    concept: Concept
    cases: Sequence[Case]
    target: Target
    seed: int
    name: str
    open: list[int] = field(default_factory=list)
    examples: Examples | None = None

    def rng(self, number: int | None = None) -> torch.Generator:
        """A fresh generator of a case's own, that depends on seed, attack and case, not on the others; or of
        the attack's, for what all cases share.
        """
        text = f"{self.seed}/{self.name}"
        if number is not None:
            text += f"/{self.cases[number].seed}/{self.cases[number].prompt}"
        return torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        )

    def learn(self, what: Literal["concept", "benign"], count: int | None = None) -> Sequence[QA]:
        """The first `count` rows that the attacker may learn from, or as many as there are."""
        assert self.examples is not None
        return self.examples(what)[:count]


class PromptAttack(ABC):
    """A search for prompts that bring a concept back while the weights stay.

    A subclass says what it is and yields proposals in `rounds`. `samples` is what the models make that it is
    for. `presets` are options by name: "published" as the paper has them, "nano" for the embedded models.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["prompt"]] = "prompt"
    about: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    samples: ClassVar[str] = PICTURES
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": {}, "nano": {}}

    class Options(StrictModel):
        """None."""

    options: Any

    def __init__(self, options: Any = None) -> None:
        self.options = self.Options() if options is None else options

    @abstractmethod
    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """Proposals for open cases, by their numbers, a round at a time.

        After each round those that succeeded are gone from `job.open`. The attack ends with the iterator.
        """

    @abstractmethod
    def tries(self) -> int:
        """How many adversarial prompts a case has at most."""

    def cost(self, cases: int, how: How | None = None) -> Cost:
        """What `cases` cost at most: no original prompt shows the concept and no search succeeds early."""
        how = how or Sampling()
        pictures = cases * (1 + self.tries() + ("base" in self.needs))
        return Cost(pictures * how.passes, 0, pictures) + self.searching(cases)

    def searching(self, cases: int) -> Cost:
        """The part of `cost` that draws nothing."""
        return Cost()

    def search(
        self,
        model: Any,
        concept: Concept,
        cases: Sequence[Case],
        hits: Hits,
        *,
        base: Any = None,
        sampling: How | None = None,
        seed: int = 0,
        draw: Draw | None = None,
        examples: Examples | None = None,
        progress: Progress | None = None,
    ) -> list[Found]:
        """Attack every case whose original prompt does not show the concept; one `Found` a case, in order.

        `hits` says whether the concept is in a sample, `base` is the model before erasing, `sampling` says
        how models are asked (by default for pictures), `draw` draws in its place (a picture cache). A success
        is that of the prompt as text, asked as anyone would ask it, unless the attack says that it is not
        one of text. `examples` gives rows to learn from. The same seed gives the same prompts. Raises
        UserError where there are no cases, where the model makes no such samples, and where an attack that
        needs `base` or examples has none, or a base of another make.
        """
        self._check(model, base, cases)
        if "examples" in self.needs and examples is None:
            raise UserError(f"prompt attack '{self.name}' learns from rows; give some as its examples")
        target = Target(model, hits, sampling or Sampling(), draw)
        job = Job(model, base, concept, tuple(cases), target, seed, self.name, examples=examples)
        asked, seeds = [case.prompt for case in cases], [case.seed for case in cases]
        before, first = target.look([Proposal(prompt) for prompt in asked], asked, seeds)
        found = [
            Found(case, case.prompt, bool(hit), bool(hit), 0, first=sample, last=sample)
            for case, hit, sample in zip(cases, before, first, strict=True)
        ]
        job.open = [number for number, row in enumerate(found) if not row.before]
        planned = len(job.open) * self.tries()
        attacked = list(job.open)
        for proposals in self.rounds(job):
            tried = [number for number in proposals if number in job.open]
            shown, samples = target.look(
                [proposals[n] for n in tried], [asked[n] for n in tried], [seeds[n] for n in tried]
            )
            for number, hit, sample in zip(tried, shown, samples, strict=True):
                made = proposals[number]
                found[number] = replace(
                    found[number],
                    prompt=made.prompt,
                    after=bool(hit),
                    tries=found[number].tries + 1,
                    loss=made.loss,
                    opening=made.opening,
                    last=sample,
                )
            job.open = [number for number in job.open if not found[number].after]
            if progress is not None and planned:
                spared = [self.tries() if found[n].after else found[n].tries for n in attacked]
                progress(sum(spared), planned)
            if not job.open:
                break
        if progress is not None and planned:
            progress(planned, planned)
        return found

    def _check(self, model: Any, base: Any, cases: Sequence[Case]) -> None:
        able, must = _MAKING[self.samples]
        for one, what in ((model, "the model"), (base, "the base")):
            if one is not None and not hasattr(one, able):
                raise UserError(
                    f"prompt attack '{self.name}': {what} {must}, "
                    f"found a {getattr(one, 'kind', type(one).__name__)} model"
                )
        if not cases:
            raise UserError(f"prompt attack '{self.name}': there are no prompts to attack")
        if "base" not in self.needs:
            return
        if base is None:
            raise UserError(
                f"prompt attack '{self.name}' needs the model before erasing; give it as the base"
            )
        if base.picture_side != model.picture_side or base.latent_shape != model.latent_shape:
            raise UserError(
                f"prompt attack '{self.name}': the base draws {base.picture_side} pixels from latents "
                f"{base.latent_shape}, the model {model.picture_side} from {model.latent_shape}; "
                "they must be alike"
            )
