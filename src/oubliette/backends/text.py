"""Prompts to embeddings, as the pipeline itself encodes them, each prompt once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from oubliette.backends.family import Family
from oubliette.core.errors import UserError

_KEPT_PROMPTS = 4096  # bounds the cache: 4096 prompts of 77 x 768 floats are under 1 GB
_Rows = Callable[[Any], Tensor]  # input embeddings (B, k, d) of one encoder, given its lookup of tokens


@dataclass(frozen=True)
class TextEmbedding:
    """One batch of encoded prompts.

    `hidden` (B, L, d) is what the cross-attention reads. `last_token` (B,) long is the index of the last
    token of the text itself (attention mask sum - 2; 0, the BOS, for an empty prompt). `length` (B,) long
    counts the tokens with BOS and EOS. `extra` holds what other families want, e.g. "pooled" (B, p) and
    "time_ids" (B, 6).
    """

    hidden: Tensor
    last_token: Tensor
    length: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def index(self, idx: Tensor | Sequence[int] | slice) -> TextEmbedding:
        """The rows `idx` (as a tensor is indexed along its first side), in that order; rows may repeat."""
        if not isinstance(idx, slice):
            idx = torch.as_tensor(idx, device=self.hidden.device)
        extra = {name: value[idx] for name, value in self.extra.items()}
        return TextEmbedding(self.hidden[idx], self.last_token[idx], self.length[idx], extra)

    def repeat(self, times: int) -> TextEmbedding:
        """The whole batch `times` times over: rows 0..B-1, 0..B-1, ..."""
        return TextEmbedding.join([self] * times)

    @staticmethod
    def join(parts: Sequence[TextEmbedding]) -> TextEmbedding:
        """Several batches as one, in order."""
        return TextEmbedding(
            torch.cat([part.hidden for part in parts]),
            torch.cat([part.last_token for part in parts]),
            torch.cat([part.length for part in parts]),
            {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra},
        )


class TextReader:
    """Encodes prompts with a pipeline's own tokenizers and text encoders.

    Results are cached per prompt. The cache is passed over while any text-encoder parameter requires a
    gradient, and dropped when one of them was replaced or changed in place since.
    """

    def __init__(self, pipe: Any, family: Family, time_ids: tuple[float, ...] | None = None) -> None:
        self._parts = [(getattr(pipe, a), getattr(pipe, b), b) for a, b in family.text_encoders]
        self._family = family
        self._time_ids = time_ids
        self._rows = [lru_cache(_KEPT_PROMPTS)(partial(_row, tokenizer)) for tokenizer, _, _ in self._parts]
        self._cache: OrderedDict[str, TextEmbedding] = OrderedDict()
        self._stamp: tuple = ()

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizer of each text encoder, in the family's order."""
        return [tokenizer for tokenizer, _, _ in self._parts]

    @property
    def requires_grad(self) -> bool:
        """Whether any text encoder, or an adapter over one, is being trained."""
        return any(p.requires_grad for p in self._parameters())

    def encode(self, prompts: Sequence[str], *, grad: bool = False) -> TextEmbedding:
        """Encode prompts (B,), with a graph to the text encoders if `grad`, else detached and cached."""
        if isinstance(prompts, str):
            raise TypeError("prompts must be a sequence of strings, found one string")
        if grad:
            return self._encode(prompts)
        if self.requires_grad:
            with torch.no_grad():
                return self._encode(prompts)
        stamp = tuple((p.data_ptr(), p._version) for p in self._parameters())
        if stamp != self._stamp:
            self._cache.clear()
            self._stamp = stamp
        rows = [self._row(prompt) for prompt in prompts]
        return TextEmbedding.join(rows)

    def encode_tokens(self, tokens: Tensor, tails: Sequence[str]) -> TextEmbedding:
        """Encode prompts that begin with `tokens` and go on with `tails` (B,); never cached.

        `tokens` are ids (B, k) long, or weights over the vocabulary (B, k, V): a row of weights stands for
        the weighted sum of the tokens' input embeddings, one-hot rows for the tokens themselves, and the
        graph runs back to the weights. They follow the start token; of the tail what does not fit is cut, as
        the tokenizer cuts a prompt. Positions, causal mask and pooled output are the encoder's own. Raises
        UserError where the tokens alone do not fit, and where several text encoders number tokens
        differently.
        """
        soft = tokens.is_floating_point()
        self._check_room(tokens.shape[1])
        self._check_numbers()
        ids = (tokens.detach().argmax(dim=-1) if soft else tokens).tolist()
        return self._through(
            [_tokenized(tokenizer, tails, ids) for tokenizer in self.tokenizers],
            [_sums(tokens)] * len(self._parts) if soft else None,
        )

    def encode_embeddings(self, prefix: Tensor, tails: Sequence[str]) -> TextEmbedding:
        """Encode prompts that begin with input embeddings `prefix` (B, k, d), then `tails`; never cached.

        d is the encoders' widths together, in their order: each takes its own channels, in its own dtype. The
        graph runs back to the prefix, and to the encoders' weights where they require a gradient. Places,
        cutting and padding are those of `encode_tokens`. UserError where the prefix alone does not fit.
        """
        count = prefix.shape[1]
        self._check_room(count)
        widths = [encoder.get_input_embeddings().weight.shape[1] for _, encoder, _ in self._parts]
        if prefix.shape[-1] != sum(widths):
            raise ValueError(f"input embeddings have {sum(widths)} channels, found {prefix.shape[-1]}")
        return self._through(
            [
                _tokenized(tokenizer, tails, [[_plain(tokenizer)] * count] * len(tails))
                for tokenizer in self.tokenizers
            ],
            [_these(part) for part in prefix.split(widths, dim=-1)],
        )

    @torch.no_grad()
    def token_embeddings(self, tokens: Tensor) -> Tensor:
        """The input embeddings (B, k, d) of tokens given by id (B, k), as `encode_embeddings` takes them.

        Without a graph. Raises UserError where several text encoders number tokens differently.
        """
        self._check_numbers()
        lookups = [encoder.get_input_embeddings() for _, encoder, _ in self._parts]
        return torch.cat([lookup.weight[tokens.to(self._device)] for lookup in lookups], dim=-1)

    def cut(self, prompts: Sequence[str]) -> list[str]:
        """Those of the prompts that no text encoder reads to their end."""
        return [
            prompt
            for prompt in prompts
            if all(
                len(tokenizer(prompt, verbose=False).input_ids) > tokenizer.model_max_length
                for tokenizer in self.tokenizers
            )
        ]

    def forget(self) -> None:
        """Drop the cache (needed only after a change through `.data`, which leaves no trace)."""
        self._cache.clear()

    def _row(self, prompt: str) -> TextEmbedding:
        if prompt in self._cache:
            self._cache.move_to_end(prompt)
            return self._cache[prompt]
        # One prompt at a time, at full precision, whatever the caller's autocast: the row's bits must not
        # depend on its neighbours, or a resumed run would differ from one never stopped.
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            row = self._encode([prompt])
        self._cache[prompt] = row
        if len(self._cache) > _KEPT_PROMPTS:
            self._cache.popitem(last=False)
        return row

    def _encode(self, prompts: Sequence[str]) -> TextEmbedding:
        return self._through([_stacked([row(prompt) for prompt in prompts]) for row in self._rows])

    def _through(self, tokenized: Sequence[Any], rows: Sequence[_Rows] | None = None) -> TextEmbedding:
        """Every encoder's own tokens (B, L) through it; its `rows` stand in for those that open the text."""
        hidden: list[Tensor] = []
        extra: dict[str, Tensor] = {}
        length = tokenized[0].attention_mask.sum(dim=1)
        for index, (tokenizer, encoder, name) in enumerate(self._parts):
            mask = tokenized[index].attention_mask
            wants_mask = bool(getattr(encoder.config, "use_attention_mask", False))
            with _embedded(encoder, tokenizer, None if rows is None else rows[index]):
                output = encoder(
                    tokenized[index].input_ids.to(self._device),
                    attention_mask=mask.to(self._device) if wants_mask else None,
                    output_hidden_states=self._family.hidden_layer is not None,
                )
            layer = self._family.hidden_layer
            hidden.append(output.last_hidden_state if layer is None else output.hidden_states[layer])
            if name == self._family.pooled_from:
                extra["pooled"] = output.text_embeds
        if self._time_ids is not None:
            ids = torch.tensor([self._time_ids], device=self._device, dtype=hidden[0].dtype)
            extra["time_ids"] = ids.repeat(len(length), 1)
        length = length.to(self._device)
        return TextEmbedding(torch.cat(hidden, dim=-1), (length - 2).clamp(min=0), length, extra)

    def _check_room(self, count: int) -> None:
        for tokenizer in self.tokenizers:
            room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
            if count > room:
                raise UserError(f"{count} tokens do not fit: the text encoder reads at most {room}")

    def _check_numbers(self) -> None:
        first, *others = self.tokenizers
        if any(tokenizer.get_vocab() != first.get_vocab() for tokenizer in others):
            raise UserError(
                f"the text encoders of {self._family.title} number tokens differently, so none can be given "
                "by its number; supported are families whose text encoders share one vocabulary"
            )

    @property
    def _device(self) -> torch.device:
        return next(self._parts[0][1].parameters()).device

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for _, encoder, _ in self._parts for p in encoder.parameters()]


