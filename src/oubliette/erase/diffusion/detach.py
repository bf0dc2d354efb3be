"""Keeping the gradient of the text-facing projections away from the first token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from oubliette.backends.base import Backend


def readers(model: Backend, names: Sequence[str]) -> list[nn.Module]:
    """The modules that own the named weights ("unet.mid_block....to_k.weight" -> that to_k)."""
    found = []
    for name in names:
        component, path = name.split(".", 1)
        found.append(model.modules()[component].get_submodule(path.rpartition(".")[0]))
    return found


def _detach_first(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.index_copy(1, output.new_zeros(1).long(), output[:, :1].detach())


@contextmanager
def detached_first_token(modules: Sequence[nn.Module]) -> Iterator[None]:
    """While open, no gradient flows through the keys and values of the first (BOS) token.

    The released codes of Custom Diffusion, Concept Ablation and DoCo train so: the BOS row is the same in
    every prompt, and moving its keys and values moves every picture.
    """
    handles = [module.register_forward_hook(_detach_first) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
