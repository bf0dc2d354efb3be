"""PDU: flatten the logits of what is to go, under a bound on what the retained answers may cost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.erase.language.graddiff import GradDiff, RowOptions
from oubliette.train.processes import Processes
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.erase.request import ErasureRequest
    from oubliette.train.weights import Weights

__all__ = ["PDU", "margin"]


class PDU(GradDiff):
    """Minimise gamma margin(forget) subject to nll(retain) <= epsilon, with a multiplier mu for the bound.

    margin is the mean over an answer's tokens of (max_v z_v - mean_v z_v)^2. The model descends
    gamma margin + mu nll(retain); after each step mu becomes max(0, mu + rate (nll - epsilon)), from the step
    `hold` on. The nll is the step's own, over all its micro-batches and processes. Paper: Entesari et al.,
    2025 (2506.05314). Without a retain set nothing bounds it: UserError.
    """

    name: ClassVar[str] = "pdu"
    paper: ClassVar[str] = "Entesari et al., Constrained Entropic Unlearning, 2025 (2506.05314)"

    class Options(RowOptions):
        """PDU's options; the defaults are those published for TOFU."""

        forget_weight: float = Field(default=1.0, gt=0, description="gamma, what the forget loss weighs")
        multiplier: float = Field(default=100.0, ge=0, description="mu at the start")
        rate: float = Field(default=5.0, ge=0, description="by how much mu moves for a unit over the bound")
        bound: float = Field(
            default=0.3, gt=0, description="epsilon, what a retained token may cost; a little over the start"
        )
        hold: int = Field(default=0, ge=0, description="first steps in which mu stays")

    options: Options  # type: ignore[assignment]

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)  # type: ignore[arg-type]
        self.multiplier = options.multiplier
        self._costs: list[Tensor] = []

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Take hold of them; there must be a retain set."""
        if data.retain is None:
            raise UserError(
                "'pdu' bounds what the retain set may cost, and there is none; name one (--retain)"
            )
        super().setup(model, data, weights, seed)
        self._processes = Processes(model.device)

    def roles(self, step: int) -> dict[str, Role]:
        """Both, the retain loss with the multiplier as it is after the last step."""
        if self._costs:
            (cost,) = self._processes.mean([torch.stack(self._costs).mean()])
            self._costs = []
            if step > self.options.hold:
                moved = self.multiplier + self.options.rate * (float(cost) - self.options.bound)
                self.multiplier = max(0.0, moved)
        roles = super().roles(step)
        return {**roles, "retain": replace(roles["retain"], weight=self.multiplier)}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of each set."""
        assert self.data.retain is not None
        retained = self.roles(step)["retain"].items(batch)
        return Draw(forget=self.data.forget.draw(rng, batch), retain=self.data.retain.draw(rng, retained))

    def forget_loss(self, draw: Draw) -> Tensor:
        """The margin, a mean per token, then per row."""
        return margin(self.model.predict(draw["forget"]), draw["forget"])

    def retain_loss(self, draw: Draw) -> Tensor:
        """The nll of the retain rows; that of a draw's first evaluation counts for the multiplier."""
        assert self.data.retain is not None
        loss = self.data.retain.loss(self.model, draw["retain"])
        if "cost" not in draw.cache:
            draw.cache["cost"] = loss.detach()
            self._costs.append(loss.detach())
        return loss

    def state(self) -> dict[str, Tensor]:
        """The multiplier, and the costs it has yet to be moved by."""
        costs = torch.stack(self._costs) if self._costs else torch.zeros(0)
        return {"multiplier": torch.tensor(self.multiplier, dtype=torch.float64), "costs": costs}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take them back."""
        self.multiplier, self._costs = float(state["multiplier"]), list(state["costs"])

    def report(self) -> dict[str, float]:
        """The multiplier."""
        return {"multiplier": self.multiplier}


def margin(logits: Tensor, batch: TokenBatch) -> Tensor:
    """(max_v z - mean_v z)^2 a counted token, the mean over a row's, then over rows; logits (B, L, V)."""
    flat = logits[:, :-1].float()
    each = (flat.amax(dim=-1) - flat.mean(dim=-1)) ** 2
    counted = (batch.labels[:, 1:] != IGNORED).to(each.device)
    return ((each * counted).sum(dim=1) / counted.sum(dim=1)).mean()
