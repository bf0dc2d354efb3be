"""The mixed model: theta(m) = m theta_pre + (1 - m) theta_ft, held in the model's own weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oubliette.guard.learn.candidates import Candidates
from oubliette.guard.learn.difference import Difference
from oubliette.guard.learn.spill import DiskTensors

__all__ = ["MixedWeights"]


class MixedWeights:
    """Writes mixtures into the parameters, in place and one tensor at a time, anew from theta_pre and d.

    Incremental mixing, as FreezeAsGuard's released code has it, lets rounding drift; here each mixture is
    theta_pre - (1 - m) d in fp32, rounded once to the parameter's dtype.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        candidates: Candidates,
        base: DiskTensors,
        difference: Difference,
    ) -> None:
        self._parameters, self._base, self._difference = parameters, base, difference
        self._place = candidates.place
        self._count = len(candidates)

    @torch.no_grad()
    def hold(self, mask: Tensor | float) -> None:
        """Hold theta(m), m (N,) one number a candidate or one for all; 1 is theta_pre, 0 is theta_ft."""
        shares = _shares(mask, self._count)
        for name, parameter in self._parameters.items():
            parameter.copy_(self._value(name, shares[self._place[name]]))

    @torch.no_grad()
    def moved(self, mask: Tensor | float, names: list[str]) -> None:
        """Hand what a user has moved since theta(m) was held to theta_ft: d <- d - (theta - theta(m))."""
        shares = _shares(mask, self._count)
        for name in names:
            parameter = self._parameters[name]
            step = parameter.float() - self._value(name, shares[self._place[name]]).float()
            self._difference[name].sub_(step)

    def _value(self, name: str, share: float) -> Tensor:
        parameter = self._parameters[name]
        base = self._base[name].to(parameter.device)
        if share == 1:
            return base
        return (base.float() - self._difference[name].float() * (1 - share)).to(parameter.dtype)


def _shares(mask: Tensor | float, count: int) -> list[float]:
    if isinstance(mask, Tensor):
        if mask.shape != (count,):
            raise ValueError(f"a mask of {tuple(mask.shape)} for {count} candidates")
        return [float(share) for share in mask.tolist()]
    return [float(mask)] * count
