"""Tokens before a prompt, found by gradients: what UnlearnDiffAtk and P4D share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.prompts.attack import Job, PromptAttack, Proposal
from oubliette.attack.prompts.simplex import corner, project_to_simplex
from oubliette.attack.prompts.tokens import Vocabulary, joined
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

__all__ = ["Noised", "PrefixOptions", "PrefixSearch", "timesteps_of"]


class PrefixOptions(StrictModel):
    """Options of a search by gradients; the defaults are the published ones."""

    tokens: int = Field(default=3, ge=1, description="tokens that are searched")
    timesteps: int = Field(
        default=50, ge=1, description="timesteps, one after the other; a picture after each"
    )
    iterations: int = Field(default=40, ge=1, description="updates at each timestep")
    learning_rate: float = Field(default=0.01, gt=0, description="Adam's learning rate")
    weight_decay: float = Field(
        default=0.1, ge=0, description="Adam's weight decay, added to the gradient as torch does"
    )
    choice: Literal["greatest", "sampled"] = Field(
        default="greatest",
        description="the token of the forward pass: the greatest weight, or drawn by weight",
    )
    together: int = Field(default=1, ge=1, description="cases searched in one batch; a matter of memory")
    exclude: tuple[str, ...] = Field(default=(), description="tokens never used, by their text")


@dataclass(frozen=True)
class Noised:
    """A batch of noised pictures: numbers of the cases, x_0, n, t (B,) and x_t, all on the model's device."""

    cases: list[int]
    clean: Tensor
    noise: Tensor
    t: Tensor
    noisy: Tensor


class PrefixSearch(PromptAttack):
    """A search for tokens p' by gradients through denoiser and text encoder.

    Each place is a point of the simplex over the vocabulary, started at a random one. The forward pass takes
    its corner (one-hot, the gradient straight through), Adam moves the point and it is projected back. x_t is
    the base's own picture of the original prompt, noised; all searched at one timestep, then at the next.
    After each timestep the tokens are written out, drawn as text and judged; a success ends the case.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base", "gradients", "text"})
    options: PrefixOptions

    @abstractmethod
    def goal(self, job: Job, batch: Noised) -> Tensor:
        """The noise (B, C, h, w) that the model's, given the adversarial prompt, is to match; no graph."""

    def tail(self, prompt: str) -> str:
        """What follows the tokens that are searched: the original prompt, unless overridden."""
        return prompt

    def tries(self) -> int:
        """One look after each timestep."""
        return self.options.timesteps

    def searching(self, cases: int) -> Cost:
        """A forward and a backward pass an update."""
        updates = cases * self.options.timesteps * self.options.iterations
        return Cost(updates, updates, 0)

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """A proposal for every open case of a batch after each timestep, batch by batch."""
        words = Vocabulary(job.model.tokenizers, self.options.exclude)
        words.check(self.options.tokens)
        if self.options.timesteps > job.model.train_timesteps:
            raise UserError(
                f"prompt attack '{self.name}': timesteps must lie in 1..{job.model.train_timesteps}, "
                f"found {self.options.timesteps}"
            )
        numbers = list(job.open)
        for first in range(0, len(numbers), self.options.together):
            yield from self._batch(job, words, numbers[first : first + self.options.together])

    def _batch(self, job: Job, words: Vocabulary, numbers: list[int]) -> Iterator[dict[int, Proposal]]:
        options, model = self.options, job.model
        clean = dict(zip(numbers, self._pictures(job, numbers), strict=True))
        rngs = {n: job.rng(n) for n in numbers}
        steps = {n: timesteps_of(model.train_timesteps, options.timesteps, rngs[n]) for n in numbers}
        points = {n: self._start(words, rngs[n]).to(model.device).requires_grad_() for n in numbers}
        # A case that is done has no gradient any more, and Adam passes it over.
        adam = torch.optim.Adam(
            list(points.values()), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        for turn in range(options.timesteps):
            left = [n for n in numbers if n in job.open]
            if not left:
                return
            t = torch.stack([steps[n][turn] for n in left]).to(model.device)
            total = torch.zeros(len(left))
            for _ in range(options.iterations):
                batch = self._noised(job, left, torch.stack([clean[n] for n in left]), t, rngs)
                moving = [points[n] for n in left]
                losses = self.losses(job, words, batch, torch.stack(self._corners(moving, left, rngs)))
                adam.zero_grad(set_to_none=True)
                for point, gradient in zip(moving, torch.autograd.grad(losses.sum(), moving), strict=True):
                    point.grad = gradient
                adam.step()
                with torch.no_grad():
                    for point in moving:
                        point.copy_(project_to_simplex(point))
                total += losses.detach().float().cpu()
            proposals = {}
            for n, loss in zip(left, total / options.iterations, strict=True):
                text = words.write(words.ids[points[n].detach().argmax(dim=-1).cpu()])
                proposals[n] = Proposal(joined(text, self.tail(job.cases[n].prompt)), float(loss))
            yield proposals

    def losses(self, job: Job, words: Vocabulary, batch: Noised, hot: Tensor) -> Tensor:
        """Mean squared distance (B,) of the model's noise to the goal, for one-hot rows `hot` (B, k, A)."""
        tails = [self.tail(job.cases[n].prompt) for n in batch.cases]
        text = job.model.encode_tokens(words.spread(hot), tails)
        prediction = job.model.predict(batch.noisy, batch.t, text)
        found = job.model.noise_of(prediction, batch.noisy, batch.t).float()
        return (self.goal(job, batch).float() - found).square().flatten(1).mean(dim=1)

    def _pictures(self, job: Job, numbers: Sequence[int]) -> Tensor:
        """The base's pictures of the original prompts as the model's latents (B, C, h, w) float32."""
        cases = [job.cases[n] for n in numbers]
        drawn = job.target.draw([case.prompt for case in cases], [case.seed for case in cases], job.base)
        pictures = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents: Tensor = job.model.encode_pictures(pictures).float()
        return latents

    def _start(self, words: Vocabulary, rng: torch.Generator) -> Tensor:
        # Far from every corner, so that no token has a head start that the first updates cannot make up.
        return project_to_simplex(torch.rand((self.options.tokens, len(words)), generator=rng))

    def _corners(self, points: list[Tensor], cases: list[int], rngs: dict[int, Any]) -> list[Tensor]:
        sampled = self.options.choice == "sampled"
        return [corner(point, rngs[n] if sampled else None) for point, n in zip(points, cases, strict=True)]

    def _noised(
        self, job: Job, cases: list[int], clean: Tensor, t: Tensor, rngs: dict[int, torch.Generator]
    ) -> Noised:
        noise = torch.stack([torch.randn(clean.shape[1:], generator=rngs[n]) for n in cases]).to(clean)
        noisy = job.model.add_noise(clean, noise, t).to(job.model.dtype)
        return Noised(list(cases), clean, noise, t, noisy)


def timesteps_of(train_timesteps: int, count: int, rng: torch.Generator) -> Tensor:
    """`count` different timesteps (count,) long, one from each of as many equal parts, in random order."""
    edges = torch.arange(count + 1) * train_timesteps // count
    spans = edges[1:] - edges[:-1]
    drawn = edges[:-1] + (torch.rand(count, generator=rng, dtype=torch.float64) * spans).long()
    return drawn[torch.randperm(count, generator=rng)]
