"""What every prompt attack does alike: judge the originals, try what is proposed, keep the record."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch

from oubliette.attack.prompts.records import Case, Found
from oubliette.attack.prompts.target import Draw, Target
from oubliette.attack.types import Hits, How, Sampling
from oubliette.backends.base import draws
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.data.concept import Concept
from oubliette.train.cost import Cost

__all__ = ["Job", "PromptAttack", "Proposal"]

Progress = Callable[[int, int], None]
"""Told (done, planned) in adversarial pictures; what a success spares counts as done."""


@dataclass(frozen=True)
class Proposal:
    """An adversarial prompt to be drawn, and the search's loss at it (None where it has none)."""

    prompt: str
    loss: float | None = None


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

    def rng(self, number: int) -> torch.Generator:
        """A fresh generator of a case's own: it depends on seed, attack and case, not on the others."""
        case = self.cases[number]
        text = f"{self.seed}/{self.name}/{case.seed}/{case.prompt}"
        return torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        )


class PromptAttack(ABC):
    """A search for prompts that bring a concept back while the weights stay.

    A subclass says what it is and yields proposals in `rounds`. `presets` are options by name: "published"
    as the paper has them, "nano" for the embedded models.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["prompt"]] = "prompt"
    about: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
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
        passes = how.steps * (2 if how.guidance > 1 else 1)
        return Cost(pictures * passes, 0, pictures) + self.searching(cases)

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
        progress: Progress | None = None,
    ) -> list[Found]:
        """Attack every case whose original prompt does not show the concept; one `Found` a case, in order.

        `hits` says whether the concept is in a picture, `base` is the model before erasing, `sampling` says
        how pictures are drawn, `draw` draws them in its place (a picture cache). A success is that of the
        prompt as text, drawn as anyone would draw it, never of embeddings. The same seed gives the same
        prompts. Raises UserError where there are no cases, where the model draws no pictures, and where an
        attack that needs `base` has none or one of another make.
        """
        self._check(model, base, cases)
        target = Target(model, hits, sampling or Sampling(), draw)
        job = Job(model, base, concept, tuple(cases), target, seed, self.name)
        before = target.shows([case.prompt for case in cases], [case.seed for case in cases])
        found = [
            Found(case, case.prompt, bool(hit), bool(hit), 0) for case, hit in zip(cases, before, strict=True)
        ]
        job.open = [number for number, row in enumerate(found) if not row.before]
        planned = len(job.open) * self.tries()
        attacked = list(job.open)
        for proposals in self.rounds(job):
            tried = [number for number in proposals if number in job.open]
            shown = target.shows(
                [proposals[number].prompt for number in tried], [cases[number].seed for number in tried]
            )
            for number, hit in zip(tried, shown, strict=True):
                made = proposals[number]
                found[number] = replace(
                    found[number],
                    prompt=made.prompt,
                    after=bool(hit),
                    tries=found[number].tries + 1,
                    loss=made.loss,
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
        for one, what in ((model, "the model"), (base, "the base")):
            if one is not None and not draws(one):
                raise UserError(
                    f"prompt attack '{self.name}': {what} must draw pictures (a diffusion model), "
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
