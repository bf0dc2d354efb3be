"""SCRUB: phases that leave the original on the forget set, in turn with phases that stay near it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.erase.language.graddiff import GradDiff, RowOptions, mean_divergence
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.erase.request import ErasureRequest
    from oubliette.train.weights import Weights

__all__ = ["SCRUB"]


class SCRUB(GradDiff):
    """In turn: `forget_steps` that minimise -D(forget), then `retain_steps` of alpha D + gamma nll (retain).

    D is T^2 KL(original || model) at temperature T on the answers' tokens, a mean per token, then per row.
    After `rounds` of both the retain set alone is trained on. A step has one of the two roles: a surgery,
    which weighs the two against each other, has nothing to do. The first step begins where -D has no slope,
    and leaves it on rounding noise that Adam scales up. Without a retain set there is no second phase:
    UserError. Paper: Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023 (2302.09880), there
    for classifiers; the temperature and its square are the released code's.
    """

    name: ClassVar[str] = "scrub"
    paper: ClassVar[str] = "Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023 (2302.09880)"

    class Options(RowOptions):
        """SCRUB's options; weights and temperature are the released code's, phases epochs of TOFU."""

        forget_weight: float = Field(
            default=1.0, gt=0, description="what the divergence on the forget set weighs"
        )
        divergence: float = Field(default=0.5, ge=0, description="alpha, the divergence on the retain set")
        likelihood: float = Field(default=1.0, ge=0, description="gamma, the nll of the retained answers")
        temperature: float = Field(default=2.0, gt=0, description="T, by which logits are divided")
        forget_steps: int = Field(default=13, ge=1, description="steps of a phase that forgets")
        retain_steps: int = Field(default=113, ge=1, description="steps of a phase that retains")
        rounds: int = Field(default=3, ge=1, description="how many phases forget")

    options: Options  # type: ignore[assignment]

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)  # type: ignore[arg-type]
        if options.divergence == options.likelihood == 0:
            raise UserError("method 'scrub': divergence and likelihood are both 0, so nothing is retained")

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Take hold of them; there must be a retain set."""
        if data.retain is None:
            raise UserError(
                "'scrub' trains on the forget and the retain set in turn, and there is no retain set; "
                "name one (--retain)"
            )
        super().setup(model, data, weights, seed)

    def roles(self, step: int) -> dict[str, Role]:
        """The phase's own, and who relearns the forget rows."""
        number, place = divmod(step, self.options.forget_steps + self.options.retain_steps)
        forgets = number < self.options.rounds and place < self.options.forget_steps
        roles = super().roles(step)
        del roles["retain" if forgets else "forget"]
        return roles

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of both sets, so that where a phase ends has no part in what is drawn."""
        assert self.data.retain is not None
        retained = Role("retain", batch=self.options.retain_batch).items(batch)
        return Draw(forget=self.data.forget.draw(rng, batch), retain=self.data.retain.draw(rng, retained))

    def forget_loss(self, draw: Draw) -> Tensor:
        """Minus the divergence from the original on the forget rows."""
        return -self._divergence("forget", draw)

    def retain_loss(self, draw: Draw) -> Tensor:
        """The divergence on the retain rows and their nll, weighed."""
        assert self.data.retain is not None
        loss = self.options.likelihood * self.data.retain.loss(self.model, draw["retain"])
        if self.options.divergence:
            loss = loss + self.options.divergence * self._divergence("retain", draw)
        return loss

    def _divergence(self, name: str, draw: Draw) -> Tensor:
        """D of the rows of a set; the original is asked in the role's own phase alone, and once."""
        if name not in draw.cache:
            draw.cache[name] = self.teacher(draw[name])
        heat, rows = self.options.temperature, draw[name]
        return heat**2 * mean_divergence(draw.cache[name] / heat, self.model.predict(rows) / heat, rows)
