"""Questions and answers as token batches: what a causal language model reads, and where its loss counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from oubliette.backends.prompting import Prompting
from oubliette.core.errors import UserError
from oubliette.data.questions import QA, Turn

__all__ = ["IGNORED", "TokenBatch", "TokenReader"]

IGNORED = -100
"""The label of a token whose prediction does not count (transformers' convention)."""


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens, padded on the right: three long tensors of shape (B, L).

    `labels` are the input tokens where the loss counts and IGNORED elsewhere; they are not shifted.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def index(self, rows: Tensor | Sequence[int]) -> TokenBatch:
        """Some of the rows, without the padding that none of them needs."""
        rows = torch.as_tensor(rows, dtype=torch.long)
        length = int(self.attention_mask[rows].sum(dim=1).max())
        return TokenBatch(
            self.input_ids[rows, :length], self.attention_mask[rows, :length], self.labels[rows, :length]
        )

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on a device."""
        return TokenBatch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))

    def counts(self) -> Tensor:
        """How many predicted tokens count in each row: (B,) long (the first token is never predicted)."""
        return (self.labels[:, 1:] != IGNORED).sum(dim=1)


class TokenReader:
    """Turns questions and answers into tokens with a model's own tokenizer.

    A question is put through the tokenizer's chat template where it has one; otherwise it is followed by a
    space and the answer; `prompting` says what else stands around it, or that no template does. The
    end-of-text token closes each row and counts. `max_length` is the longest row in tokens, `vocabulary` the
    number of tokens that the model has an embedding for; `pad` is one of them.
    """

    def __init__(self, tokenizer: Any, max_length: int, source: str, vocabulary: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"{source}: its tokenizer is not a fast one (no tokenizer.json), so an answer's tokens "
                "cannot be told from its question's"
            )
        self.tokenizer, self.max_length, self._source = tokenizer, max_length, source
        self.vocabulary = vocabulary
        self.prompting = Prompting()
        self.end: int | None = tokenizer.eos_token_id
        # Padding is masked, so any token does that the model has: a tokenizer's own may lie beyond it.
        known = (token for token in (tokenizer.pad_token_id, self.end) if token is not None)
        self.pad: int = next((token for token in known if token < vocabulary), 0)

    def ask_as(self, prompting: Prompting) -> None:
        """Put questions so from now on; UserError for a chat template that the tokenizer lacks."""
        if prompting.template == "chat" and not self.tokenizer.chat_template:
            raise UserError(
                f"{self._source}: its tokenizer has no chat template, and one is asked for; leave it to the "
                "model (template auto), or name a model that was tuned to chat"
            )
        self.prompting = prompting

    @property
    def templated(self) -> bool:
        """Whether questions go through the tokenizer's chat template."""
        return bool(self.tokenizer.chat_template) and self.prompting.template != "none"

    def prompt(self, question: str, history: Sequence[Turn] = ()) -> str:
        """The text a question becomes, after what was said before: what an answer follows.

        Turns are put through the chat template, or follow each other on lines of their own. UserError for
        turns that the template has no place for.
        """
        before = self.prompting.before
        if any(role == "system" for role, _ in history):  # a row's own goes before ours
            before = tuple(turn for turn in before if turn[0] != "system")
        said = [*before, *history, ("user", question)]
        if not self.templated:
            return "\n".join(content for _, content in said if content)
        turns = [{"role": role, "content": content} for role, content in said]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            roles = ", ".join(role for role, _ in said)
            raise UserError(
                f"{self._source}: its chat template refuses the turns {roles} ({error})"
            ) from error

    def tokens(self, prompt: str, answer: str = "") -> tuple[list[int], int]:
        """Token ids of the prompt and answer as one text, and how many of them belong to the prompt.

        The text is tokenized as a whole, because a tokenizer may treat the two sides otherwise than their
        sum.
        """
        ids, (start,) = self.parts(prompt, self.glue(prompt, answer) + answer)
        return ids, start if prompt else 0

    def glue(self, prompt: str, answer: str) -> str:
        """What stands between a prompt and its answer: a space, unless the chat template has its own."""
        bare = prompt and answer and not self.templated
        return " " if bare and not prompt[-1].isspace() else ""

    def parts(self, *texts: str) -> tuple[list[int], list[int]]:
        """Token ids of texts that follow each other, tokenized as one, and where each but the first begins.

        A token that lies across the end of one belongs to the next.
        """
        found = self.tokenizer(
            "".join(texts),
            add_special_tokens=not self.templated,
            return_offsets_mapping=True,
            verbose=False,  # what is too long is said here, by the line it stands in
        )
        ids, offsets = list(found["input_ids"]), list(found["offset_mapping"])
        while ids and ids[-1] == self.end and offsets[-1][0] == offsets[-1][1]:
            ids.pop(), offsets.pop()  # an end the tokenizer added itself
        ends = accumulate(len(text) for text in texts[:-1])
        begins = (
            next((n for n, (start, end) in enumerate(offsets) if end > max(start, edge)), len(ids))
            for edge in ends
        )
        return ids, list(begins)

    def encode(self, rows: Sequence[QA]) -> TokenBatch:
        """All rows as one batch; UserError for a row that is longer than the model's context."""
        encoded: list[tuple[list[int], int]] = []
        for number, row in enumerate(rows, start=1):
            prompt = "" if row.plain else self.prompt(row.question, row.history)
            ids, start = self.tokens(prompt, row.answer)
            ids = [*ids, self.end] if self.end is not None else ids
            place = f"{row.where or f'row {number}'} ('{(row.question or row.answer)[:40]}')"
            if len(ids) > self.max_length:
                raise UserError(
                    f"{place}: is {len(ids)} tokens long, and {self._source} reads {self.max_length}; "
                    "shorten it, or split it into several"
                )
            if start >= len(ids) or len(ids) < 2:
                raise UserError(f"{place}: has no token of an answer that could be predicted")
            encoded.append((ids, start))
        longest = max(len(ids) for ids, _ in encoded)
        shape = (len(encoded), longest)
        input_ids = torch.full(shape, self.pad, dtype=torch.long)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED, dtype=torch.long)
        for index, (ids, start) in enumerate(encoded):
            row_ids = torch.tensor(self._known(ids))
            input_ids[index, : len(ids)] = row_ids
            attention_mask[index, : len(ids)] = 1
            labels[index, start : len(ids)] = row_ids[start:]
        return TokenBatch(input_ids, attention_mask, labels)

    def fits(self, row: QA) -> bool:
        """Whether the row, with the end of the text, is no longer than the context."""
        prompt = "" if row.plain else self.prompt(row.question, row.history)
        return len(self.tokens(prompt, row.answer)[0]) + (self.end is not None) <= self.max_length

    def shortened(self, text: str, count: int) -> str:
        """The first `count` tokens of a text, as text."""
        ids, offsets = (
            self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[key]
            for key in ("input_ids", "offset_mapping")
        )
        return text if len(ids) <= count else text[: offsets[count - 1][1]]

    def left_padded(self, prompts: Sequence[str], opening: str = "") -> TokenBatch:
        """Prompts to be continued, answers begun with `opening`: padded on the left, nothing to predict.

        An empty one begins with the start token, or else the end-of-text token, which stands between texts.
        UserError for a prompt that is longer than the context, in the form in which the model reads it.
        """
        rows = [self._opened(self.tokens(self.prompt(prompt), opening)[0]) for prompt in prompts]
        for prompt, ids in zip(prompts, rows, strict=True):
            if len(ids) > self.max_length:
                raise UserError(
                    f"the prompt '{prompt[:40]}' is {len(ids)} tokens long as {self._source} is asked, which "
                    f"reads {self.max_length}; shorten it"
                )
        longest = max(len(ids) for ids in rows)
        input_ids = torch.tensor([[self.pad] * (longest - len(ids)) + ids for ids in rows])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in rows])
        return TokenBatch(input_ids, mask, torch.full_like(input_ids, IGNORED))

    def _opened(self, ids: list[int]) -> list[int]:
        if ids:
            return self._known(ids)
        start: int | None = self.tokenizer.bos_token_id
        start = self.end if start is None else start
        if start is None:
            raise UserError(
                f"an empty prompt: the tokenizer of {self._source} has neither a start nor an end token to "
                "begin from; give it a word"
            )
        return self._known([start])

    def _known(self, ids: list[int]) -> list[int]:
        """The tokens; UserError for one that the model has no embedding for."""
        if max(ids) >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise UserError(
                f"{self._source}: its tokenizer gives token {max(ids)} ('{token}'), and the model has "
                f"embeddings for {self.vocabulary}; take the tokenizer that belongs to it, or resize it "
                "(model.resize_token_embeddings(len(tokenizer)))"
            )
        return ids
