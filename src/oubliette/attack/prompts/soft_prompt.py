"""A soft prompt: embeddings before the question, trained on rows that are not asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field

from oubliette.attack.prompts.attack import Job, PromptAttack
from oubliette.attack.prompts.target import Proposal
from oubliette.attack.types import ANSWERS
from oubliette.backends.front import put_before
from oubliette.backends.tokens import TokenBatch
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

__all__ = ["SoftPrompt"]


class SoftPrompt(PromptAttack):
    """Embeddings before every question, trained to bring the answers of rows that are not asked.

    What is found is no text: an attacker needs the model itself to put it in, and its weights stay as they
    are. One soft prompt for all questions, since one of a question's own can hold its answer. The published
    attack takes signs of gradients on an affirmation; here Adam goes by the answers.
    """

    name: ClassVar[str] = "soft-prompt"
    about: ClassVar[str] = "embeddings before the question, trained on rows that are not asked"
    paper: ClassVar[str] = "Schwinn et al., Soft Prompt Threats, NeurIPS 2024 (2402.09063)"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "examples"})
    samples: ClassVar[str] = ANSWERS
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {},
        "nano": {"tokens": 8, "steps": 60, "looks": 3},
    }

    class Options(StrictModel):
        """As many embeddings and updates as the published attack; the optimiser's settings are ours."""

        tokens: int = Field(default=20, ge=1, description="embeddings before the question")
        steps: int = Field(default=100, ge=1, description="updates")
        learning_rate: float = Field(default=1e-2, gt=0, description="Adam's learning rate")
        examples: int = Field(default=32, ge=1, description="rows it is trained on at most")
        batch: int = Field(default=8, ge=1, description="rows an update")
        looks: int = Field(default=4, ge=1, description="times that it is tried, evenly spaced")

    options: Options

    def tries(self) -> int:
        """One a look."""
        return min(self.options.looks, self.options.steps)

    def searching(self, cases: int) -> Cost:
        """A forward and a backward pass a row of each update, however many cases."""
        rows = self.options.steps * min(self.options.batch, self.options.examples)
        return Cost(rows, rows, 0)

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """The question itself behind the embeddings as they are at each look, for every open case."""
        if not job.open:
            return
        options, model, rng = self.options, job.model, job.rng()
        rows = model.encode(job.learn("concept", options.examples))
        longest = rows.input_ids.shape[1]
        if longest + options.tokens > model.reader.max_length:
            raise UserError(
                f"prompt attack '{self.name}': {options.tokens} embeddings before a row of {longest} tokens "
                f"are more than {model.source} reads ({model.reader.max_length}); give fewer (tokens)"
            )
        front = torch.nn.Parameter(self._start(model, rng))
        adam = torch.optim.Adam([front], lr=options.learning_rate)
        looks = {round((n + 1) * options.steps / self.tries()) for n in range(self.tries())}
        for step in range(1, options.steps + 1):
            some = rows.index(torch.randperm(len(rows), generator=rng)[: options.batch])
            tokens, words = put_before(model, some, front)
            said = model.log_likelihood(model.predict(tokens, words), tokens)
            loss = -(said / tokens.counts()).mean()
            (front.grad,) = torch.autograd.grad(loss, front)
            adam.step()
            if step in looks:
                found = front.detach().clone()
                yield {n: Proposal(job.cases[n].prompt, float(loss.detach()), front=found) for n in job.open}

    def _start(self, model: Any, rng: torch.Generator) -> torch.Tensor:
        """The embeddings of tokens drawn at random, (k, width) float32."""
        drawn = torch.randint(model.reader.vocabulary, (1, self.options.tokens), generator=rng)
        ids = TokenBatch(drawn, torch.ones_like(drawn), drawn)
        found: torch.Tensor = model.embed(ids)[0].detach().float()
        return found
