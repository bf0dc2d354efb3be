"""TAR: the model is left where an attacker who relearns the forget rows still says nothing of others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.hooks import read
from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.erase.language.graddiff import GradDiff, RowOptions
from oubliette.erase.language.prepare import TokenSet
from oubliette.erase.language.rr import mean_distance
from oubliette.train.cost import StepCost
from oubliette.train.first_order import first_order
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["TAR", "mean_entropy"]

_BETA = (6, 3)  # where in its run an attacker turns from retained rows to those to forget, as a share


class TAR(GradDiff):
    """Minimise -sum_i e^(growth (i - K + 1)) H(w_i) on held-out forget rows + the retain loss.

    w_i are an attacker's weights. In each micro-batch one takes K AdamW steps from the weights as they stand,
    on fresh rows and at one of `inner_learning_rates`; H is the mean entropy of the answers' tokens after
    every `every`-th step and after the last. Its gradient there stands for that at w (first order), and all
    weights get their bits back. The attacker is drawn anew each time: it trains on the forget rows, on
    `sources.related` where that is named, or, where there is a retain set, on retained rows up to a time of
    K Beta(6, 3) and then on the forget rows. The rows that H is taken on, at most half of them, are not among
    its own. The retain loss is the nll + `representation` * the mean over tokens and blocks of
    |h - h_original|.

    Published on top of a model whose blocks were brought, on the forget rows, to a random vector for each
    token: the first `mapping_steps` do that, minimising the mean of 1 - |cos| beside the retain rows' nll.
    K = 0 brings the entropy up where the weights stand. The attacker moves all elements of the scope's
    tensors, without weight decay, whatever mask or rank binds the eraser. Paper: Tamirisa et al., ICLR 2025
    (2408.00761).
    """

    name: ClassVar[str] = "tar"
    paper: ClassVar[str] = "Tamirisa et al., Tamper-Resistant Safeguards, ICLR 2025 (2408.00761)"
    sources: ClassVar[dict[str, str]] = {"related": "rows of the same field that an attacker may train on"}

    class Options(RowOptions):
        """TAR's options; the defaults are the released ones for an 8B model."""

        forget_weight: float = Field(default=4.0, gt=0, description="what the tamper-resistance loss weighs")
        inner_steps: int = Field(default=64, ge=0, description="K, the attacker's steps; 0 is no attacker")
        inner_learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
            default=[2e-6, 2e-5, 4e-5], min_length=1, description="rates, one of which an attacker has"
        )
        inner_batch: float = Field(
            default=0.5, gt=0, description="rows of an attacker's step for each of the outer step's"
        )
        every: int = Field(default=4, ge=1, description="attacker's steps from one look at the entropy on")
        growth: float = Field(default=0.0625, description="how much more later looks weigh")
        representation: float = Field(
            default=1.0, ge=0, description="what the distance of retained states weighs beside the nll"
        )
        mapping_steps: int = Field(default=0, ge=0, description="steps of random mapping at first")

    options: Options  # type: ignore[assignment]

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """The attacker's passes and the looks at the entropy, the last of which is the forget pass itself."""
        looks = -(-options.inner_steps // options.every)
        inner = options.inner_steps * options.inner_batch + looks - 1 if options.inner_steps else 0.0
        return StepCost(inner=inner, retain_batch=options.retain_batch)

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Take hold of model, data and weights, and draw the vectors of random mapping.

        UserError for a single row, of which nothing can be held out.
        """
        super().setup(model, data, weights, seed)
        if len(data.forget) < 2:
            raise UserError("method 'tar' holds forget rows out from its attacker: give at least two")
        self._every = list(range(len(model.blocks())))
        self._attackers = ["forget"]
        if related := data.sources.get("related"):
            self._related = TokenSet(model.encode(related))
            self._attackers.append("related")
        if data.retain is not None:
            self._attackers.append("switch")
        self._words = data.forget.rows.input_ids.unique()
        width = model.embed(data.forget.rows.index([0])).shape[-1]
        rng = torch.Generator().manual_seed(seed)
        self._vectors = torch.randn(len(self._words), width, generator=rng).to(model.device)

    def roles(self, step: int) -> dict[str, Role]:
        """GradDiff's; the attacker's role has rows of its own, `inner_batch` times as many."""
        return {**super().roles(step), "relearn": Role("inner", batch=self.options.inner_batch)}

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Held-out forget rows, the attacker's rows step by step, and retained rows with their states."""
        order = torch.randperm(len(self.data.forget), generator=rng)
        held, free = order.tensor_split([min(batch, len(order) // 2)])
        roles = self.roles(step)
        draw = Draw(forget=self.data.forget.rows.index(held), mapping=step < self.options.mapping_steps)
        if not draw["mapping"]:
            own = TokenSet(self.data.forget.rows.index(free))
            self._draw_attacker(draw, own, rng, roles["relearn"].items(batch))
        if self.data.retain is not None:
            draw["retain"] = self.data.retain.draw(rng, roles["retain"].items(batch))
            if self._watches(draw):
                with self.weights.originals():
                    draw["kept"] = self._states(draw["retain"])
        return draw

    def _draw_attacker(self, draw: Draw, own: TokenSet, rng: torch.Generator, rows: int) -> None:
        """Its rate, and its K batches of `rows`."""

        def one_of(count: int) -> int:
            return int(torch.randint(count, (1,), generator=rng))

        rates = self.options.inner_learning_rates
        draw["rate"] = rates[one_of(len(rates))]
        kind = self._attackers[one_of(len(self._attackers))]
        turn = 0.0
        if kind == "switch":
            # Beta(a, b) for whole numbers: the a-th smallest of a + b - 1 uniform numbers.
            uniform = torch.rand(sum(_BETA) - 1, generator=rng).sort().values
            turn = float(uniform[_BETA[0] - 1]) * self.options.inner_steps
        late = self._related if kind == "related" else own
        draw["attack"] = [
            (self.data.retain if step < turn and self.data.retain is not None else late).draw(rng, rows)
            for step in range(self.options.inner_steps)
        ]

    def forget_loss(self, draw: Draw) -> Tensor:
        """The tamper-resistance loss with its gradient of first order, or that of random mapping."""
        if draw["mapping"]:
            return self._mapping_loss(draw["forget"])
        if not draw["attack"]:
            return -self.entropy(draw["forget"])
        parameters, last = self.weights.parameters, len(draw["attack"]) - 1
        moves = [nn.Parameter(torch.zeros_like(each, dtype=torch.float32)) for each in parameters]
        slopes = [torch.zeros_like(move) for move in moves]
        optimizer = torch.optim.AdamW(moves, lr=draw["rate"], weight_decay=0.0, fused=True)
        total = torch.zeros((), device=moves[0].device)
        with torch.enable_grad():  # a look at the loss alone takes the run all the same
            for number, rows in enumerate(draw["attack"]):
                with self.weights.perturbed([move.detach() for move in moves]):
                    loss = self.loss("relearn", Draw(forget=rows))
                    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                for move, gradient in zip(moves, gradients, strict=True):
                    move.grad = None if gradient is None else gradient.float()
                optimizer.step()
                if (number + 1) % self.options.every and number != last:
                    continue
                with self.weights.perturbed([move.detach() for move in moves]):
                    loss = -self.entropy(draw["forget"]) * math.exp(self.options.growth * (number - last))
                    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                total += loss.detach()
                for slope, gradient in zip(slopes, gradients, strict=True):
                    if gradient is not None:
                        slope.add_(gradient)
        return first_order(total, parameters, slopes)

    def entropy(self, batch: TokenBatch) -> Tensor:
        """The mean entropy of the counted tokens' predictions, in nats."""
        return mean_entropy(self.model.predict(batch), batch)

    def retain_loss(self, draw: Draw) -> Tensor:
        """The retain rows' nll, and how far their states are from the original's."""
        assert self.data.retain is not None
        batch = draw["retain"]
        if "kept" not in draw:
            return self.data.retain.loss(self.model, batch)
        with read(self.model.blocks(), self._every) as seen:
            loss = self.data.retain.loss(self.model, batch)
        states = torch.stack([seen[index].float() for index in self._every])
        return loss + self.options.representation * mean_distance(states, draw["kept"], batch)

    def _mapping_loss(self, batch: TokenBatch) -> Tensor:
        """The mean over blocks and tokens of 1 - |cos| between a state and its token's vector."""
        states = self._states(batch)
        there = batch.attention_mask.bool().to(states.device)
        place = torch.searchsorted(self._words, batch.input_ids).to(states.device)
        return 1 - F.cosine_similarity(states, self._vectors[place], dim=-1).abs()[:, there].mean()

    def _watches(self, draw: Draw) -> bool:
        return self.options.representation > 0 and not draw["mapping"]

    def _states(self, batch: TokenBatch) -> Tensor:
        """Every block's output, fp32 (blocks, B, L, width)."""
        with read(self.model.blocks(), self._every) as seen:
            self.model.predict(batch)
        return torch.stack([seen[index].float() for index in self._every])


def mean_entropy(logits: Tensor, batch: TokenBatch) -> Tensor:
    """-sum_v p_v log p_v a counted token, the mean over a row's, then over rows; logits (B, L, V)."""
    logs = F.log_softmax(logits[:, :-1].float(), dim=-1)
    counted = (batch.labels[:, 1:] != IGNORED).to(logs.device)
    each = -(logs.exp() * logs).sum(dim=-1)
    return ((each * counted).sum(dim=1) / counted.sum(dim=1)).mean()
