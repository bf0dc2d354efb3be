"""What fine-tuning moved: theta_pre - theta_ft of each tensor of the scope, one copy in low precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.backends.files.stored import canonical
from oubliette.core.errors import UserError, suggest
from oubliette.guard.learn.spill import DiskTensors

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.guard.learn.candidates import Candidates

__all__ = ["DTYPES", "Difference"]

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Difference:
    """d = theta_pre - theta_ft by tensor name, where the model's weights are (FreezeAsGuard, 2405.17472).

    Subtracted in fp32 and rounded once to `dtype`. theta_ft is read tensor by tensor and never held; what is
    left of it is theta_pre - d, to the precision of d.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    @classmethod
    def between(
        cls,
        model: Backend,
        candidates: Candidates,
        relearned: Backend | Mapping[str, Tensor],
        dtype: str = "bfloat16",
    ) -> Difference:
        """The difference of a model that holds theta_pre to one fine-tuned from it.

        A mapping is asked for one tensor at a time, so a lazy one streams. UserError where a tensor is
        missing, shaped otherwise or not finite, where the two are the same model, and for an unknown dtype.
        """
        given = relearned if isinstance(relearned, Mapping) else relearned.tensors()
        where = "the relearned weights" if isinstance(relearned, Mapping) else str(relearned.source)
        own = candidates.of_model(model)
        known = {canonical(name): name for name in given}
        missing = [name for name in own if canonical(name) not in known]
        if missing:
            raise UserError(
                f"guard: {where} lack {len(missing)} of the {len(own)} tensors of {model.source} in scope "
                f"'{candidates.scope}', first {missing[0]}; expected a model fine-tuned from it"
            )

        def tuned(name: str) -> Tensor:
            found = given[known[canonical(name)]].detach()
            if found.shape != own[name].shape:
                raise UserError(
                    f"guard: {name} is {tuple(found.shape)} in {where}, {tuple(own[name].shape)} in "
                    f"{model.source}; expected a model fine-tuned from it"
                )
            return found

        return cls._made(own, lambda name: own[name].detach(), tuned, dtype, where)

    @classmethod
    def since(
        cls, model: Backend, candidates: Candidates, base: DiskTensors, dtype: str = "bfloat16"
    ) -> Difference:
        """The difference of what `base` kept of theta_pre to the model as it is now, fine-tuned in place."""
        own = candidates.of_model(model)
        return cls._made(
            own, base.__getitem__, lambda name: own[name].detach(), dtype, f"{model.source} as fine-tuned"
        )

    @classmethod
    def _made(
        cls,
        own: Mapping[str, Tensor],
        before: Callable[[str], Tensor],
        after: Callable[[str], Tensor],
        dtype: str,
        where: str,
    ) -> Difference:
        if dtype not in DTYPES:
            raise UserError(f"guard: no difference is kept in {dtype!r}; {suggest(dtype, DTYPES)}")
        tensors: dict[str, Tensor] = {}
        moved = False
        for name, parameter in own.items():
            pre, tuned = (kept.to(parameter.device, torch.float32) for kept in (before(name), after(name)))
            made = (pre - tuned).to(DTYPES[dtype])
            if not bool(torch.isfinite(made).all()):
                raise UserError(
                    f"guard: {name} in {where} is not finite, or too far from the base for {dtype}"
                )
            moved = moved or bool(made.any())
            tensors[name] = made
        if not moved:
            raise UserError(
                f"guard: {where}: all {len(own)} tensors equal the base's; expected a model that was "
                "fine-tuned on the illegal data"
            )
        return cls(tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def with_slope(self, name: str, gradient: Tensor) -> Tensor:
        """<d, g> of one tensor, a scalar in fp32."""
        return torch.dot(self.tensors[name].float().flatten(), gradient.float().flatten())

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    @contextmanager
    def movable(self) -> Iterator[Callable[[], None]]:
        """A block in which it may be changed in place; yields what puts it back, as leaving the block does.

        The original lies in a scratch file meanwhile.
        """
        kept = DiskTensors(self.tensors)

        try:
            yield lambda: kept.restore(self.tensors)
        finally:
            kept.restore(self.tensors)
            kept.close()
