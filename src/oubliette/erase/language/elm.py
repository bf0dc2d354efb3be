"""ELM: the model is brought to write of what is to be forgotten as somebody would who does not know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.tokens import IGNORED, TokenBatch
from oubliette.core.errors import UserError
from oubliette.erase.language.distilled import soft_cross_entropy
from oubliette.erase.language.graddiff import GradDiff, RowOptions
from oubliette.erase.language.prepare import TokenSet
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["ELM", "guided", "joined"]

_BATCH = 8  # texts that are continued at once
_Rows = Sequence[tuple[list[int], int]]


class ELM(GradDiff):
    """Minimise CE(q, p) on forget rows + CE(the original's choice, p) on retain rows + the nll of own texts.

    q is the `top` greatest of log p_0(y | row) + eta_t (log p_0(y | novice, row) - log p_0(y | expert, row)),
    renormalised: p_0 is the original at `temperature`, the conditions are sentences before the question or
    the text, and eta_t goes from 1 at a row's first counted token to `eta` at its last. The retain rows'
    target is the original's likeliest token, or its whole prediction ("soft"). The texts, made once by the
    original under the same guidance of constant strength, follow a forget row's question (or the first half
    of a text) and a sentence that turns to something else: they keep it fluent. Their weight counts times the
    recipe's retain weight. Paper: Gandikota et al., 2024 (2410.02760). The sentences are neutral ones of
    ours.
    """

    name: ClassVar[str] = "elm"
    paper: ClassVar[str] = (
        "Gandikota et al., Erasing Conceptual Knowledge from Language Models, 2024 (2410.02760)"
    )

    class Options(RowOptions):
        """ELM's options; the numbers are the released ones."""

        forget_weight: float = Field(default=1.0, gt=0, description="what the forget loss weighs")
        eta: float = Field(default=1000.0, ge=0, description="strength of the guidance at a row's end")
        temperature: float = Field(default=1.2, gt=0, description="of the original's predictions")
        top: int = Field(default=50, ge=1, description="tokens that the target keeps")
        expert: str = Field(
            default="This is written by someone who knows the subject well.", description="what it turns from"
        )
        novice: str = Field(
            default="This is written by someone who has never heard of the subject.",
            description="what it turns to",
        )
        retain: Literal["argmax", "soft"] = Field(
            default="argmax", description="the original's likeliest token, or its whole prediction"
        )
        consistency: float = Field(default=1.0, ge=0, description="what the nll of own texts weighs")
        texts: int = Field(default=64, ge=1, description="forget rows that own texts are made for, at most")
        length: int = Field(default=64, ge=1, description="their length in tokens, at most")
        guidance: float = Field(default=3.0, ge=0, description="strength of their guidance")
        turn: str = Field(default="Now to something else.", description="the sentence that they follow")

    options: Options  # type: ignore[assignment]

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """The original's two further predictions, and a pass of own texts."""
        own = 1.0 if options.consistency else 0.0
        return StepCost(forwards=2 + own, backwards=own, retain_batch=options.retain_batch)

    @torch.no_grad()
    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Put the sentences before the forget rows, and have the original write the texts.

        UserError for a row that is too long with a sentence before it.
        """
        super().setup(model, data, weights, seed)
        self._said = {who: self._after(getattr(self.options, who)) for who in ("expert", "novice")}
        if self.options.consistency:
            self.own = TokenSet(self._texts(torch.Generator().manual_seed(seed)))

    def roles(self, step: int) -> dict[str, Role]:
        """GradDiff's, and the own texts', which are to stay likely."""
        roles = super().roles(step)
        if self.options.consistency:
            roles["consistency"] = Role("retain", weight=self.options.consistency)
        return roles

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of each set, with the original's word on them."""
        picked = self.data.forget.pick(rng, batch)
        draw = Draw(forget=self.data.forget.rows.index(picked))
        with self.weights.originals():
            draw["tokens"], draw["target"] = self.target(picked)
            if self.data.retain is not None:
                draw["retain"] = self.data.retain.draw(rng, self.roles(step)["retain"].items(batch))
                draw["kept"] = self.model.predict(draw["retain"])
        if self.options.consistency:
            draw["consistency"] = self.own.draw(rng, batch)
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The role's loss, a scalar in fp32."""
        if role == "consistency":
            return self.own.loss(self.model, draw["consistency"])
        return super().loss(role, draw)

    def forget_loss(self, draw: Draw) -> Tensor:
        """Cross-entropy to the target a counted token, the mean over a row's, then over rows."""
        batch = draw["forget"]
        logs = self._counted(batch).log_softmax(dim=-1)
        each = -(draw["target"] * logs.gather(1, draw["tokens"])).sum(dim=-1)
        counts = batch.counts().to(each.device)
        return (each / counts.repeat_interleave(counts)).sum() / len(batch)

    def retain_loss(self, draw: Draw) -> Tensor:
        """Cross-entropy to what the original makes of the retain rows."""
        batch: TokenBatch = draw["retain"]
        kept = draw["kept"][:, :-1]
        if self.options.retain == "soft":
            return soft_cross_entropy(kept.float().softmax(dim=-1), self.model.predict(batch), batch)
        labels = batch.labels.to(kept.device, copy=True)
        labels[:, 1:] = kept.argmax(dim=-1).where(labels[:, 1:] != IGNORED, IGNORED)
        assert self.data.retain is not None
        return self.data.retain.loss(self.model, replace(batch, labels=labels))

    def target(self, picked: Tensor) -> tuple[Tensor, Tensor]:
        """q for every counted token of these forget rows, row after row: tokens and shares (n, top)."""
        batch = self.data.forget.rows.index(picked)
        logits = [self._counted(batch), *(self._counted(rows.index(picked)) for rows in self._said.values())]
        strength = torch.cat([torch.linspace(1.0, self.options.eta, int(count)) for count in batch.counts()])
        return self._guided(logits, strength.unsqueeze(1).to(logits[0].device))

    def _guided(self, logits: Sequence[Tensor], strength: Tensor) -> tuple[Tensor, Tensor]:
        """`guided` of the plain, the expert's and the novice's logits, at the option's temperature."""
        plain, expert, novice = ((each / self.options.temperature).log_softmax(dim=-1) for each in logits)
        return guided(plain, expert, novice, strength, self.options.top)

    def _counted(self, batch: TokenBatch) -> Tensor:
        """The logits (n, V) that counted tokens are predicted from, row after row, in fp32."""
        logits = self.model.predict(batch)[:, :-1]
        return logits[(batch.labels[:, 1:] != IGNORED).to(logits.device)].float()

    def _after(self, sentence: str) -> TokenBatch:
        """The forget rows with a sentence before them, the same tokens counted."""
        reader, rows = self.model.reader, []
        for number, row in enumerate(self.data.forget_rows):
            ids = _tokens(self.data.forget.rows, number)
            start = len(ids) - self._answers(number)
            if not row.plain:
                before = reader.tokens(reader.prompt(f"{sentence} {row.question}", row.history))[0]
                ids, start = ids[start:], 0
            elif ids[0] == reader.tokenizer.bos_token_id:
                before, ids = reader.tokens(sentence)[0], ids[1:]
            else:
                before, start = reader.tokens(sentence)[0], 1  # a text's first token is never predicted
            self._check(len(before) + len(ids), number)
            rows.append((before + ids, len(before) + start))
        return joined(rows, reader.pad)

    def _answers(self, number: int) -> int:
        """How many tokens of a forget row are its answer, or its text."""
        return int((self.data.forget.rows.labels[number] != IGNORED).sum())

    def _check(self, length: int, number: int) -> None:
        if length > self.model.reader.max_length:
            raise UserError(
                f"{self.data.forget_rows[number].where or f'row {number + 1}'}: is {length} tokens long with "
                f"what method '{self.name}' adds to it, and "
                f"{self.model.source} reads {self.model.reader.max_length}; shorten it, or the sentences "
                "(method.expert, method.novice, method.turn)"
            )

    def _texts(self, rng: torch.Generator) -> TokenBatch:
        """What the original writes after a forget row's beginning and the turn, guided."""
        reader, own = self.model.reader, self.data.forget.rows
        turn = reader.tokenizer(f" {self.options.turn}", add_special_tokens=False)["input_ids"]
        found: list[tuple[list[int], int]] = []
        for numbers in torch.arange(min(self.options.texts, len(own))).split(_BATCH):
            begun: dict[str, list[list[int]]] = {}
            for who, rows in (("plain", own), *self._said.items()):
                begun[who] = []
                for number in numbers.tolist():
                    left_out = self._answers(number)
                    if self.data.forget_rows[number].plain:
                        left_out -= left_out // 2
                    begun[who].append(_tokens(rows, number)[:-left_out] + turn)
                    self._check(len(begun[who][-1]) + 1, number)
            starts = [len(ids) for ids in begun["plain"]]
            self._continue(begun, rng)
            found += list(zip(begun["plain"], starts, strict=True))
        return joined(found, reader.pad)

    def _continue(self, texts: dict[str, list[list[int]]], rng: torch.Generator) -> None:
        """Write on, in place: the same tokens behind each of the three beginnings."""
        ended = [False] * len(texts["plain"])
        longest = max(len(ids) for rows in texts.values() for ids in rows)
        for _ in range(min(self.options.length, self.model.reader.max_length - longest)):
            logits = [self._last(rows) for rows in texts.values()]
            tokens, shares = self._guided(logits, torch.tensor(self.options.guidance))
            drawn = torch.multinomial(shares.cpu(), 1, generator=rng)
            for number, token in enumerate(tokens.cpu().gather(1, drawn).squeeze(1).tolist()):
                if not ended[number]:
                    ended[number] = token == self.model.reader.end
                    for rows in texts.values():
                        rows[number].append(token)

    def _last(self, rows: list[list[int]]) -> Tensor:
        """The logits (B, V) that follow each row, fp32."""
        batch = joined([(ids, 0) for ids in rows], self.model.reader.pad)
        logits = self.model.predict(batch)
        return logits[torch.arange(len(rows)), [len(ids) - 1 for ids in rows]].float()


def guided(
    plain: Tensor, expert: Tensor, novice: Tensor, strength: Tensor, top: int
) -> tuple[Tensor, Tensor]:
    """The tokens of the `top` greatest plain + strength (novice - expert), logs (n, V), and their softmax."""
    scores, tokens = (plain + strength * (novice - expert)).topk(min(top, plain.shape[-1]), dim=-1)
    return tokens, scores.softmax(dim=-1)


def _tokens(batch: TokenBatch, number: int) -> list[int]:
    """A row without its padding."""
    found: list[int] = batch.input_ids[number][batch.attention_mask[number].bool()].tolist()
    return found


def joined(rows: _Rows, pad: int) -> TokenBatch:
    """Rows of tokens as one batch, padded on the right; each counts from its place on."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for number, (row, start) in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
        labels[number, start : len(row)] = ids[number, start : len(row)]
    return TokenBatch(ids, mask, labels)