@dataclass(frozen=True)
class _Tokens:
    """Ids and attention mask of prompts, (B, L) long each, as a tokenizer's own output names them."""

    input_ids: Tensor
    attention_mask: Tensor


def _row(tokenizer: Any, text: str) -> _Tokens:
    """One prompt, padded and cut as the pipeline does."""
    length = tokenizer.model_max_length
    found = tokenizer([text], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return _Tokens(found.input_ids, found.attention_mask)


def _stacked(rows: Sequence[_Tokens]) -> _Tokens:
    ids = torch.cat([row.input_ids for row in rows])
    return _Tokens(ids, torch.cat([row.attention_mask for row in rows]))


def _tokenized(tokenizer: Any, texts: Sequence[str], first: Sequence[Sequence[int]]) -> Any:
    """Ids and attention mask (B, L), padded and cut as the pipeline does; `first` tokens open each row."""
    length = tokenizer.model_max_length
    rows = tokenizer(list(texts), max_length=length - len(first[0]), truncation=True).input_ids
    start = _starts(tokenizer)
    rows = [[*row[:start], *ids, *row[start:]] for row, ids in zip(rows, first, strict=True)]
    return tokenizer.pad({"input_ids": rows}, padding="max_length", max_length=length, return_tensors="pt")


def _starts(tokenizer: Any) -> int:
    """How many tokens of its own a tokenizer sets before a text: 1 for CLIP's, 0 for one without a BOS."""
    ids = tokenizer("").input_ids
    return int(bool(ids) and ids[0] == tokenizer.bos_token_id and len(ids) > 1)


def _plain(tokenizer: Any) -> int:
    """A token that no encoder takes for its end: a stand-in where the embedding is given."""
    special = set(tokenizer.all_special_ids)
    return next(number for number in range(len(tokenizer)) if number not in special)


def _sums(weights: Tensor) -> _Rows:
    return lambda lookup: weights.to(lookup.weight) @ lookup.weight[: weights.shape[-1]]


def _these(embeddings: Tensor) -> _Rows:
    return lambda lookup: embeddings.to(lookup.weight)


@contextmanager
def _embedded(encoder: Any, tokenizer: Any, rows: _Rows | None) -> Iterator[None]:
    """While open, the encoder's lookup of tokens gives the rows in place of those that open the text.

    A hook on the lookup alone: everything after it (positions, mask, pooling) stays the encoder's own code.
    """
    if rows is None:
        yield
        return
    start = _starts(tokenizer)

    def put(lookup: Any, _: Any, found: Tensor) -> Tensor:
        own = rows(lookup)
        return torch.cat([found[:, :start], own, found[:, start + own.shape[1] :]], dim=1)

    handle = encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()
