"""What the enforcement tests share: a small network, a mask of it, and steps of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from oubliette.guard.hashes import digests, pieces
from oubliette.guard.mask import FrozenTensor

FROZEN = ["0.weight", "0.bias"]


def network(seed: int = 0) -> nn.Sequential:
    """Two layers; `FROZEN` names the first one's tensors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


class HashedMask:
    """A mask of any module's tensors as they are now: what enforcing reads of a published one."""

    def __init__(self, model: nn.Module, names: Iterable[str] = FROZEN, prefix: str = "") -> None:
        held = dict(model.named_parameters())
        self.frozen = [_frozen(prefix + name, held[name].detach()) for name in names]

    @property
    def names(self) -> list[str]:
        return [tensor.name for tensor in self.frozen]


def _frozen(name: str, tensor: Tensor) -> FrozenTensor:
    found = digests(lambda: pieces(tensor), tensor.dtype, tensor.dtype)
    return FrozenTensor(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), found)


def values(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a model's tensors."""
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def fit(
    model: Any,
    optimizer: Any,
    steps: int = 5,
    *,
    set_to_none: bool = True,
    after: Callable[[], None] | None = None,
) -> None:
    """Some steps towards fixed targets."""
    rng = torch.Generator().manual_seed(1)
    for _ in range(steps):
        dtype = next(model.parameters()).dtype
        inputs = torch.randn(4, 6, generator=rng).to(dtype)
        loss = (model(inputs).float() - torch.ones(4, 3)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=set_to_none)
        if after is not None:
            after()


def drift(model: nn.Module, before: dict[str, Tensor], names: Iterable[str] = FROZEN) -> float:
    """The largest change of the named tensors."""
    held = dict(model.named_parameters())
    return max(float((held[name].detach() - before[name]).abs().max()) for name in names)
