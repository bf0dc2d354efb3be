"""Frozen tensors of a model in memory, held to what they were by hashes: no second copy of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.guard.hashes import digests, dtype_name, matching_form, pieces
from oubliette.guard.names import find, listed, match, some, tensors

if TYPE_CHECKING:
    from oubliette.guard.mask import FrozenTensor
    from oubliette.guard.names import AnyMask

__all__ = ["MaskViolated", "Watch", "whole"]


class MaskViolated(UserError):  # noqa: N818 - an outcome of a run, named for what happened
    """Tensors that a mask freezes have moved, are gone, or have an adapter; `tensors` says which and how."""

    def __init__(self, tensors: Mapping[str, str], where: str = "") -> None:
        self.tensors = dict(tensors)
        told = [f"{name} ({how})" for name, how in self.tensors.items()]
        super().__init__(f"the mask is violated{where}: {some(told)}; frozen tensors must stay as published")


class Watch:
    """Says which of a mask's tensors differ from the published ones, bit for bit after casting.

    Where the mask has hashes they are what is compared with; where it is names alone, the model's tensors
    as they are now (with `baseline` False nothing is hashed now, and `moved` cannot be asked). A model that
    holds the base's fp16 or bf16 form, in whatever dtype, has not moved. Raises UserError where a name or a
    shape does not fit `model` (see `names.match`).
    """

    def __init__(self, model: Any, mask: AnyMask, *, baseline: bool = True) -> None:
        self.model = model
        self._published = listed(mask)
        self.names = list(self._published)
        found = self.parameters()
        if without := [name for name, parameter in found.items() if parameter.is_meta]:
            raise UserError(f"{some(without)}: on torch's meta device, without values; load the model first")
        misfits = [
            f"{name} is {tuple(found[name].shape)}, the mask's {tuple(frozen.shape)}"
            for name, frozen in self._published.items()
            if frozen is not None and tuple(found[name].shape) != tuple(frozen.shape)
        ]
        if misfits:
            raise UserError(
                f"the mask is of another model: {some(misfits)} (a quantised model has other shapes: "
                "open it unquantised)"
            )
        for name, frozen in self._published.items():
            if frozen is None and baseline:
                self._published[name] = _as_it_is(name, found[name])

    def parameters(self, model: Any = None) -> dict[str, nn.Parameter]:
        """The frozen parameters by the mask's names, as they are in the model (or another) at this moment."""
        held = tensors(self.model if model is None else model)
        return {name: held[own] for name, own in match(self.names, held).items()}

    def moved(self, model: Any = None) -> dict[str, str]:
        """The frozen tensors that are not as published, each with how: "changed", or "gone".

        `model` is another one to look at instead, such as a weight average. Each tensor is hashed once.
        Under FSDP2 every process must call this, since a tensor is gathered (one at a time) to be hashed.
        """
        if None in self._published.values():
            raise UserError("nothing to compare with: the mask is names alone and check=False was given")
        held = tensors(self.model if model is None else model)
        places = {name: find(name, held) for name in self.names}
        if model is not None and not any(places.values()):
            match(self.names, held)  # raises, saying that this is no copy of it
        told = {}
        for name, own in places.items():
            frozen = self._published[name]
            assert frozen is not None
            if own is None:
                told[name] = "gone"
            elif not _same(held[own], frozen):
                told[name] = "changed"
        return told

    def require(self, model: Any = None, where: str = "") -> None:
        """Raise MaskViolated, naming the tensors, if any has moved."""
        if told := self.moved(model):
            raise MaskViolated(told, where)


def whole(tensor: Tensor) -> Tensor:
    """The tensor's values, detached; one that FSDP2 shards is gathered, by every process."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _same(parameter: Tensor, frozen: FrozenTensor) -> bool:
    values = whole(parameter)
    if values.shape != frozen.shape:
        return False
    return matching_form(frozen, values.dtype, partial(pieces, values)) is not None


def _as_it_is(name: str, parameter: Tensor) -> FrozenTensor:
    from oubliette.guard.mask import FrozenTensor

    values = whole(parameter)
    hashes = digests(partial(pieces, values), values.dtype, values.dtype)
    return FrozenTensor(name, tuple(values.shape), dtype_name(values.dtype), hashes)
