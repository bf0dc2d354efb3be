"""The tokens an attack may put into a prompt: those that a reader of the text would get back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from oubliette.core.errors import UserError

__all__ = ["Vocabulary", "joined"]


class Vocabulary:
    """The tokens to choose from: each, written out, is read back as that one token.

    Start, end, padding and added tokens are never among them, nor pieces of words, which would join with
    their neighbours when the text is read, nor anything that does not print. `exclude` leaves out tokens by
    their text ("car"). `ids` is (A,) long, rising; `size` counts the whole vocabulary, V. A prompt of such
    tokens is text that anyone can type. Raises UserError where no token is left, or where the model's
    tokenizers number their tokens differently.
    """

    def __init__(self, tokenizers: Sequence[Any], exclude: Iterable[str] = ()) -> None:
        self._tokenizer, *others = tokenizers
        numbered: dict[str, int] = self._tokenizer.get_vocab()
        if any(other.get_vocab() != numbered for other in others):
            raise UserError(
                "the model's tokenizers number tokens differently; tokens are searched only where its text "
                "encoders share one vocabulary"
            )
        self.size = max(numbered.values()) + 1
        self._texts = _readable(self._tokenizer, numbered, {word.casefold() for word in exclude})
        if not self._texts:
            raise UserError("the tokenizer has no token that is read back from its own text")
        self.ids = torch.tensor(sorted(self._texts))
        #: How many tokens of text the text encoder reads, its own start and end left out.
        self.room = int(self._tokenizer.model_max_length - self._tokenizer.num_special_tokens_to_add())

    def __len__(self) -> int:
        return len(self.ids)

    def check(self, count: int) -> None:
        """UserError where `count` tokens do not fit into a prompt."""
        if not 1 <= count <= self.room:
            raise UserError(f"tokens must lie in 1..{self.room} for this text encoder, found {count}")

    def draw(self, shape: Sequence[int], rng: torch.Generator) -> Tensor:
        """Token ids of a shape, each drawn uniformly from the vocabulary."""
        return self.ids[torch.randint(len(self.ids), tuple(shape), generator=rng)]

    def spread(self, weights: Tensor) -> Tensor:
        """Weights over these tokens (..., A) as weights over the whole vocabulary (..., V), else zero."""
        whole = weights.new_zeros((*weights.shape[:-1], self.size))
        return whole.index_copy(-1, self.ids.to(weights.device), weights)

    def write(self, ids: Iterable[int]) -> str:
        """The tokens (each one of `ids`) as text, a blank between them."""
        return " ".join(self._texts[int(token)] for token in ids)

    def read(self, text: str) -> list[int]:
        """The ids of a text's tokens, start and end left out, cut to what the text encoder reads."""
        found = self._tokenizer(text, add_special_tokens=False, max_length=self.room, truncation=True)
        return list(found.input_ids)


def joined(*parts: str) -> str:
    """Texts one after the other with a blank between, empty ones left out."""
    return " ".join(part for part in (part.strip() for part in parts) if part)


def _readable(tokenizer: Any, numbered: dict[str, int], excluded: set[str]) -> dict[int, str]:
    banned = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    written = {}
    for token in sorted(set(numbered.values()) - banned):
        text = tokenizer.decode([token]).strip()
        if text and text.isprintable() and " " not in text and text.casefold() not in excluded:
            written[token] = text
    if not written:
        return {}
    read = tokenizer(list(written.values()), add_special_tokens=False).input_ids
    return {token: text for (token, text), ids in zip(written.items(), read, strict=True) if ids == [token]}
