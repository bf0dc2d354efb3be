"""SAFREE: the prompt's trigger tokens moved off the concept's subspace, in the drawing's first steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.text import TextEmbedding
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.training_free import SettingsAlone, TrainingFree, words_of

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.backends.guidance import Guidance, Guide
    from oubliette.erase.prepare import DiffusionData

__all__ = ["SAFREE", "FilteredGuide", "PromptFilter", "basis", "filter_steps", "off_concept", "triggers"]

_MASK = 0  # the token that stands in for a masked one: "!" in CLIP's vocabulary, as in the released code


class PromptFilter(SettingsAlone):
    """What SAFREE adds to a model: other embeddings for the prompts that come near the words."""

    name: ClassVar[str] = "safree"

    alpha: float = Field(ge=0)
    adaptive: bool
    steps: int = Field(ge=0)
    centre: float
    slope: float = Field(gt=0)
    negative: bool
    padding: bool = False

    def guide(self, model: DiffusionBackend, plain: Guidance) -> Guide:
        """`FilteredGuide` for one batch; with `negative`, against the words in place of the empty prompt."""
        if self.negative and plain.guided:
            words = model.encode_text([", ".join(self.words)])
            plain = replace(plain, empty=words.repeat(len(plain.text)))
        rows, last = zip(*self._filtered(model, plain), strict=True)
        return FilteredGuide(plain, torch.stack(rows), torch.tensor(last))

    @torch.no_grad()
    def _filtered(self, model: DiffusionBackend, plain: Guidance) -> list[tuple[Tensor, int]]:
        """For each prompt: its filtered embedding (L, d), and the last step that is drawn with it."""
        concept = basis(closing_rows(model.encode_text(self.words)))
        found = []
        for index, prompt in enumerate(plain.prompts):
            own = plain.text.hidden[index]
            masked = masked_rows(model, prompt)
            if not len(masked):
                found.append((own, -1))
                continue
            moved = off_concept(own, concept, basis(masked))
            hit = torch.zeros(len(own), dtype=torch.bool, device=own.device)
            hit[1 : len(masked) + 1] = triggers(masked, concept, self.alpha)
            hit[len(masked) + 1 :] = self.padding
            length = int(plain.text.length[index])
            found.append(
                (torch.where(hit[:, None], moved, own), self._last_step(own[:length], moved[:length]))
            )
        return found

    def _last_step(self, own: Tensor, moved: Tensor) -> int:
        """By how far the text (n, d) moves when all of it is moved; every step where not adaptive."""
        if not self.adaptive:
            return torch.iinfo(torch.int32).max
        away = 1 - float(F.cosine_similarity(own.double(), moved.double(), dim=-1).mean())
        return filter_steps(away, most=self.steps, centre=self.centre, slope=self.slope)


class FilteredGuide:
    """Ordinary guidance of a batch, each prompt by its filtered embedding up to its own last step.

    `filtered` (B, L, d) takes the place of the text's hidden states in the steps 0 .. `last` (B,).
    """

    def __init__(self, plain: Guidance, filtered: Tensor, last: Tensor) -> None:
        self._plain, self._filtered, self._last = plain, filtered, last
        self._made: dict[tuple[bool, ...], Guidance] = {}

    def __call__(self, number: int, t: Tensor, latents: Tensor) -> Tensor:
        """See `oubliette.backends.guidance.Guide`."""
        on = tuple((self._last >= number).tolist())
        if on not in self._made:
            text, chosen = self._plain.text, torch.tensor(on, device=self._filtered.device)
            hidden = torch.where(chosen[:, None, None], self._filtered, text.hidden)
            self._made = {on: replace(self._plain, text=replace(text, hidden=hidden))}
        return self._made[on](number, t, latents)


class SAFREE(TrainingFree):
    """Filters prompts in the text encoder's space before the network sees them; the weights stay as they are.

    The concept's subspace is spanned by its words' embeddings, and `keywords` add to it: the published lists
    have about 17 for nudity and one for an artist. Without the released frequency re-weighting of the UNet's
    skip connections. Paper: Yoon et al., ICLR 2025, arXiv 2410.12761.
    """

    name: ClassVar[str] = "safree"
    title: ClassVar[str] = "SAFREE"
    paper: ClassVar[str] = "Yoon et al., SAFREE, ICLR 2025 (2410.12761)"

    class Options(StrictModel):
        """Trigger tokens and how long they are filtered; the defaults are the released code's."""

        keywords: tuple[str, ...] = Field(
            default=(), description="further words that span the concept's subspace"
        )
        alpha: float = Field(default=0.01, ge=0, description="how much farther than the mean a trigger lies")
        adaptive: bool = Field(
            default=True, description="filter the first steps, by how near the prompt is; or all steps"
        )
        steps: int = Field(default=10, ge=0, description="the last step that is ever filtered, of 50")
        centre: float = Field(
            default=5.333, description="10 x the distance at which half of them are (5.5 for artists)"
        )
        slope: float = Field(default=2.5, gt=0, description="how sharply that rises (3.5 for artists)")
        negative: bool = Field(
            default=False,
            description="guide away from the words, as the released scripts do, not from the empty prompt",
        )
        padding: bool = Field(
            default=False,
            description="filter the rows behind the prompt too (end of text, padding): they have read it, "
            "and hold the concept when its own token is gone; the released code leaves them",
        )

    options: Options

    def attachment(self, model: DiffusionBackend, data: DiffusionData, scope: Sequence[str]) -> PromptFilter:
        """What goes with `model`; `data` and `scope` are of no account.

        Raises UserError for a model whose text encoders number tokens differently: no token can be masked.
        """
        masked_rows(model, self.request.concepts[0].name)
        facts = self.options.model_dump(exclude={"keywords"})
        words = (*words_of(self.request), *(word for word in self.options.keywords if word.strip()))
        return PromptFilter(words=tuple(dict.fromkeys(words)), **facts)


