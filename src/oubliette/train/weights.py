"""The tensors that are trained, their originals, and how to hold other values without losing a bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.train.optimizer import Masters

if TYPE_CHECKING:
    from oubliette.backends.files.lora_form import Factors

__all__ = ["Weights"]

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Weights:
    """The named parameters one run may move, with a copy of what they were at the start (of these few only).

    `element_masks` gives, for some of the names, a boolean tensor of the parameter's shape: False elements
    are put back to their original bits after each step.
    """

    def __init__(
        self, named: Mapping[str, nn.Parameter], *, element_masks: Mapping[str, Tensor] | None = None
    ) -> None:
        if not named:
            raise UserError("nothing to train: the scope, less the frozen tensors, is empty")
        if len({id(parameter) for parameter in named.values()}) != len(named):
            raise ValueError("one parameter is listed under two names")
        self._named = dict(named)
        self.original = self._originals()
        self._masters: Masters | None = None
        self._reference: Callable[[], AbstractContextManager[None]] = nullcontext
        self._masks: dict[str, Tensor] = {}
        for name, mask in (element_masks or {}).items():
            if name not in self._named or mask.shape != self._named[name].shape:
                found = tuple(self._named[name].shape) if name in self._named else "no such trained tensor"
                raise ValueError(
                    f"element mask of '{name}' has shape {tuple(mask.shape)}, the tensor: {found}"
                )
            self._masks[name] = mask.to(device=self._named[name].device, dtype=torch.bool)

    @property
    def names(self) -> list[str]:
        """Names in the order of `parameters`."""
        return list(self._named)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, in the order of `names`."""
        return list(self._named.values())

    @property
    def start(self) -> Mapping[str, Tensor]:
        """What the trained parameters were at the start, by `names`."""
        return self.original

    def _originals(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._named.items()}

    def masters(self) -> Masters:
        """What the optimiser moves on these weights' behalf, as they stand now."""
        self._masters = Masters(self.parameters, self.names)
        return self._masters

    def plain(self) -> AbstractContextManager[None]:
        """The model with its usual layers, names and values inside the block: to be drawn from, to be
        saved.
        """
        return nullcontext()

    def settled(self) -> Weights:
        """The same change once training is over, in the model's own tensors."""
        return self

    @property
    def factors(self) -> Factors | None:
        """The LoRA that the change is by construction, None where it is none."""
        return None

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Hold inside the block what weights of 16 bits are the rounding of, in fp32: what is to be saved."""
        with self._swapped(self._exact()):
            yield

    @torch.no_grad()
    def _exact(self) -> list[Tensor]:
        found = self._unrounded()
        values = []
        for (name, parameter), value in zip(self._named.items(), found, strict=True):
            if value.dtype != parameter.dtype and name in self._masks:
                value = torch.where(self._masks[name], value, self.original[name].to(value.dtype))
            # Weights that were written to since (undone, or by hand) stand for themselves.
            stands = value.dtype != parameter.dtype and torch.equal(value.to(parameter.dtype), parameter)
            values.append(value if stands else parameter.detach())
        return values

    def _unrounded(self) -> Sequence[Tensor]:
        return self.parameters if self._masters is None else self._masters.exact()

    @contextmanager
    def originals(self) -> Iterator[None]:
        """Hold the starting weights inside the block by swapping pointers: no copy, and every bit returns.

        A graph built outside the block must not be differentiated inside it: autograd reads a parameter's
        values when it runs backward. Under autocast, its weight cache must be off (the loop's is), or casts
        go stale.
        """
        with self._swapped([self.original[name] for name in self._named]), self._reference():
            yield

    def refer_to(self, reference: Callable[[], AbstractContextManager[None]]) -> None:
        """Let `originals` hold an earlier model than the one at the start: what `reference()` makes of that,
        as the model that a stream began with. What is undone and resumed from stays the start.
        """
        self._reference = reference

    @contextmanager
    def perturbed(self, deltas: Sequence[Tensor]) -> Iterator[None]:
        """Hold `weights + deltas` inside the block (one for each parameter, in order); every bit returns.

        The sum is formed in fp32 and rounded once to the parameter's dtype; it lies in new memory, so that
        the weights themselves are never added to or subtracted from.
        """
        if len(deltas) != len(self._named):
            raise ValueError(f"{len(deltas)} deltas for {len(self._named)} parameters")
        moved = [
            (parameter.detach().to(_wide(parameter.dtype)) + delta).to(parameter.dtype)
            for parameter, delta in zip(self.parameters, deltas, strict=True)
        ]
        del deltas  # as large as the weights: not needed while the caller's losses are evaluated
        with self._swapped(moved):
            yield

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Hold the originals inside the block in memory of their own: what is trained there is gone after."""
        with (
            self.originals(),
            self.perturbed([torch.zeros((), device=held.device) for held in self.parameters]),
        ):
            yield

    @contextmanager
    def uphill(self, gradient: list[Tensor], length: float) -> Iterator[float]:
        """Hold `weights + length * gradient / ||gradient||` inside the block, and say what ||gradient|| is.

        All tensors count as one vector, whose length is that of the change in the model's own tensors. A
        gradient of zero moves nothing. The gradient is overwritten.
        """
        norm = float(torch.stack(torch._foreach_norm(gradient)).norm())
        # A zero gradient has no direction to climb; a non-finite one is reported by the loop, role by role.
        torch._foreach_mul_(gradient, length / norm if norm > 0 else 0.0)
        with self.perturbed(gradient):
            del gradient
            yield norm

    def delta(self) -> Mapping[str, Tensor]:
        """Current minus original, by name, in fp32 (fp64 for fp64 weights)."""
        return {
            name: parameter.detach().to(_wide(parameter.dtype))
            - self.original[name].to(_wide(parameter.dtype))
            for name, parameter in self._named.items()
        }

    @torch.no_grad()
    def restore(self) -> None:
        """Write the original bits back in place (undo)."""
        for name, parameter in self._named.items():
            parameter.copy_(self.original[name])

    @torch.no_grad()
    def enforce_masks(self) -> None:
        """Put masked elements back to their original bits, whatever an optimiser's decay did to them."""
        for name, mask in self._masks.items():
            # On the bits, in place: what `torch.where` gives, in a quarter of its time on a CPU.
            bits = _INTEGERS[self._named[name].element_size()]
            now, before = self._named[name].detach().view(bits), self.original[name].view(bits)
            now.bitwise_xor_(before).mul_(mask).bitwise_xor_(before)

    @contextmanager
    def _swapped(self, values: Sequence[Tensor]) -> Iterator[None]:
        held = [parameter.data for parameter in self.parameters]
        try:
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.data = value
            yield
        finally:
            for parameter, value in zip(self.parameters, held, strict=True):
                parameter.data = value


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32
