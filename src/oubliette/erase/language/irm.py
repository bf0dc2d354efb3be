"""NPO+IRM: NPO whose model stays where a fine-tuning on something else would leave it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.erase.language.npo import NPO
from oubliette.erase.language.prepare import TokenSet
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["NPOIRM", "invariance_penalty"]


class NPOIRM(NPO):
    """NPO + gamma |d/dw nll(w z) at w = 1|^2 on rows of an unrelated task, z the logits, + the retain loss.

    Invariant risk minimisation (Arjovsky et al., 2019, IRMv1) with fine-tuning on the task as the other
    environment: where the penalty is zero no scaling of the logits would do better there, and to first order
    fine-tuning on it moves little. Paper: Wang et al., ILU, ICML 2025 (2506.01339); its released code holds
    no such term, and the form is the one that its text describes.
    """

    name: ClassVar[str] = "npo-irm"
    paper: ClassVar[str] = "Wang et al., Invariance Makes LLM Unlearning Resilient, ICML 2025 (2506.01339)"
    sources: ClassVar[dict[str, str]] = {"auxiliary": "rows of a task that has to do with neither set"}

    class Options(NPO.Options):
        """NPO's options, and the penalty's."""

        invariance: float = Field(default=0.1, gt=0, description="gamma, what the penalty weighs")
        auxiliary_batch: float = Field(
            default=1.0, gt=0, description="rows of the other task for each of a step's forget rows"
        )

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """NPO's, and a pass of the other task's rows."""
        more = options.auxiliary_batch
        return replace(super().step_cost(options), forwards=more, backwards=more)

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """NPO's, and the auxiliary rows; UserError where there are none."""
        rows = data.sources.get("auxiliary")
        if not rows:
            raise UserError(
                "method 'npo-irm' holds the model against fine-tuning on another task; name its rows "
                "(--set sources.auxiliary=FILE)"
            )
        super().setup(model, data, weights, seed)
        self.auxiliary = TokenSet(model.encode(rows))

    def roles(self, step: int) -> dict[str, Role]:
        """NPO's, and the auxiliary rows', which are to stay as they are."""
        own = Role("retain", weight=self.options.invariance, batch=self.options.auxiliary_batch)
        return {**super().roles(step), "auxiliary": own}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """NPO's, and auxiliary rows."""
        draw = super().draw(step, rng, batch)
        draw["auxiliary"] = self.auxiliary.draw(rng, self.roles(step)["auxiliary"].items(batch))
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The role's loss, a scalar in fp32."""
        if role != "auxiliary":
            return super().loss(role, draw)
        batch = draw["auxiliary"]
        return invariance_penalty(self.model.predict(batch), batch)


def invariance_penalty(logits: Tensor, batch: TokenBatch) -> Tensor:
    """The squared slope at w = 1 of the nll of w times the logits, in closed form: the mean over counted
    tokens of sum_v p_v z_v - z_y, then over rows, squared.
    """
    shifted = logits[:, :-1].float()
    labels = batch.labels[:, 1:].to(shifted.device)
    counted = labels != IGNORED
    own = shifted.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    each = (shifted.softmax(dim=-1) * shifted).sum(dim=-1) - own
    slope = ((each * counted).sum(dim=1) / counted.sum(dim=1)).mean()
    return slope.square()
