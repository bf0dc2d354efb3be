"""SLD: safe latent diffusion, guidance away from a text in every step of the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.text import TextEmbedding
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.training_free import SettingsAlone, TrainingFree, words_of

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.backends.guidance import Guidance, Guide
    from oubliette.erase.prepare import DiffusionData

__all__ = ["SLD", "STRENGTHS", "AwayGuide", "SafetyGuidance"]

Strength = Literal["weak", "medium", "strong", "max"]

STRENGTHS: dict[str, dict[str, float]] = {
    "weak": {"scale": 200, "warm_up": 15, "threshold": 0.0, "momentum": 0.0, "decay": 0.0},
    "medium": {"scale": 1000, "warm_up": 10, "threshold": 0.01, "momentum": 0.3, "decay": 0.4},
    "strong": {"scale": 2000, "warm_up": 7, "threshold": 0.025, "momentum": 0.5, "decay": 0.7},
    "max": {"scale": 5000, "warm_up": 0, "threshold": 1.0, "momentum": 0.5, "decay": 0.7},
}
"""The four published settings (diffusers has 20 for the scale of "weak", in place of the paper's 200)."""


class SafetyGuidance(SettingsAlone):
    """What SLD adds to a model: one more row a picture, asked with the text of what is not to be drawn."""

    name: ClassVar[str] = "sld"

    scale: float = Field(ge=0)
    warm_up: int = Field(ge=0)
    threshold: float
    momentum: float = Field(ge=0)
    decay: float = Field(ge=0, le=1)

    @property
    def text(self) -> str:
        """The words as one text, "a, b, c"."""
        return ", ".join(self.words)

    def guide(self, model: DiffusionBackend, plain: Guidance) -> Guide:
        """`AwayGuide` for one batch; ordinary guidance where the scale is 0."""
        if self.scale == 0:
            return plain
        return AwayGuide(self, plain, model.encode_text([self.text]))


class AwayGuide:
    """e = e_0 + s [(e_p - e_0) - g], of the empty prompt and the prompt; one pass of three rows a picture.

    With e_S of the concept's text (1 row), per element: m = min(1, scale |e_p - e_S|) where e_p - e_S <
    threshold, else 0; g = m (e_S - e_0) + momentum v; then v <- decay v + (1 - decay) g, from v = 0. During
    the first `warm_up` steps v is gathered and g left out of e. Where the drawing has no guidance, s = 1. All
    in float32 and in the network's own output (the noise, for Stable Diffusion 1.x). Equations 3 to 8 of
    Schramowski et al. 2023 (2211.05105), in the signs of its released code, which bounds m by 1.
    """

    def __init__(self, settings: SafetyGuidance, plain: Guidance, concept: TextEmbedding) -> None:
        self._settings, self._plain = settings, plain
        self._scale = plain.scale if plain.guided else 1.0
        count = len(plain.text)
        self._text = TextEmbedding.join([plain.empty, plain.text, concept.index([0] * count)])
        self._gathered: Tensor | None = None

    def __call__(self, number: int, t: Tensor, latents: Tensor) -> Tensor:
        """See `oubliette.backends.guidance.Guide`."""
        rows = torch.cat([latents] * 3)
        found = self._plain.predict(rows, t.expand(len(rows)), self._text)
        empty, prompt, concept = found.float().chunk(3)
        away = self._away(empty, prompt, concept)
        towards = prompt - empty
        if number >= self._settings.warm_up:
            towards = towards - away
        return (empty + self._scale * towards).to(found.dtype)

    def _away(self, empty: Tensor, prompt: Tensor, concept: Tensor) -> Tensor:
        """g, and v moved on by it."""
        settings = self._settings
        gap = prompt - concept
        share = (settings.scale * gap.abs()).clamp(max=1)
        away = torch.where(gap < settings.threshold, share, 0.0) * (concept - empty)
        before = torch.zeros_like(away) if self._gathered is None else self._gathered
        away = away + settings.momentum * before
        self._gathered = settings.decay * before + (1 - settings.decay) * away
        return away


class SLD(TrainingFree):
    """Draws away from the concept's text, where the prompt comes near it; the weights stay as they are.

    The text is all names and synonyms of all concepts, joined by commas, as the paper joins its own list; so
    one pass serves any number of concepts. Half as dear again as ordinary guidance. Paper: Schramowski et
    al., CVPR 2023, arXiv 2211.05105.
    """

    name: ClassVar[str] = "sld"
    title: ClassVar[str] = "SLD"
    paper: ClassVar[str] = "Schramowski et al., Safe Latent Diffusion, CVPR 2023 (2211.05105)"

    class Options(StrictModel):
        """A published strength, and its parts where one is to differ. Its warm-ups are meant for 50 steps."""

        strength: Strength = Field(default="medium", description="weak, medium, strong or max, as published")
        scale: float | None = Field(default=None, ge=0, description="how fast the way off grows; 0 is off")
        warm_up: int | None = Field(default=None, ge=0, description="first steps that are left alone")
        threshold: float | None = Field(default=None, description="e_p - e_S below it counts as too near")
        momentum: float | None = Field(default=None, ge=0, description="weight of what was gathered before")
        decay: float | None = Field(default=None, ge=0, le=1, description="beta: what the gathered keeps")

    options: Options

    def attachment(
        self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]
    ) -> SafetyGuidance:
        """What goes with `model`; `data` and `scope` are of no account."""
        given = self.options.model_dump(exclude={"strength"}, exclude_none=True)
        facts: dict[str, Any] = {**STRENGTHS[self.options.strength], **given}
        return SafetyGuidance(words=words_of(self.request), **facts)
