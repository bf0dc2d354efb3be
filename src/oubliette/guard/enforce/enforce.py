"""A mask in anyone's training script: frozen tensors cannot move, and it is shown that they did not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from oubliette.core.errors import UserError
from oubliette.guard.enforce.adapters import adapters_on
from oubliette.guard.enforce.watch import MaskViolated, Watch, whole
from oubliette.guard.names import find, roots, some, tensors

if TYPE_CHECKING:
    from oubliette.guard.names import AnyMask

__all__ = ["Enforcement", "enforce"]


def enforce(
    model: Any, mask: AnyMask, *, check: bool = True, every: int = 0, restore: bool = False
) -> Enforcement:
    """Hold `model` to `mask` within a `with` block; the block's name is its `Enforcement`.

    `model` is an Oubliette model, a diffusers pipeline, a module (a bare UNet too), or a mapping of component
    names to modules, however wrapped: DistributedDataParallel, FSDP2, torch.compile, peft, before or after
    `accelerator.prepare`. `mask` is a mask, its folder, or tensor names. With `check` the frozen tensors are
    held against the mask's hashes on entering and on leaving, and after every `every` optimiser steps (0:
    never between). `restore` puts back what was found moved, with a warning, instead of raising; that costs
    one copy of the frozen tensors in host memory, which is otherwise not taken.

    On entering, raises UserError where the mask is not this model's or its tensors are not the published
    ones; MaskViolated wherever a frozen tensor has moved or carries an adapter.
    """
    if every < 0:
        raise UserError(f"every must be 0 (never) or a number of optimiser steps, found {every}")
    if (every or restore) and not check:
        raise UserError("every and restore need check=True: what is not checked is not found to have moved")
    return Enforcement(model, mask, check=check, every=every, restore=restore)


class Enforcement:
    """What `enforce` gives. Three layers: no gradient, no way through an optimiser, a comparison of hashes.

    1. `requires_grad` is off and old gradients are dropped, so an optimiser over all parameters skips the
    frozen ones: no weight decay, no momentum. 2. Before each step of any torch optimiser, one that holds a
    frozen tensor which was made trainable again is refused, and a gradient that came back is dropped.
    3. `check` finds whatever went past the optimiser: merges, averages, casts, assignments.

    A module that DistributedDataParallel wrapped before the freeze waits for every gradient it saw then; so
    there `requires_grad` stays on, the frozen gradients are zero on every process, and layer 2 drops them.
    That is exact, but saves no memory: freeze before `prepare` where there is a choice.
    """

    def __init__(self, model: Any, mask: AnyMask, *, check: bool, every: int, restore: bool) -> None:
        self._watch = Watch(model, mask, baseline=check)
        self.model, self._check, self._every, self._restore = model, check, every, restore
        self.names = self._watch.names
        """The frozen tensors, by the mask's names."""
        self.steps = 0
        """Steps of the model's optimisers so far."""
        self.restored: dict[str, int] = {}
        """How often each tensor was put back (with `restore`)."""
        self.dropped: dict[str, int] = {}
        """How often a gradient was taken from each tensor just before an optimiser's step."""
        self._flags: dict[str, bool] | None = None
        self._reduced: set[int] = set()
        self._reference: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._seen: WeakKeyDictionary[Optimizer, tuple[tuple[int, ...], dict[str, nn.Parameter], bool]]
        self._seen = WeakKeyDictionary()

    # -- entering and leaving --------------------------------------------------------------------------------

    def __enter__(self) -> Enforcement:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._check:
                self.settle(" at the end of the block")
        finally:
            self.stop()

    def start(self) -> None:
        """What `with` does on entering: compare with the base, freeze, and watch the optimisers."""
        if self._flags is not None:
            raise UserError(
                "this mask is already being enforced: leave the first block, or call enforce again"
            )
        self._refuse_adapters(" before training")
        if self._check and (told := self._watch.moved()):
            raise UserError(
                f"{some(list(told))}: not as the mask's base has them; "
                "this is another model, or was trained before the mask was applied"
            )
        found = self._watch.parameters()
        if self._restore:
            self._reference = {
                name: whole(parameter).to("cpu", copy=True) for name, parameter in found.items()
            }
        wrapped = _reduced_parameters(self.model)
        self._flags = {name: parameter.requires_grad for name, parameter in found.items()}
        for parameter in found.values():
            parameter.grad = None  # a stale zero gradient lets momentum and weight decay move the tensor
            if parameter.requires_grad and id(parameter) in wrapped:
                self._reduced.add(id(parameter))
                self._hooks.append(parameter.register_hook(torch.zeros_like))
            else:
                parameter.requires_grad_(False)
        self._hooks.append(register_optimizer_step_pre_hook(self._before_step))
        self._hooks.append(register_optimizer_step_post_hook(self._after_step))

    def stop(self) -> None:
        """What `with` does on leaving, without the check: `requires_grad` is as before."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._reduced.clear()
        self._reference.clear()
        self._seen.clear()
        flags, self._flags = self._flags or {}, None
        if not flags:
            return
        held = tensors(self.model)
        for name, flag in flags.items():
            if own := find(name, held):  # None: its layer was replaced within the block
                held[own].requires_grad_(flag)

    # -- what a script asks ----------------------------------------------------------------------------------

    def optimizer_parameters(self) -> list[nn.Parameter]:
        """The parameters to build an optimiser from: trainable and not frozen, adapters too, each once.

        Raises UserError where none is left.
        """
        frozen = {id(parameter) for parameter in self._watch.parameters().values()}
        trainable = {
            id(parameter): parameter
            for root in roots(self.model).values()
            for parameter in root.parameters()
            if parameter.requires_grad and id(parameter) not in frozen
        }
        if not trainable:
            raise UserError("nothing is left to train: every parameter is frozen, by the mask or without it")
        return list(trainable.values())

    def moved(self, model: Any = None) -> dict[str, str]:
        """The frozen tensors that are not as published, each with how; `model` is another one to look at.

        A weight average (EMA) is such another one. See `Watch.moved` for what it costs.
        """
        return self._watch.moved(model)

    @torch.no_grad()
    def mend(self, model: Any) -> None:
        """Copy the frozen tensors into another model, such as a weight average, bit for bit.

        An average of equal values need not be that value: 0.9 x + 0.1 x is not x, and torch's `AveragedModel`
        makes 0.0 of -0.0. diffusers' `EMAModel` copies what needs no gradient, and needs no mending.
        """
        own = self._watch.parameters()
        for name, parameter in self._watch.parameters(model).items():
            _copy(whole(own[name]), parameter)

    def check(self, optimizer: Any = None) -> None:
        """Raise MaskViolated if a frozen tensor has moved or has an adapter, naming each.

        Given an `optimizer`, raise UserError instead if it holds a frozen tensor with a way to move it: one
        that requires a gradient or has one. A frozen tensor without either is skipped by torch's optimisers.
        """
        if optimizer is None:
            self._refuse_adapters()
            self._watch.require()
            return
        optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
        movable = [name for name, p in self._held(optimizer)[0].items() if self._movable(p) or _has_grad(p)]
        movable = [name for name in movable if not self._is_reduced(name, optimizer)]
        if movable:
            raise UserError(
                f"the optimiser can move {some(movable)}, which the mask freezes; build it from "
                "handle.optimizer_parameters(), inside the with block"
            )

    def settle(self, where: str = "") -> None:
        """`check`, after putting back what `restore` allows to; `where` stands in the error."""
        self._refuse_adapters(where)
        told = self._watch.moved()
        if self._restore:
            told = self._put_back(told, where)
        if told:
            raise MaskViolated(told, where)

    # -- hooks -----------------------------------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        held, _ = self._held(optimizer)
        if movable := [name for name, parameter in held.items() if self._movable(parameter)]:
            raise UserError(
                f"{some(movable)} became trainable again after the mask was applied (requires_grad_(True), "
                "or peft's bias option); call enforce after everything that sets requires_grad"
            )
        for name, parameter in held.items():
            if parameter.grad is not None:
                parameter.grad = None
                self.dropped[name] = self.dropped.get(name, 0) + 1

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        _, ours = self._held(optimizer)
        self.steps += ours
        if ours and self._every and self.steps % self._every == 0:
            self.settle(f" after step {self.steps}")

    def _held(self, optimizer: Optimizer) -> tuple[dict[str, nn.Parameter], bool]:
        """The frozen tensors that an optimiser holds, and whether it trains any of the model's tensors."""
        given = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        key = tuple(id(parameter) for parameter in given)
        known = self._seen.get(optimizer)
        if known is None or known[0] != key:
            ids = set(key)
            held = {name: p for name, p in self._watch.parameters().items() if id(p) in ids}
            ours = any(id(parameter) in ids for parameter in tensors(self.model).values())
            known = self._seen[optimizer] = (key, held, ours)
        return known[1], known[2]

    def _movable(self, parameter: nn.Parameter) -> bool:
        return parameter.requires_grad and id(parameter) not in self._reduced

    def _is_reduced(self, name: str, optimizer: Optimizer) -> bool:
        return id(self._held(optimizer)[0][name]) in self._reduced

    # -- comparing -------------------------------------------------------------------------------------------

    def _refuse_adapters(self, where: str = "") -> None:
        if told := adapters_on(self.model, self.names):
            raise MaskViolated(told, where)

    @torch.no_grad()
    def _put_back(self, told: Mapping[str, str], where: str) -> dict[str, str]:
        """Copy the published values into what has changed; what is left cannot be put back."""
        changed = [name for name, how in told.items() if how == "changed"]
        held = tensors(self.model)
        for name in changed:
            own = find(name, held)
            assert own is not None
            _copy(self._reference[name], held[own])
            self.restored[name] = self.restored.get(name, 0) + 1
        if changed:
            warnings.warn(f"frozen tensors had moved and were put back{where}: {some(changed)}", stacklevel=2)
        return {name: how for name, how in told.items() if name not in changed}


def _has_grad(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None


def _reduced_parameters(model: Any) -> set[int]:
    """Parameters whose gradients a DistributedDataParallel waits for."""
    from torch.nn.parallel import DistributedDataParallel

    return {
        id(parameter)
        for root in roots(model).values()
        for module in root.modules()
        if isinstance(module, DistributedDataParallel)
        for parameter in module.parameters()
    }


def _copy(value: Tensor, into: Tensor) -> None:
    """Copy a whole tensor into one that may be a shard of it (FSDP2); every process has the whole."""
    into = into.detach()
    if hasattr(into, "full_tensor"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(into, DTensor)
        value = value.to(into.device, into.dtype)
        value = distribute_tensor(value, into.device_mesh, into.placements, src_data_rank=None)
    into.copy_(value)
