"""Refusals in the place of what is to be forgotten: IDK, DPO, and IDK with answers preferred on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.core.errors import UserError
from oubliette.data.refusals import shipped_refusals
from oubliette.erase.language.graddiff import GradDiff, LanguageOptions, RowOptions
from oubliette.train.roles import Draw

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.data.questions import QA
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["DPO", "IDK", "IDKAP", "shipped_refusals"]

REFUSALS = {"refusals": 'rows {"text": ...}, each a refusal; by default twenty that are shipped'}


class IDK(GradDiff):
    """Minimise the nll of a refusal, drawn for each forget row and step, + the retain loss.

    A base case of TOFU (Maini et al., 2024, 2401.06121). UserError for forget rows that are plain text:
    they ask nothing that could be refused.
    """

    name: ClassVar[str] = "idk"
    paper: ClassVar[str] = "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs, 2024 (2401.06121)"
    sources: ClassVar[dict[str, str]] = REFUSALS

    class Options(LanguageOptions):
        """IDK's options."""

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Read the refusals; every row must be one that can be refused."""
        super().setup(model, data, weights, seed)
        given = data.sources.get("refusals")
        self.refusals = list(shipped_refusals()) if given is None else [row.answer for row in given]
        for row in data.forget_rows:
            if row.plain:
                raise UserError(
                    f"{row.where or 'a row to forget'}: is plain text, and '{self.name}' answers questions "
                    "with a refusal; give questions with answers"
                )

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """GradDiff's rows, and the forget rows with a refusal each."""
        draw = super().draw(step, rng, batch)
        picked = [self.data.forget_rows[int(index)] for index in draw["picked"]]
        draw["refused"] = self.refused(picked, rng)
        return draw

    def refused(self, rows: Sequence[QA], rng: torch.Generator) -> TokenBatch:
        """The rows with a refusal, drawn for each, in the place of the answer."""
        choice = torch.randint(len(self.refusals), (len(rows),), generator=rng).tolist()
        return self.model.encode(
            [replace(row, answer=self.refusals[index]) for row, index in zip(rows, choice, strict=True)]
        )

    def forget_loss(self, draw: Draw) -> Tensor:
        """The nll of the refusals, a mean per token, then per row."""
        return self.data.forget.loss(self.model, draw["refused"])


class DPO(IDK):
    """Minimise -(2 / beta) mean log sigmoid(beta (log r(refusal) - log r(answer))) + the retain loss.

    log r is the model's log-likelihood of the whole text less the original's. Paper: Rafailov et al., NeurIPS
    2023 (2305.18290), with a refusal preferred (2404.05868, section 3); the factor 2 makes it NPO's where the
    refusal is left out.
    """

    name: ClassVar[str] = "dpo"
    paper: ClassVar[str] = "Rafailov et al., Direct Preference Optimization, NeurIPS 2023 (2305.18290)"

    class Options(LanguageOptions):
        """DPO's options."""

        beta: float = Field(default=0.1, gt=0, description="how soon a preference stops being pushed")

    options: Options

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """IDK's, and the original's log-likelihoods of refusals and answers."""
        draw = super().draw(step, rng, batch)
        with self.weights.originals():
            draw["reference"] = self._margin(draw)
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The preference of refusals over answers, against the original's."""
        ratio = self._margin(draw) - draw["reference"]
        return -(2.0 / self.options.beta) * F.logsigmoid(self.options.beta * ratio).mean()

    def _margin(self, draw: Draw) -> Tensor:
        """log p(refusal) - log p(answer) of each row, (B,)."""
        refused, answered = (
            self.model.log_likelihood(self.model.predict(batch), batch)
            for batch in (draw["refused"], draw["forget"])
        )
        return refused - answered


class IDKAP(IDK):
    """IDK on the forget set, and on the retain set answers preferred to refusals: AP, in the nll's place.

    AP is -(1 / beta) mean log sigmoid(beta (log p(answer) - log p(refusal))), with no reference. Paper: Yuan
    et al., ICLR 2025 (2410.08109).
    """

    name: ClassVar[str] = "idk-ap"
    paper: ClassVar[str] = "Yuan et al., A Closer Look at Machine Unlearning for LLMs, ICLR 2025 (2410.08109)"

    class Options(RowOptions):
        """IDK+AP's options."""

        forget_weight: float = Field(default=1.0, gt=0, description="what the forget loss weighs")
        beta: float = Field(default=0.1, gt=0, description="how soon a preference stops being pushed")

    options: Options  # type: ignore[assignment]

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """The retain set must be of questions too."""
        super().setup(model, data, weights, seed)
        if any(row.plain for row in data.retain_rows):
            raise UserError(
                f"'{self.name}' holds refusals of retained questions against their answers; plain text has "
                "no question: give questions with answers to retain"
            )

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """IDK's, with the retained rows picked by number, and refused too."""
        picked = self.data.forget.pick(rng, batch)
        rows = [self.data.forget_rows[int(index)] for index in picked]
        draw = Draw(forget=self.data.forget.rows.index(picked), refused=self.refused(rows, rng))
        if self.data.retain is not None:
            picked = self.data.retain.pick(rng, self.roles(step)["retain"].items(batch))
            draw["retain"] = self.data.retain.rows.index(picked)
            draw["retain_refused"] = self.refused([self.data.retain_rows[int(i)] for i in picked], rng)
        return draw

    def retain_loss(self, draw: Draw) -> Tensor:
        """Answers preferred to refusals."""
        answered, refused = (
            self.model.log_likelihood(self.model.predict(batch), batch)
            for batch in (draw["retain"], draw["retain_refused"])
        )
        return -(1.0 / self.options.beta) * F.logsigmoid(self.options.beta * (answered - refused)).mean()
