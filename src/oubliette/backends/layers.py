"""A network's tensors and layers by their own names, whether adapters lie over them or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["ADAPTER", "adaptable", "flat", "is_transposed", "own", "refuse_open"]

T = TypeVar("T", bound=Tensor)

#: What peft calls the adapters that this package lays over a network while it trains them.
ADAPTER = "oubliette"


def own(named: Mapping[str, T]) -> dict[str, T]:
    """A module's parameters or state by the names they have without this package's adapters, whose own are
    left out.

    While adapters are in place these are the base's values. Adapters of anyone else stay what they are.
    """
    mark = f".lora_A.{ADAPTER}."
    layers = {name.partition(mark)[0] for name in named if mark in name}
    found: dict[str, T] = {}
    for name, tensor in named.items():
        path, _, rest = name.rpartition(".base_layer.")
        if path in layers:
            found[f"{path}.{rest}"] = tensor
        elif not layers or f".{ADAPTER}." not in name:
            found[name] = tensor
    return found


def refuse_open(model: Backend) -> None:
    """ValueError while adapters are being trained: what the model computes is then not in its tensors."""
    for name, component in model.modules().items():
        for layer in component.modules():
            if ADAPTER in getattr(layer, "lora_A", ()) and not layer.disable_adapters:
                raise ValueError(f"{name} has open adapters: look at it inside the weights' plain()")


def adaptable(model: Backend) -> dict[str, nn.Module]:
    """The layers that both diffusers and peft keep adapters for, by the name of their weight.

    Linear layers and convolutions of one group, without dilation and padded with zeros (of an adapter over
    any other, peft computes something else than it merges); none whose weight another kind of module holds
    as well (an embedding with an output layer tied to it).
    """
    names = {id(tensor): name for name, tensor in model.tensors().items()}
    found: dict[str, nn.Module] = {}
    shared: set[str] = set()
    for component in model.modules().values():
        for module in component.modules():
            name = names.get(id(getattr(module, "weight", None)))
            if name is None:
                continue
            plain = isinstance(module, nn.Linear) or is_transposed(module)
            if plain or (isinstance(module, nn.Conv2d) and _is_simple(module)):
                found[name] = module
            elif not hasattr(module, "base_layer"):  # peft's own layer shows its base's weight
                shared.add(name)
    return {name: module for name, module in found.items() if name not in shared}


def _is_simple(layer: nn.Conv2d) -> bool:
    return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"


def is_transposed(module: nn.Module) -> bool:
    """Whether a layer's weight is (in, out): GPT-2's linear layer, transformers' Conv1D, no convolution."""
    return type(module).__name__ == "Conv1D"


def flat(weight: Tensor, layer: nn.Module) -> Tensor:
    """A layer's weight as the matrix (out, in), a convolution's as (out, in k k)."""
    return weight.T if is_transposed(layer) else weight.flatten(1)
