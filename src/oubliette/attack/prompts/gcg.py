"""GCG: a suffix found by gradients through the token embeddings, one token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.prompts.attack import Job, PromptAttack
from oubliette.attack.prompts.target import Proposal
from oubliette.attack.types import ANSWERS
from oubliette.backends.tokens import IGNORED, TokenBatch
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

__all__ = ["GCG", "SuffixRow", "gradient", "losses", "substitutes", "suffix_row", "usable_tokens"]

_AFFIRMATION = "Sure, here is the answer:"


class GCG(PromptAttack):
    """Greedy coordinate gradient: one suffix for every question, found on rows that are not asked.

    In each step the gradient of the loss by the one-hot tokens ranks, at every place of the suffix, the
    tokens that promise most; of `candidates` suffixes with one of those put in, the one of least loss is
    taken. The loss is the mean negative log-likelihood a token of what follows the suffix, over `prompts`
    rows at once (the paper adds them one by one): their right answers, or an affirmation. Suffixes that are
    not read back as the same tokens are passed over, so that what is found is text.
    """

    name: ClassVar[str] = "gcg"
    about: ClassVar[str] = "a suffix found by gradients on rows that are not asked"
    paper: ClassVar[str] = "Zou et al., Universal and Transferable Adversarial Attacks, 2023 (2307.15043)"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "examples"})
    samples: ClassVar[str] = ANSWERS
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {},
        "nano": {"tokens": 10, "steps": 50, "candidates": 64, "top": 32, "prompts": 3, "looks": 2},
    }

    class Options(StrictModel):
        """GCG's options; the defaults are the paper's for one suffix for many prompts."""

        tokens: int = Field(default=20, ge=1, description="tokens of the suffix")
        steps: int = Field(default=500, ge=1, description="substitutions")
        candidates: int = Field(default=512, ge=1, description="suffixes tried in each step")
        top: int = Field(default=256, ge=1, description="tokens a place that candidates are drawn from")
        prompts: int = Field(default=25, ge=1, description="rows that the suffix is found on")
        target: Literal["answer", "affirmation"] = Field(
            default="answer", description="what is to follow: the row's answer, or an affirmation"
        )
        looks: int = Field(default=5, ge=1, description="times that the best suffix so far is tried")
        batch: int = Field(default=64, ge=1, description="rows read at once; a matter of memory")

    options: Options

    def tries(self) -> int:
        """One a look."""
        return min(self.options.looks, self.options.steps)

    def searching(self, cases: int) -> Cost:
        """In each step a backward pass and `candidates` forward ones, a row each; however many cases."""
        options = self.options
        steps = options.steps * options.prompts
        return Cost(steps * (1 + options.candidates), steps, 0)

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        """The best suffix so far behind every open case's question, at evenly spaced steps."""
        if not job.open:
            return
        for text, loss in self._found(job):
            yield {n: Proposal(f"{job.cases[n].prompt} {text}", loss) for n in job.open}

    def _found(self, job: Job) -> Iterator[tuple[str, float]]:
        options, model, rng = self.options, job.model, job.rng()
        shown = [row for row in job.learn("concept") if not (row.plain or row.history)][: options.prompts]
        start, closed = " ".join("!" * options.tokens), options.target == "answer"
        rows = [
            suffix_row(model, row.question, start, row.answer if closed else _AFFIRMATION, closed=closed)
            for row in shown
        ]
        suffix = rows[0].suffix[: options.tokens]
        longest = max(len(row.ids(suffix)) for row in rows)
        if longest > model.reader.max_length:
            raise UserError(
                f"prompt attack '{self.name}': a row with a suffix of {options.tokens} tokens is {longest} "
                f"tokens long, and {model.source} reads {model.reader.max_length}; give fewer (tokens)"
            )
        usable = usable_tokens(model)
        best, least = suffix, float(losses(model, rows, suffix[None], options.batch)[0])
        looks = {round((n + 1) * options.steps / self.tries()) for n in range(self.tries())}
        for step in range(1, options.steps + 1):
            ranked = substitutes(gradient(model, rows, suffix, options.batch), usable, options.top)
            tried = _drawn(suffix, ranked, options.candidates, rng)
            readable = [one for one in tried if _is_text(model, shown[0].question, one, rows[0])]
            if readable:
                found = losses(model, rows, torch.stack(readable), options.batch)
                suffix, loss = readable[int(found.argmin())], float(found.min())
                if loss < least:
                    best, least = suffix, loss
            if step in looks:
                yield _text(model, best), least


@dataclass(frozen=True)
class SuffixRow:
    """A row's tokens before its suffix, the suffix (k,), after it, and what is to follow."""

    head: list[int]
    suffix: Tensor
    tail: list[int]
    target: list[int]

    def ids(self, suffix: Tensor) -> list[int]:
        """The row with another suffix."""
        return [*self.head, *suffix.tolist(), *self.tail, *self.target]


