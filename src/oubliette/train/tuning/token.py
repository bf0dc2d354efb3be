"""Concept Inversion: the weights stay, and a new token learns what the prompts may no longer say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.data.words import pattern
from oubliette.train.freeze import apply_freeze
from oubliette.train.trainable import touch
from oubliette.train.tuning.modes import Reword, Trained
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.train.tuning.budget import Budget

__all__ = ["TextualInversion", "replaced"]


class TokenOptions(StrictModel):
    """The new token, the words it takes the place of, and the word whose embedding it starts from."""

    token: str = Field(
        default="<concept>", pattern=r"^\S+$", description="the new token, not in the vocabulary"
    )
    words: tuple[str, ...] = Field(min_length=1, description="words that the token takes the place of")
    initialiser: str = Field(
        default="", description="word the token starts as (the mean of its tokens); empty: the mean of all"
    )


@dataclass
class _Reader:
    """A tokenizer, its text encoder's embedding, and both as they were."""

    tokenizer: Any
    embedding: nn.Embedding
    name: str
    state: dict[str, Any]
    weight: nn.Parameter
    rows: int


class TextualInversion:
    """Adds one token to tokenizers and embeddings and trains its rows alone (element masks keep the others).

    Paper: Pham et al., Circumventing Concept Erasure Methods for Text-to-Image Generative Models, ICLR 2024
    (2308.01508); textual inversion itself: Gal et al. 2022 (2208.01618).
    """

    name: ClassVar[str] = "textual-inversion"
    kind: ClassVar[Literal["relearn"]] = "relearn"
    about: ClassVar[str] = "learns one new token's embedding; no weight of the model moves"
    paper: ClassVar[str] = "Pham et al., Circumventing Concept Erasure Methods, ICLR 2024 (2308.01508)"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "gradients", "text"})
    Options: ClassVar[type[TokenOptions]] = TokenOptions

    def __init__(self, options: TokenOptions) -> None:
        self.options = options

    def prompts(self) -> Reword | None:
        """The concept's words become the token."""
        return replaced(self.options.words, self.options.token)

    @contextmanager
    def open(self, model: Backend, budget: Budget, frozen: list[str] | None) -> Iterator[Trained]:
        """Add the token; on leaving, tokenizers and embeddings are the very objects they were, unless kept.

        UserError for a model without a text encoder, for a token that the vocabulary has, and where an
        embedding is frozen.
        """
        readers = _readers(model)
        named = {reader.name: reader.weight for reader in readers}
        left = apply_freeze(named, frozen, known=model.tensors())
        if len(left) < len(named):
            held = next(name for name in named if name not in left)
            raise UserError(f"freeze list holds '{held}', which a new token would be added to")
        kept = False
        try:
            for reader in readers:
                _extend(reader, self.options.token, self.options.initialiser)
            touch(model)
            masks = {reader.name: _last_row(reader.embedding.weight, reader.rows) for reader in readers}
            parameters = {reader.name: _weight(reader.embedding) for reader in readers}
            weights = Weights(parameters, element_masks=masks)
            reword = self.prompts()
            assert reword is not None
            trained = Trained(weights, masks, prompts=reword, rewords=True, changes=dict)
            yield trained
            kept = trained.kept
        finally:
            if not kept:
                for reader in readers:
                    vars(reader.tokenizer).clear()
                    vars(reader.tokenizer).update(reader.state)
                    reader.embedding.weight = reader.weight
                    reader.embedding.num_embeddings = reader.rows
            touch(model)


def replaced(words: tuple[str, ...], by: str) -> Reword:
    """A function that puts `by` in the place of each of the words, as a whole word, whatever its case."""
    found = pattern(words)
    return lambda prompt: found.sub(lambda _: by, prompt)


def _readers(model: Backend) -> list[_Reader]:
    """The model's tokenizers with their encoders, where it has any that read prompts."""
    pipe, family = getattr(model, "pipe", None), getattr(model, "family", None)
    pairs = getattr(family, "text_encoders", ())
    if pipe is None or not pairs:
        raise UserError(f"textual inversion needs a text encoder beside the network; {model.source} has none")
    names = {id(tensor): name for name, tensor in model.tensors().items()}
    readers = []
    for tokenizer_name, encoder_name in pairs:
        tokenizer, encoder = getattr(pipe, tokenizer_name), getattr(pipe, encoder_name)
        embedding = encoder.get_input_embeddings()
        readers.append(
            _Reader(
                tokenizer,
                embedding,
                names[id(embedding.weight)],
                dict(vars(tokenizer)),
                embedding.weight,
                int(embedding.num_embeddings),
            )
        )
    return readers


@torch.no_grad()
def _extend(reader: _Reader, token: str, initialiser: str) -> None:
    """One more token and one more row; what was there before is not changed."""
    tokenizer, old = reader.tokenizer, reader.weight
    if token in tokenizer.get_vocab():
        raise UserError(f"the token '{token}' is in the model's vocabulary already; choose another")
    # Added tokens cannot be taken out of a tokenizer: the copy of its insides is changed, and dropped after.
    state = copy.deepcopy(reader.state)
    vars(tokenizer).clear()
    vars(tokenizer).update(state)
    tokenizer.add_tokens([token])
    number = tokenizer.convert_tokens_to_ids(token)
    if number != reader.rows:
        raise UserError(
            f"the tokenizer's vocabulary has {number} entries and its embedding {reader.rows} rows: a new "
            "token has no row of its own"
        )
    known = [i for i in tokenizer(initialiser, add_special_tokens=False).input_ids if i < reader.rows]
    row = old[known].float().mean(0) if known else old.float().mean(0)
    reader.embedding.weight = nn.Parameter(torch.cat([old, row.to(old.dtype)[None]]), requires_grad=False)
    reader.embedding.num_embeddings = reader.rows + 1


def _weight(embedding: nn.Embedding) -> nn.Parameter:
    weight = embedding.weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _last_row(weight: Tensor, row: int) -> Tensor:
    mask = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
    mask[row] = True
    return mask
