"""A network's blocks by index: what comes out of one can be read, and changed on its way to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from oubliette.core.errors import UserError

__all__ = ["blocks_of", "changed", "read"]


def blocks_of(network: nn.Module, count: int | None = None) -> list[nn.Module]:
    """The blocks that a network's input runs through one after another.

    A UNet's are its down blocks, the middle and its up blocks; any other's the longest `ModuleList` of
    modules of one class, or the first of `count` modules. UserError where there is none.
    """
    down, up = getattr(network, "down_blocks", None), getattr(network, "up_blocks", None)
    if down is not None and up is not None:
        middle = getattr(network, "mid_block", None)
        return [*down, *([] if middle is None else [middle]), *up]
    lists = [
        list(module)
        for module in network.modules()
        if isinstance(module, nn.ModuleList) and len({type(each) for each in module}) == 1
    ]
    fitting = [found for found in lists if count is None or len(found) == count]
    if not fitting:
        raise UserError(
            f"{type(network).__name__}: has no list of {f'{count} ' if count else ''}blocks of one kind"
        )
    return max(fitting, key=len)


@contextmanager
def read(blocks: Sequence[nn.Module], indices: Sequence[int]) -> Iterator[Mapping[int, Tensor]]:
    """While open, the output of each block of these indices at the latest forward pass, with its graph.

    Negative indices count from the end. UserError for a block that is not there.
    """
    seen: dict[int, Tensor] = {}

    def keep(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            seen[index] = _first(output)

        return hook

    with ExitStack() as stack:
        for index in indices:
            handle = _block(blocks, index).register_forward_hook(keep(index))
            stack.callback(handle.remove)
        yield seen


@contextmanager
def changed(blocks: Sequence[nn.Module], changes: Mapping[int, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """While open, what comes out of a block of these indices goes on as its function makes it.

    A function is given the output and returns one of the same shape; gradients flow through it. UserError for
    a block that is not there.
    """

    def put(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            own = _first(output)
            made = change(own)
            if made.shape != own.shape:
                raise ValueError(f"a change keeps the shape {tuple(own.shape)}; found {tuple(made.shape)}")
            return made if own is output else (made, *output[1:])

        return hook

    with ExitStack() as stack:
        for index, change in changes.items():
            handle = _block(blocks, index).register_forward_hook(put(change))
            stack.callback(handle.remove)
        yield


def _block(blocks: Sequence[nn.Module], index: int) -> nn.Module:
    if not -len(blocks) <= index < len(blocks):
        raise UserError(f"no block {index}: there are {len(blocks)} (0 to {len(blocks) - 1})")
    return blocks[index]


def _first(output: Any) -> Tensor:
    """The hidden states of a block's output, which some give in a tuple with more."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found
