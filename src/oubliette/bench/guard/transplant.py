"""Delta transplant: what an unguarded relative learned is added to the tensors that a mask leaves free."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from oubliette.bench.guard.plan import Arm, Plan

__all__ = ["TRANSPLANT", "Donor"]

TRANSPLANT = "delta-transplant"


class Donor:
    """A relative of the guarded model, fine-tuned as it likes: the model before it was erased, or where
    nothing was, the plan's gold twin.

    Fine-tuning never sees the mask, and what it moved lands in free tensors alone, so that `oubliette guard
    verify` finds the mask respected.
    """

    def __init__(self, plan: Plan, arm: Arm) -> None:
        from oubliette.backends import open_model

        self.model = open_model(plan.base if arm.erase is not None else plan.gold or plan.base)
        self._start: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in self.model.tensors().items()
        }

    @contextmanager
    def given_to(self, model: Any, frozen: Collection[str]) -> Iterator[None]:
        """`model` with what the donor has moved so far in its free tensors; every bit returns."""
        own, frozen = model.tensors(), set(frozen)
        held: dict[str, Tensor] = {}
        try:
            for name, tensor in self.model.tensors().items():
                if name in frozen or name not in own:
                    continue
                held[name] = own[name].data
                moved = tensor.detach().float() - self._start[name].float()
                own[name].data = (own[name].data.float() + moved).to(own[name].dtype)
            yield
        finally:
            for name, values in held.items():
                own[name].data = values