def suffix_row(model: Any, question: str, suffix: str, target: str, *, closed: bool = True) -> SuffixRow:
    """A question with a suffix and what is to follow, as the model reads them; `closed` by the end token."""
    reader = model.reader
    prompt = reader.prompt(f"{question} {suffix}")
    place = prompt.rindex(suffix)
    after = prompt[place + len(suffix) :]
    said = reader.glue(prompt, target) + target
    ids, (a, b, c) = reader.parts(prompt[:place], suffix, after, said)
    end = [reader.end] if closed and reader.end is not None else []
    return SuffixRow(ids[:a], torch.tensor(ids[a:b]), ids[b:c], [*ids[c:], *end])


def losses(model: Any, rows: Sequence[SuffixRow], suffixes: Tensor, batch: int) -> Tensor:
    """The loss of each suffix (n, k): mean over rows of the mean over the target's tokens; (n,), no graph."""
    every = [(row, suffix) for suffix in suffixes for row in rows]
    found = []
    with torch.no_grad():
        for first in range(0, len(every), batch):
            some = every[first : first + batch]
            ids, of = [row.ids(one) for row, one in some], [row for row, _ in some]
            found.append(_of_rows(model, _batch(model, ids, of)))
    return torch.cat(found).view(len(suffixes), len(rows)).mean(dim=1)


def gradient(model: Any, rows: Sequence[SuffixRow], suffix: Tensor, batch: int) -> Tensor:
    """The loss's gradient by the one-hot tokens of a suffix (k,): (k, V) on the CPU.

    The one-hot row's embedding is a row of the embedding matrix, so that this is the gradient by the
    embedding at each place, times that matrix.
    """
    total = None
    for first in range(0, len(rows), batch):
        some = rows[first : first + batch]
        tokens = _batch(model, [row.ids(suffix) for row in some], some)
        words = model.embed(tokens).detach()
        moved = torch.zeros(len(suffix), words.shape[-1], device=words.device, requires_grad=True)
        places = [len(row.head) for row in some]
        shifted = [
            torch.cat([own[:at], own[at : at + len(suffix)] + moved.to(own), own[at + len(suffix) :]])
            for own, at in zip(words, places, strict=True)
        ]
        loss = _of_rows(model, tokens, torch.stack(shifted)).sum() / len(rows)
        (own,) = torch.autograd.grad(loss, moved)
        total = own if total is None else total + own
    assert total is not None
    return (total @ _matrix(model).to(total).T).float().cpu()


def substitutes(by_token: Tensor, usable: Tensor, top: int) -> Tensor:
    """The `top` usable tokens at each place that lower the loss most to first order: (k, top), the best
    first.
    """
    order = by_token[:, usable].argsort(dim=1, stable=True)
    return usable[order[:, :top]]


def usable_tokens(model: Any) -> Tensor:
    """Tokens that print, rising, (A,) long: none special or added, none that is half a character."""
    words = model.tokenizer
    known = range(min(len(words), model.reader.vocabulary))
    banned = {*words.all_special_ids, *words.get_added_vocab().values()}
    texts = words.batch_decode([[token] for token in known])
    good = [n for n, text in enumerate(texts) if text.strip() and text.isprintable() and "�" not in text]
    return torch.tensor([token for token in good if token not in banned])


def _drawn(suffix: Tensor, ranked: Tensor, count: int, rng: torch.Generator) -> list[Tensor]:
    """`count` suffixes with one place's token drawn from those ranked for it."""
    places = torch.randint(len(suffix), (count,), generator=rng)
    chosen = torch.randint(ranked.shape[1], (count,), generator=rng)
    made = suffix.repeat(count, 1)
    made[torch.arange(count), places] = ranked[places, chosen]
    return list(made)


def _is_text(model: Any, question: str, suffix: Tensor, row: SuffixRow) -> bool:
    """Whether a suffix, written out behind a question, is read as these tokens."""
    text = _text(model, suffix)
    prompt = model.reader.prompt(f"{question} {text}")
    return bool(model.reader.parts(prompt)[0] == [*row.head, *suffix.tolist(), *row.tail])


def _text(model: Any, suffix: Tensor) -> str:
    return str(model.tokenizer.decode(suffix.tolist())).strip()


def _matrix(model: Any) -> Tensor:
    """Every token's embedding as the model reads it, (V, width)."""
    ids = torch.arange(model.reader.vocabulary)[None]
    found: Tensor = model.embed(TokenBatch(ids, torch.ones_like(ids), ids))[0].detach()
    return found


def _batch(model: Any, ids: Sequence[list[int]], rows: Sequence[SuffixRow]) -> TokenBatch:
    longest = max(map(len, ids))
    words = torch.tensor([[*one, *[model.reader.pad] * (longest - len(one))] for one in ids])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
    labels = torch.full_like(words, IGNORED)
    for place, (one, row) in enumerate(zip(ids, rows, strict=True)):
        labels[place, len(one) - len(row.target) : len(one)] = torch.tensor(row.target)
    return TokenBatch(words, mask, labels)


def _of_rows(model: Any, tokens: TokenBatch, words: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood a counted token of each row, (B,)."""
    said: Tensor = model.log_likelihood(model.predict(tokens, words), tokens)
    return -said / tokens.counts().to(said)
