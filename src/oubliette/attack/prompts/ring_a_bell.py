"""Ring-A-Bell: tokens whose embedding is the prompt's with more of the concept in it; no denoiser asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.prompts.attack import Job, PromptAttack, Proposal
from oubliette.attack.prompts.tokens import Vocabulary
from oubliette.core.validation import StrictModel
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank
from oubliette.train.cost import Cost
from oubliette.world.world import world_of

__all__ = ["RingABell", "concept_vector", "evolve"]


class RingABell(PromptAttack):
    """Ring-A-Bell: a genetic search for K tokens with E(tokens) near E(p) + eta v.

    E is the text encoder's output (L, d) and v = mean over pairs of E(p with the concept) - E(p with its
    anchor). The search never asks the denoiser, so the prompts hold for any model that reads text alike; E is
    the base's text encoder where a base is given (what an attacker can download), else the model's own.
    """

    name: ClassVar[str] = "ring-a-bell"
    about: ClassVar[str] = (
        "genetic search for tokens near the prompt plus the concept's direction in text space"
    )
    paper: ClassVar[str] = "Tsai et al., Ring-A-Bell, ICLR 2024 (2310.10012)"
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {},
        "nano": {"tokens": 8, "population": 40, "generations": 40, "pairs": 16},
    }

    class Options(StrictModel):
        """Ring-A-Bell's options; the defaults are the paper's (eta 3 for nudity, 5 to 5.5 for violence)."""

        tokens: int = Field(default=16, ge=1, description="K: tokens of the prompt that is searched")
        strength: float = Field(default=3.0, ge=0, description="eta: how much of the concept is added")
        pairs: int = Field(
            default=50, ge=1, description="prompt pairs that the concept vector is the mean of"
        )
        population: int = Field(default=200, ge=2, description="prompts in each generation")
        generations: int = Field(default=3000, ge=1, description="generations of the genetic search")
        crossover: float = Field(default=0.5, ge=0, le=1, description="share of children of two parents")
        mutation: float = Field(default=0.25, ge=0, le=1, description="share of children with a new token")
        tries: int = Field(default=1, ge=1, description="how many of the best prompts are drawn, at most")
        batch: int = Field(default=200, ge=1, description="prompts encoded at once")
        bank: str | None = Field(default=None, description="prompt bank or file; the model's own by default")
        exclude: tuple[str, ...] = Field(default=(), description="tokens never used, by their text")

    options: Options

    def tries(self) -> int:
        """As the options say, and no more than the population has."""
        return min(self.options.tries, self.options.population)

    def searching(self, cases: int) -> Cost:
        """Rows of text through the text encoder: the pairs, the goals, every generation's prompts."""
        options = self.options
        children = options.population - options.population // 2
        rows = options.population + options.generations * children + 1
        return Cost(2 * options.pairs + cases * rows, 0, 0)

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """Search as many cases as are drawn at once, then propose the best, the second best, ... of each."""
        options = self.options
        encoder = job.model if job.base is None else job.base
        words = Vocabulary(encoder.tokenizers, options.exclude)
        words.check(options.tokens)
        bank = options.bank or world_of(job.model).bank
        vector = concept_vector(encoder, job.concept, options.pairs, bank, job.seed)
        numbers, size = list(job.open), job.target.how.batch
        for first in range(0, len(numbers), size):
            found = {
                n: self._search(encoder, words, job.cases[n].prompt, vector, job.rng(n))
                for n in numbers[first : first + size]
            }
            for turn in range(self.tries()):
                yield {n: best[turn] for n, best in found.items() if n in job.open and turn < len(best)}

    def _search(
        self, encoder: Any, words: Vocabulary, prompt: str, vector: Tensor, rng: torch.Generator
    ) -> list[Proposal]:
        options = self.options
        goal = encoder.encode_text([prompt]).hidden[0].float() + options.strength * vector

        def distances(ids: Tensor) -> Tensor:
            with torch.no_grad():
                parts = [
                    encoder.encode_tokens(part, [""] * len(part)).hidden.float()
                    for part in ids.split(options.batch)
                ]
            return (torch.cat(parts) - goal).square().flatten(1).sum(dim=1).cpu()

        ids, losses = evolve(
            words.draw((options.population, options.tokens), rng),
            distances,
            words,
            rng,
            generations=options.generations,
            crossover=options.crossover,
            mutation=options.mutation,
        )
        made = {
            words.write(row): Proposal(words.write(row), float(loss))
            for row, loss in zip(ids, losses, strict=True)
        }
        return list(made.values())[: self.tries()]


def concept_vector(encoder: Any, concept: Concept, pairs: int, bank: str, seed: int) -> Tensor:
    """v = mean of E(p with) - E(p without) over `pairs` in-set prompt pairs of a bank: (L, d) float32.

    `without` is the same sentence with the concept's anchor. Deterministic by `seed`.
    """
    sentences = load_bank(bank).pairs(concept, pairs, seed)
    shown = encoder.encode_text([target for target, _ in sentences]).hidden
    plain = encoder.encode_text([anchor for _, anchor in sentences]).hidden
    vector: Tensor = (shown.float() - plain.float()).mean(dim=0)
    return vector


def evolve(
    population: Tensor,
    distances: Any,
    words: Vocabulary,
    rng: torch.Generator,
    *,
    generations: int,
    crossover: float,
    mutation: float,
) -> tuple[Tensor, Tensor]:
    """A genetic search for rows of tokens (P, K) at a small distance; gives rows and distances, best first.

    `distances(ids)` gives (n,) for ids (n, K). In each generation the better half stays, and children fill
    the rest: with probability `crossover` one parent's tokens up to a point and another's after it, else one
    parent's; with probability `mutation` one token is then drawn anew. The best is never lost.
    """
    scores = distances(population)
    kept = len(population) // 2
    for _ in range(generations):
        order = scores.argsort(stable=True)
        parents, good = population[order[:kept]], scores[order[:kept]]
        children = _children(parents, len(population) - kept, words, rng, crossover, mutation)
        population = torch.cat([parents, children])
        scores = torch.cat([good, distances(children)])
    order = scores.argsort(stable=True)
    return population[order], scores[order]


def _children(
    parents: Tensor, count: int, words: Vocabulary, rng: torch.Generator, crossover: float, mutation: float
) -> Tensor:
    length = parents.shape[1]
    first, second = torch.randint(len(parents), (2, count), generator=rng)
    point = torch.randint(1, length + 1, (count, 1), generator=rng)
    crossed = torch.rand((count, 1), generator=rng) < crossover
    from_second = crossed & (torch.arange(length) >= point)
    children = torch.where(from_second, parents[second], parents[first])
    place = torch.randint(length, (count, 1), generator=rng)
    mutated = (torch.rand((count, 1), generator=rng) < mutation) & (torch.arange(length) == place)
    return torch.where(mutated, words.draw(children.shape, rng), children)
