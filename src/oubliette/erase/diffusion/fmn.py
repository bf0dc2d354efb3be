"""Forget-Me-Not: the cross-attention is turned away from the concept's tokens."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.data.text import InputWarning
from oubliette.data.words import slotted
from oubliette.erase.diffusion.attention import attention_layers, find_tokens, watching
from oubliette.erase.diffusion.common import NoiseOptions, PairObjective, Prior
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData
    from oubliette.erase.request import ErasureRequest, PromptPair
    from oubliette.train.weights import Weights


class ForgetMeNot(PairObjective):
    """Attention re-steering: mean over pictures of the sum of p^2 over layers, heads, pixels, concept tokens.

    p are the cross-attention's probabilities on a noised picture of the concept, under a prompt that names
    it. What the network puts out instead is left open. Paper: Zhang et al., CVPR Workshops 2024, arXiv
    2303.17591; its optional textual inversion, which gives a concept without a name tokens, is left out.
    """

    name: ClassVar[str] = "fmn"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = (
        "Zhang et al., Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models, "
        "CVPR Workshops 2024 (2303.17591)"
    )

    class Options(NoiseOptions):
        """Forget-Me-Not's options; the defaults are the published ones, without a prior."""

        prior: Prior = "none"
        norm: Literal["squared", "plain"] = Field(
            default="squared", description="the squared norm, or the norm itself, as in the released code"
        )
        end_token: bool = Field(
            default=True, description="the first end token too, which sums the prompt up, as released"
        )

    options: Options

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Find the concept's tokens in every prompt; a prompt that is cut before it names it has none.

        UserError for a model whose cross-attention cannot be read, a prompt that does not name the concept,
        or where all are cut.
        """
        self._layers = attention_layers(model)
        self._tokens = [self._concept_tokens(model, data, item) for item in data.items]
        if cut := self._tokens.count([]):
            what = f"{cut} of {len(self._tokens)} prompts are cut before they name the concept"
            if cut == len(self._tokens):
                raise UserError(f"{what}: the text encoder reads too few tokens; give shorter prompts")
            warnings.warn(f"{what}; their pictures teach method 'fmn' nothing", InputWarning, stacklevel=2)
        super().setup(model, data, weights, seed)

    def pictures(self) -> Tensor:
        """Latents of the concept's own pictures, (items, C, h, w)."""
        return self.data.target_latents()

    def roles(self, step: int) -> dict[str, Role]:
        """Forget in every step, and the prior as retain role if there is one."""
        return {"forget": Role("forget"), **self.prior_role()}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Noised pictures of the concept with their prompts, and a prior batch."""
        return self.draw_pairs(step, rng, batch)

    def loss(self, role: str, draw: Draw) -> Tensor:
        """What the concept's tokens get of the attention ("forget"), or the denoising loss ("prior")."""
        if role == "prior":
            return self.prior_loss(draw)
        with watching(self._layers) as seen:
            self.student(draw["noisy"], draw["t"], draw["target"])
        squares = []
        for row, item in enumerate(draw["items"]):
            own = self._tokens[item]
            given = [each.probabilities[row][..., own].float().square().sum() for each in seen]
            squares.append(torch.stack(given).sum())
        found = torch.stack(squares)
        return (found if self.options.norm == "squared" else found.sqrt()).mean()

    def _concept_tokens(self, model: DiffusionBackend, data: DiffusionData, item: PromptPair) -> list[int]:
        words = [word for word in data.words(item.concept) if slotted(item.target, word) is not None]
        if not words:
            name = self.request.concepts[item.concept].name
            raise UserError(
                f"prompt {item.target!r} does not name '{name}'; method 'fmn' needs prompts that do "
                "(or list the word among the concept's synonyms)"
            )
        found = {at for word in words for at in find_tokens(model, item.target, word)}
        if found and self.options.end_token:
            found.add(int(model.encode_text([item.target]).length) - 1)
        return sorted(found)
