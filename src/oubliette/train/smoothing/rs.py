"""The forget gradient averaged over noise on the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.gradients import step_rng
from oubliette.train.roles import Role
from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes
from oubliette.train.smoothing.side import at_least_zero, forget_roles
from oubliette.train.weights import Weights

__all__ = ["Rs"]


class Rs(NoSmoother):
    """Randomised smoothing of the forget losses: the mean of their gradients at w + sigma * z, z random.

    z is standard normal on every trained element, so that in expectation this is the gradient of
    E_z L(w + sigma z); retain gradients are taken at w (Unlearn-Smooth, arXiv 2502.05374, with its three
    draws and sigma 1e-4). The noise comes from (seed, step) alone, is drawn on the weights' device, and is
    the same for all roles, micro-batches and processes. Each forget role is looked at once at w, and
    evaluated once a draw; sigma = 0 is the plain gradient, bit for bit.

    On weights of 16 bits noise below half their spacing is rounded away: most of it at 1e-4 for a bf16 weight
    of 0.1, whose spacing is 5e-4.
    """

    def __init__(self, sigma: float = 1e-4, draws: int = 3) -> None:
        at_least_zero("rs", sigma=sigma)
        if draws < 1:
            raise UserError(f"rs: draws must be at least 1, found {draws}")
        self.sigma = sigma
        self.draws = draws
        self._step = self._seed = 0

    @property
    def extra_passes(self) -> Passes:
        """Each draw takes both; the look at w takes the place of the forward pass there."""
        return Passes(self.draws, self.draws - 1) if self.sigma else Passes()

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Keep what the noise is drawn from."""
        self._step, self._seed = step, seed

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """Forget roles at the noisy weights, retain roles at the weights as they stand."""
        forget = forget_roles(roles)
        if not forget or self.sigma == 0:
            return super().gradients(at, weights, roles)
        found: dict[str, list[Tensor]] = {}
        for name in roles:
            if name in forget:
                at.look(name)
            else:
                found[name] = at(name)
        rng = step_rng(self._seed, self._step, "rs", weights.parameters[0].device)
        for _ in range(self.draws):
            with weights.perturbed([self._noise(parameter, rng) for parameter in weights.parameters]):
                for name in forget:
                    gradient = at(name)
                    if name in found:
                        torch._foreach_add_(found[name], gradient)
                    else:
                        found[name] = gradient
        for name in forget:
            torch._foreach_div_(found[name], self.draws)
        return {name: found[name] for name in roles}

    def _noise(self, parameter: Tensor, rng: torch.Generator) -> Tensor:
        dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
        noise = torch.randn(parameter.shape, generator=rng, dtype=dtype, device=parameter.device)
        return noise.mul_(self.sigma)
