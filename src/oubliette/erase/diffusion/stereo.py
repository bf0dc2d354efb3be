"""STEREO: find the words that bring a concept back, then erase once, away from all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.text import TextEmbedding
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.common import DiffusionObjective
from oubliette.erase.diffusion.stereo_search import Term, encoded, search, terms_in_turn
from oubliette.erase.diffusion.turns import PromptSource, batch_pairs
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData
    from oubliette.train.weights import Weights

_WORDS = "words"


def projected(direction: Tensor, along: Tensor, limit: float | None) -> Tensor:
    """Adaptive projected guidance: what of a guidance direction (B, ...) is orthogonal to a prediction.

    Each item's direction is first shortened to the L2 norm `limit`, if it is longer. In fp32. Paper: Sadat et
    al. 2024 (2410.02416), with no momentum and nothing of the parallel part kept.
    """
    flat, other = direction.float().flatten(1), along.float().flatten(1)
    if limit is not None:
        flat = flat * (limit / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
    unit = F.normalize(other, dim=1)
    return (flat - (flat * unit).sum(1, keepdim=True) * unit).view_as(direction)


class Stereo(DiffusionObjective):
    """Search thoroughly enough, then robustly erase once.

    First stage, at the first step drawn and on weights of its own: rounds of {ESD on the concept and the
    words found, textual inversion of a new word}. Second, from the original weights: mean ||eps_th(x_t, v) -
    (e_0 + g D)||^2 for v the prompt and the words in turn, e_0 = eps_0(x_t, empty), D = [eps_0(x_t, anchor) -
    e_0] - mean_v [eps_0(x_t, v) - e_0], projected by APG. Paper: Srivatsan et al., CVPR 2025, arXiv
    2408.16807, whose authors' code was not at hand: the defaults are those of EraseEval's port. Assumed where
    that is silent: one g for both directions, their mean over v, APG with respect to e_0 and with `apg_limit`
    unset, a word that stands alone as a prompt and starts as the concept's name. Words are kept in a
    checkpoint: a resumed run does not seek them again.
    """

    name: ClassVar[str] = "stereo"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    budget: ClassVar[tuple[str, ...]] = (*DiffusionObjective.budget, "method.erase_steps")
    paper: ClassVar[str] = (
        "Srivatsan et al., STEREO: A Two-Stage Framework for Adversarially Robust Concept Erasing, CVPR 2025 "
        "(2408.16807)"
    )

    class Options(StrictModel):
        """STEREO's options; the defaults are those of EraseEval's port."""

        rounds: int = Field(default=4, ge=1, description="rounds of the search, each with a word a concept")
        erase_steps: int = Field(default=200, ge=1, description="ESD's updates in a round")
        erase_learning_rate: float = Field(default=5e-6, gt=0)
        inversion_steps: int = Field(default=3000, ge=1, description="a word's updates")
        inversion_learning_rate: float = Field(default=5e-3, gt=0)
        words: int = Field(default=1, ge=1, description="tokens of a learned word")
        accumulation: int = Field(
            default=1, ge=1, description="micro-batches of a search's step; a multiple of the processes"
        )
        guidance: float = Field(
            default=2.0, ge=0, description="g, towards the anchor and away from the words"
        )
        normalise: Literal["apg", "none"] = Field(
            default="apg", description="leave the direction's part along the empty prediction out, or not"
        )
        apg_limit: float | None = Field(
            default=None, gt=0, description="greatest L2 norm of an item's direction"
        )
        prompts: PromptSource = Field(default="name", description="the bare name, or the bank's prompts")
        trajectory_steps: int = Field(default=50, ge=1, description="sampling steps of a whole trajectory")
        trajectory_guidance: float = Field(default=3.0, ge=0, description="guidance of the trajectory")

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """Each item is met on a trajectory of its own."""
        return StepCost(trajectory=options.trajectory_steps)

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Take hold of all; the search waits for the first step, since a resumed run has its words."""
        super().setup(model, data, weights, seed)
        self.seed = seed
        self._words: Tensor | None = None

    def roles(self, step: int) -> dict[str, Role]:
        """Forget alone."""
        return {"forget": Role("forget")}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """x_t from a stopped trajectory of the original network and the composed target there; the first draw
        of a run seeks the words before.
        """
        if self._words is None:
            self._words = search(self, batch)
        options, words = self.options, self._words
        pairs = batch_pairs(self.request, self.data, options.prompts, step, rng, batch)
        anchors = [concept.anchor for concept in self.request.concepts]
        terms = terms_in_turn(pairs, words, step * batch, anchors)
        stop = int(torch.randint(options.trajectory_steps, (1,), generator=rng))
        with torch.no_grad(), self.weights.originals():
            noisy, t = self.model.trajectory(
                encoded(self.model, terms),
                stop,
                steps=options.trajectory_steps,
                guidance=options.trajectory_guidance,
                generator=rng,
            )
            every = [Term(pair) for pair in pairs]
            texts = [
                self.model.unconditional(batch),
                self.model.encode_text([term.pair.anchor for term in terms]),
                encoded(self.model, every),
                *(
                    encoded(self.model, [Term(pair, words[pair.concept, at]) for pair in pairs])
                    for at in range(words.shape[1])
                ),
            ]
            count = len(texts)
            at, when = torch.cat([noisy] * count), torch.cat([t] * count)
            empty, anchor, *concept = self.model.predict(at, when, TextEmbedding.join(texts)).chunk(count)
        return Draw(noisy=noisy, t=t, terms=terms, goal=self._composed(empty, anchor, torch.stack(concept)))

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The squared distance to the composed target."""
        text = encoded(self.model, draw["terms"], grad=self._text_trained and torch.is_grad_enabled())
        prediction = self.model.predict(draw["noisy"], draw["t"], text)
        return F.mse_loss(prediction.float(), draw["goal"].float())

    def state(self) -> dict[str, Tensor]:
        """The words that were found."""
        return {} if self._words is None else {_WORDS: self._words}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the words back, so that they need not be sought."""
        self._words = state.get(_WORDS)

    def _composed(self, empty: Tensor, anchor: Tensor, concept: Tensor) -> Tensor:
        empty = empty.float()
        direction = (anchor.float() - empty) - (concept.float() - empty).mean(dim=0)
        if self.options.normalise == "apg":
            direction = projected(direction, empty, self.options.apg_limit)
        return empty + self.options.guidance * direction