def closing_rows(text: TextEmbedding) -> Tensor:
    """Each prompt's embedding at its end-of-text token (B, d): the pooled text of Stable Diffusion 1.x."""
    rows = torch.arange(len(text), device=text.hidden.device)
    return text.hidden[rows, (text.length - 1).to(text.hidden.device)]


def masked_rows(model: DiffusionBackend, prompt: str) -> Tensor:
    """`closing_rows` of a prompt of n tokens, each of them masked in turn: (n, d); (0, d) for an empty one.

    What the text encoder cannot read any more has no rows.
    """
    tokenizer = model.tokenizers[0]
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    own = tokenizer(prompt, add_special_tokens=False, truncation=True, max_length=room).input_ids
    if not own:
        return model.encode_text([prompt]).hidden[0, :0]
    ids = torch.tensor([own] * len(own))
    ids.fill_diagonal_(_MASK)
    return closing_rows(model.encode_tokens(ids, [""] * len(own)))


def basis(rows: Tensor) -> Tensor:
    """An orthonormal basis (d, r) of what rows (n, d) span, float64; r is the rank in their own precision."""
    left, values, _ = torch.linalg.svd(rows.double().T, full_matrices=False)
    least = values[:1] * max(rows.shape) * torch.finfo(rows.dtype).eps
    return left[:, values > least]


def triggers(masked: Tensor, concept: Tensor, alpha: float) -> Tensor:
    """Which of n tokens (bool) trigger the concept: `masked` (n, d) by prompts, `concept` (d, r) a basis.

    Token i does where d_i >= (1 + alpha) mean of the other d_j, d_i being the distance from the subspace of
    the prompt without it: the token takes the prompt there. A lone one, with nothing to compare it, always
    does, as in the released code. Paper: equations 2 to 4.
    """
    rows = masked.double()
    away = (rows - rows @ concept @ concept.T).norm(dim=-1)
    if len(away) == 1:
        return torch.ones(1, dtype=torch.bool, device=masked.device)
    others = (away.sum() - away) / (len(away) - 1)
    return away >= (1 + alpha) * others


def off_concept(rows: Tensor, concept: Tensor, prompt: Tensor) -> Tensor:
    """(I - P_C) P_I e for token rows (L, d): into the masked prompts' span, and out of the concept's.

    `concept` (d, r) and `prompt` (d, s) are bases. The order is the released code's; the paper prints the
    other.
    """
    inside = rows.double() @ prompt @ prompt.T
    return (inside - inside @ concept @ concept.T).to(rows.dtype)


def filter_steps(away: float, *, most: int, centre: float, slope: float) -> int:
    """The last step that is filtered: most / (1 + exp(-2 slope (10 away - centre))), rounded.

    `away` is 1 - the mean cosine between the text and the text moved whole. Paper: equation 6, with the
    constants of the released code.
    """
    return round(most / (1 + math.exp(-2 * slope * (10 * away - centre))))
