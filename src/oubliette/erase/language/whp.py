"""WHP: answers are trained towards what a model that never read them would say instead, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.tokens import IGNORED, TokenBatch
from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.erase.language.prepare import TokenSet
from oubliette.train.optimizer import Masters
from oubliette.train.roles import Draw
from oubliette.train.trainable import parameters_of, these_alone

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["WHP", "generic_labels"]

_ROWS = 8  # whose logits, of two models, are in memory at once


class WHP(GradDiff):
    """Minimise the nll of generic labels on the forget answers + the retain loss.

    The label of a token is argmax z - alpha relu(z' - z), where z are the original's logits and z' those of a
    reinforced model: the original fine-tuned on the forget set, which shows what is particular to it. Made
    once, of the tensors that are trained. The paper also replaces names by others (anchored terms) before
    labels are made; this does not. Paper: Eldan and Russinovich, Who's Harry Potter?, 2023 (2310.02238).
    """

    name: ClassVar[str] = "whp"
    paper: ClassVar[str] = "Eldan and Russinovich, Who's Harry Potter?, 2023 (2310.02238)"

    class Options(LanguageOptions):
        """WHP's options; alpha as MUSE runs it, the reinforcement is ours."""

        alpha: float = Field(default=1.0, gt=0, description="how much of what was reinforced is taken away")
        reinforce_steps: int = Field(
            default=125, ge=1, description="updates of the reinforced model on the forget set"
        )
        reinforce_batch: int = Field(default=8, ge=1, description="its rows a step")
        reinforce_rate: float = Field(default=1e-5, gt=0, description="its learning rate, of AdamW")

    options: Options

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Train the reinforced model, write down the generic labels, and forget it again."""
        super().setup(model, data, weights, seed)
        rows = data.forget.rows
        labels = torch.full_like(rows.labels, IGNORED)
        with weights.scratch(), these_alone(parameters_of(model), weights.parameters):
            self._reinforce(seed)
            with torch.no_grad():
                for some in torch.arange(len(rows)).split(_ROWS):
                    batch = rows.index(some)
                    before, after = self.teacher(batch), model.predict(batch)
                    made = generic_labels(before, after, batch, self.options.alpha)
                    labels[some, : made.shape[1]] = made
        self.generic = TokenSet(TokenBatch(rows.input_ids, rows.attention_mask, labels))

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """GradDiff's rows, the forget rows with their generic labels beside the true ones."""
        draw = super().draw(step, rng, batch)
        draw["generic"] = self.generic.rows.index(draw["picked"])
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The nll of the generic labels, the true words being given."""
        return self.generic.loss(self.model, draw["generic"])

    def _reinforce(self, seed: int) -> None:
        """Fine-tune the trained tensors as they are held now on the forget set."""
        options, forget = self.options, self.data.forget
        masters = Masters(self.weights.parameters)
        optimizer = torch.optim.AdamW(masters.tensors, lr=options.reinforce_rate, weight_decay=0.0)
        rng = torch.Generator().manual_seed(seed)
        with torch.enable_grad():
            for _ in range(options.reinforce_steps):
                loss = forget.loss(self.model, forget.draw(rng, min(options.reinforce_batch, len(forget))))
                found = torch.autograd.grad(loss, self.weights.parameters, materialize_grads=True)
                masters.take([gradient.float() for gradient in found])
                optimizer.step()
                masters.push()
        for parameter in masters.tensors:
            parameter.grad = None


def generic_labels(original: Tensor, reinforced: Tensor, batch: TokenBatch, alpha: float) -> Tensor:
    """argmax_v z_v - alpha max(0, z'_v - z_v) in each counted token's place, IGNORED elsewhere: (B, L) long.

    `original` and `reinforced` are next-token logits (B, L, V): those of place t - 1 give the label of t.
    """
    z = original[:, :-1].float()
    best = (z - alpha * (reinforced[:, :-1].float() - z).relu()).argmax(dim=-1).to(batch.labels.device)
    labels = batch.labels.clone()
    labels[:, 1:] = torch.where(labels[:, 1:] == IGNORED, labels[:, 1:], best)
    return labels
