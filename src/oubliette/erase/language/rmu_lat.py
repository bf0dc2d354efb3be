"""RMU+LAT: RMU that holds while something in the model's middle is pushed towards what is to be forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.hooks import changed, read
from oubliette.core.errors import UserError
from oubliette.erase.language.rmu import RMU
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw

if TYPE_CHECKING:
    from typing import Any

    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["RMULAT"]


class RMULAT(RMU):
    """RMU whose forget loss is taken under an adversary's perturbation of an earlier block's output.

    In each step delta (B, L, width), of norm at most `epsilon` a token, is found by `attack_steps` of AdamW
    that minimise the nll of the forget rows; it is fixed while the step's losses are taken, and the retain
    loss has none. Paper: Sheshadri et al., Latent Adversarial Training, 2024 (2407.15549). One update an
    attack here, four in the released code.
    """

    name: ClassVar[str] = "rmu-lat"
    paper: ClassVar[str] = "Sheshadri et al., Latent Adversarial Training, 2024 (2407.15549)"

    class Options(RMU.Options):
        """RMU's options at the released depth, and the adversary's."""

        layer: int = Field(default=8, description="the block whose output is steered")
        attack_layer: int = Field(default=7, description="the block whose output is perturbed, not after it")
        epsilon: float = Field(default=2.0, gt=0, description="the perturbation's greatest norm a token")
        attack_steps: int = Field(default=16, ge=1)
        attack_learning_rate: float = Field(default=5e-2, gt=0)

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """The adversary's passes for each forget item."""
        attack = options.attack_steps
        return replace(super().step_cost(options), forwards=attack + 1, backwards=attack)

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """RMU's; UserError where the block to perturb lies behind the one that is steered."""
        super().setup(model, data, weights, seed)
        count = len(model.blocks())
        attacked, steered = (index % count for index in (self.options.attack_layer, self.options.layer))
        if not -count <= self.options.attack_layer < count or attacked > steered:
            raise UserError(
                f"method 'rmu-lat': attack_layer {self.options.attack_layer} must be a block (0 to "
                f"{count - 1}) that is not after layer {self.options.layer}, which it is to reach"
            )

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """RMU's, with the perturbation against the weights as they are now."""
        draw = super().draw(step, rng, batch)
        draw["delta"] = self.attack(draw["forget"])
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """RMU's under the perturbation."""
        with self._perturbed(draw["delta"]):
            return super().forget_loss(draw)

    def attack(self, batch: TokenBatch) -> Tensor:
        """The perturbation (B, L, width) that makes the rows likeliest, without a graph."""
        with torch.no_grad(), read(self.model.blocks(), [self.options.attack_layer]) as seen:
            self.model.predict(batch)
        delta = torch.zeros_like(seen[self.options.attack_layer].float(), requires_grad=True)
        optimiser = torch.optim.AdamW([delta], lr=self.options.attack_learning_rate, weight_decay=0.0)
        for _ in range(self.options.attack_steps):
            with torch.enable_grad(), self._perturbed(delta):
                loss = self.data.forget.loss(self.model, batch)
            (delta.grad,) = torch.autograd.grad(loss, delta)
            optimiser.step()
            with torch.no_grad():
                size = delta.norm(dim=-1, keepdim=True)
                delta.mul_((self.options.epsilon / size.clamp(min=1e-12)).clamp(max=1.0))
        return delta.detach()

    def _perturbed(self, delta: Tensor) -> Any:
        return changed(
            self.model.blocks(), {self.options.attack_layer: lambda output: output + delta.to(output.dtype)}
        )
