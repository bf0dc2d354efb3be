"""A scope that is measured: the blocks without which the loss on what is to go changes most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from oubliette.core.errors import UserError
from oubliette.core.progress import progress

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Attribution", "Choice", "zeroed"]

_SHARE = 4


@dataclass(frozen=True)
class Choice:
    """The tensors that were chosen, by name, and why: `blocks` (from 0) in the model's order, `scores`, which
    is every block's |loss without it - loss|, and the `loss` itself. `forwards` counts one item each.
    """

    names: tuple[str, ...]
    blocks: tuple[int, ...]
    scores: tuple[float, ...]
    loss: float
    forwards: int

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {
            "blocks": list(self.blocks),
            "scores": [round(score, 6) for score in self.scores],
            "loss": round(self.loss, 6),
            "forwards": self.forwards,
        }


class Attribution:
    """The `top` blocks without which the loss on what is to go changes most, measured anew for each request.

    A block is taken out by holding every parameter of it at zero: what is added to the residual path is then
    nothing. Its tensors move, less those of its norms; the embeddings and the head stay. By default a quarter
    of the blocks, FIT's 8 of 32. Paper: Xu et al. (FIT), 2026 (2601.21682), targeted layers; there the text
    is cut at 128 tokens, here nothing is. Ours: a UNet's down blocks, its middle and its up blocks, on the
    denoising loss of the concept's pictures under noise that is drawn once.
    """

    measured: ClassVar[bool] = True

    def __call__(self, model: Backend) -> list[str]:
        """Every tensor that may be chosen; none of a model without blocks."""
        return [name for block in self.by_block(model) for name in block]

    def by_block(self, model: Backend) -> list[list[str]]:
        """The names of each block's tensors that would move."""
        names = {id(parameter): name for name, parameter in model.tensors().items()}
        found = []
        for block in _blocks(model):
            own = [
                parameter
                for module in block.modules()
                if "norm" not in type(module).__name__.lower()
                for parameter in module.parameters(recurse=False)
            ]
            found.append([names[id(parameter)] for parameter in own if id(parameter) in names])
        return found

    def count(self, model: Backend, top: int | None) -> int:
        """How many blocks are taken; UserError for more than there are."""
        every = len(_blocks(model))
        if top is not None and top > every:
            raise UserError(
                f"scope.top is {top}, and {model.source} has {every} blocks; give at most {every}"
            )
        return top or max(1, every // _SHARE)

    def largest(self, model: Backend, top: int | None, free: Mapping[str, nn.Parameter]) -> list[str]:
        """The most that may be chosen of the `free` tensors: those of the largest `top` blocks."""
        blocks = [[name for name in block if name in free] for block in self.by_block(model)]
        blocks.sort(key=lambda names: -sum(free[name].numel() for name in names))
        return [name for names in blocks[: self.count(model, top)] for name in names]

    def forwards(self, model: Backend, items: int) -> int:
        """How many passes of one item it takes to choose."""
        return (len(_blocks(model)) + 1) * items

    @torch.no_grad()
    def choose(
        self, model: Backend, top: int | None, loss: Callable[[], float], items: int, show_progress: bool
    ) -> Choice:
        """Read the loss on `items` items whole and without each block; every bit of the weights returns.

        Of equal changes the earlier block's counts. UserError where a loss is not finite, or `top` is more
        than there are blocks.
        """
        blocks, count = _blocks(model), self.count(model, top)
        whole, scores = loss(), []
        with progress("taking blocks out", len(blocks), "blocks", enabled=show_progress) as tick:
            for number, block in enumerate(blocks, start=1):
                with zeroed(list(block.parameters())):
                    scores.append(abs(loss() - whole))
                tick(number, "")
        if not torch.isfinite(torch.tensor([whole, *scores])).all():
            raise UserError(f"scope 'attribution': a loss of {model.source} is not finite on what is to go")
        chosen = sorted(sorted(range(len(blocks)), key=lambda block: -scores[block])[:count])
        own = self.by_block(model)
        return Choice(
            names=tuple(name for block in chosen for name in own[block]),
            blocks=tuple(chosen),
            scores=tuple(scores),
            loss=whole,
            forwards=self.forwards(model, items),
        )


attribution = Attribution()


@contextmanager
def zeroed(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Hold zeros in the parameters' places inside the block, by swapping pointers: every bit returns."""
    held = [parameter.data for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.data = torch.zeros_like(parameter.data)
        yield
    finally:
        for parameter, value in zip(parameters, held, strict=True):
            parameter.data = value


def _blocks(model: Any) -> list[nn.Module]:
    return list(model.blocks()) if hasattr(model, "blocks") else []
