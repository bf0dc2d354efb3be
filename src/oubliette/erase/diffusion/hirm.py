"""HiRM: the text encoder's first layer learns to send the concept's last-layer tokens in one random
direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.attention import token_positions
from oubliette.erase.diffusion.common import DiffusionObjective
from oubliette.erase.diffusion.turns import PromptSource, batch_pairs
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData
    from oubliette.train.weights import Weights


def misdirection(hidden: Tensor, goal: Tensor, counted: Tensor) -> Tensor:
    """mean_t ||h_t - goal||^2 over the counted tokens of each item, then over items: a scalar in fp32.

    `hidden` (B, L, d), `goal` (B, d), `counted` (B, L) of 0 and 1, at least one a row.
    """
    apart = (hidden.float() - goal.float().unsqueeze(1)).square().sum(-1)
    return ((apart * counted).sum(1) / counted.sum(1)).mean()


class HiRM(DiffusionObjective):
    """High-level representation misdirection: mean_t ||h_t - c r||^2, h_t the text encoder's last-layer
    tokens.

    r is one random unit direction for each concept, drawn from the seed. Only the first layer of the encoder
    is to be trained (the preset's scope), and the denoiser is never run. The summary at hand leaves open
    which tokens count, what c is, and on which prompts; assumed here: the concept's tokens and all after
    them, which alone can know of it under a causal mask; c = `scale` times the mean length of the concept's
    own tokens in the original encoder; the concept's bare name. It states no retention term: `retention` is
    this package's. Paper: ICLR 2026, arXiv 2602.19631.
    """

    name: ClassVar[str] = "hirm"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = "HiRM, high-level representation misdirection, ICLR 2026 (2602.19631)"

    class Options(StrictModel):
        """HiRM's options; the defaults are the plainest reading of the equation."""

        scale: float = Field(default=1.0, gt=0, description="c, in mean lengths of the concept's own tokens")
        tokens: Literal["after", "all"] = Field(
            default="after", description="from the concept's first token on, or all but the start token"
        )
        prompts: PromptSource = Field(default="name", description="the bare name, or the bank's prompts")
        retention: bool = Field(
            default=False, description="hold the retain prompts' tokens where the original has them"
        )

    options: Options

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Draw each concept's direction and measure its tokens; UserError for a scope outside the encoder."""
        super().setup(model, data, weights, seed)
        if not self._text_trained:
            raise UserError(
                "method 'hirm' trains the text encoder and the scope holds none of its tensors; "
                r"its preset's scope is 're:^text_encoder(_2)?\.(text_model\.)?encoder\.layers\.0\.'"
            )
        names = [concept.name for concept in self.request.concepts]
        with torch.no_grad():
            hidden = model.encode_text(names).hidden.float()
        counted = self._counted(names, list(range(len(names))), hidden)
        lengths = (hidden.norm(dim=-1) * counted).sum(1) / counted.sum(1)
        direction = torch.randn(len(names), hidden.shape[-1], generator=torch.Generator().manual_seed(seed))
        unit = torch.nn.functional.normalize(direction, dim=-1).to(hidden)
        self._goals = self.options.scale * lengths.unsqueeze(1) * unit

    def roles(self, step: int) -> dict[str, Role]:
        """Forget, and with `retention` what is kept of the retain prompts."""
        return {"forget": Role("forget"), **({"keep": Role("retain")} if self.options.retention else {})}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Prompts of the concepts in turn; with `retention` retain prompts and their original tokens."""
        pairs = batch_pairs(self.request, self.data, self.options.prompts, step, rng, batch)
        draw = Draw(prompts=[pair.target for pair in pairs], concepts=[pair.concept for pair in pairs])
        if self.options.retention:
            known = self.data.retain_prompts()
            kept = [known[int(torch.randint(len(known), (1,), generator=rng))] for _ in range(batch)]
            with torch.no_grad(), self.weights.originals():
                draw["kept"], draw["kept_hidden"] = kept, self.model.encode_text(kept).hidden.float()
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """How far the concept's tokens are from their goal, or the retain prompts' from where they were."""
        if role == "keep":
            hidden = self.model.encode_text(draw["kept"], grad=True).hidden.float()
            return (hidden - draw["kept_hidden"]).square().sum(-1).mean()
        hidden = self.model.encode_text(draw["prompts"], grad=True).hidden
        counted = self._counted(draw["prompts"], draw["concepts"], hidden)
        return misdirection(hidden, self._goals[draw["concepts"]], counted)

    def _counted(self, prompts: list[str], concepts: list[int], hidden: Tensor) -> Tensor:
        """Which tokens count, (B, L) of 0 and 1 in fp32: never the start token, which no text can change."""
        first = [1] * len(prompts)
        if self.options.tokens == "after":
            words = [self.data.words(which) for which in concepts]
            first = [min(places) for places in token_positions(self.model, prompts, words)]
        places = torch.arange(hidden.shape[1], device=hidden.device)
        return (places >= torch.tensor(first, device=hidden.device).unsqueeze(1)).float()
