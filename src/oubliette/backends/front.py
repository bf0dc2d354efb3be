"""Embeddings before a batch of tokens: what a soft prompt is read as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from oubliette.backends.tokens import IGNORED, TokenBatch

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend

__all__ = ["put_before", "read_as"]


def put_before(model: LanguageBackend, batch: TokenBatch, front: Tensor) -> tuple[TokenBatch, Tensor]:
    """The batch with `front` (k, width) before each row's tokens, and the embeddings (B, k + L, width).

    What pads a row on the left stays there. The batch is on the model's device; its tokens at the places of
    `front` are padding, attended to and not counted. Gradients flow into `front`.
    """
    batch = batch.to(model.device)
    words, k = model.embed(batch), len(front)
    front = front.to(words)
    ids, mask, labels, rows = [], [], [], []
    for row, attended in enumerate(batch.attention_mask):
        start = int(attended.argmax())
        ids.append(_with(batch.input_ids[row], start, attended.new_full((k,), model.reader.pad)))
        mask.append(_with(attended, start, attended.new_ones(k)))
        labels.append(_with(batch.labels[row], start, attended.new_full((k,), IGNORED)))
        rows.append(_with(words[row], start, front))
    return TokenBatch(torch.stack(ids), torch.stack(mask), torch.stack(labels)), torch.stack(rows)


@contextmanager
def read_as(embedding: nn.Module, embeddings: Tensor) -> Iterator[None]:
    """While open, the first batch of tokens that goes through a model's `embedding` is read as these.

    Not every architecture generates from embeddings; every one begins with this module.
    """

    def once(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        handle.remove()
        return embeddings

    handle = embedding.register_forward_hook(once)
    try:
        yield
    finally:
        handle.remove()


def _with(row: Tensor, start: int, more: Tensor) -> Tensor:
    return torch.cat([row[:start], more, row[start:]])
