"""Unlearn a role's batch, then take the whole update where that led."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.fisher import check_fisher
from oubliette.train.gradients import global_norm, step_rng
from oubliette.train.roles import Role
from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes
from oubliette.train.smoothing.side import at_least_zero, forget_side
from oubliette.train.weights import Weights

__all__ = ["Refresh"]

Gradients = dict[str, list[Tensor]]
_TINY = 1e-20  # of the released code, against a gradient of zero
_MEMORY = 0.9  # of the running Fisher: ours


class Refresh(NoSmoother):
    """Refresh learning (arXiv 2403.13249): J ascents on a role's loss, then the update from where they led.

    Unlike `sam`'s, the move stays: the loop adds it to the weights before the update, and every role's
    gradient is taken there. `on` says which losses are climbed: those of "retain" roles, of "forget" roles,
    "all", or the role of that name. With a forget role among them, ascent would be added to ascent: refused
    without `cap`, the greatest L2 norm of a step's move over all tensors. A step without such a role is
    plain.

    `paper`: w <- w + gamma P g + noise * sqrt(2 gamma P) z with P = 1 / (F + damping), noise 1 (the paper's
    1 / F has no damping: ours, 1). `released`: w <- w + delta (||w|| g / ||g|| + noise * z) P, tensor by
    tensor, with P = 1 / (1 + F / damping), noise 1e-3 and damping 1000; a tensor of norm 0 moves by noise
    alone. F is the diagonal Fisher that `use_fisher` was given last, else (ours) a running mean of the
    climbed loss's squared gradients; `precondition: identity` takes F = 0. z is standard normal, drawn from
    (seed, step). J = 0 is no refresh, bit for bit. Of adapters the factors are the tensors.
    """

    def __init__(
        self,
        form: Literal["released", "paper"] = "released",
        J: int = 1,
        on: str = "retain",
        delta: float = 1e-5,
        gamma: float = 1e-5,
        precondition: Literal["fisher", "identity"] = "fisher",
        noise: float | None = None,
        damping: float | None = None,
        cap: float | None = None,
    ) -> None:
        released = form == "released"
        self.form, self.J, self.on, self.delta, self.gamma, self.cap = form, J, on, delta, gamma, cap
        self.precondition = precondition
        self.noise = (1e-3 if released else 1.0) if noise is None else noise
        self.damping = (1000.0 if released else 1.0) if damping is None else damping
        at_least_zero("refresh", J=J, delta=delta, gamma=gamma, noise=self.noise)
        if self.damping <= 0 or (cap is not None and cap <= 0):
            raise UserError(f"refresh: damping and cap must be above 0, found {self.damping} and {cap}")
        if on in ("forget", "all"):
            self._check_cap(on)
        self._step = self._seed = 0
        self._given = False
        self._fisher: dict[str, Tensor] = {}
        self._climbed: list[Tensor] = []
        self._move: list[Tensor] | None = None
        self._facts: dict[str, float] = {}

    @property
    def extra_passes(self) -> Passes:
        """J gradients of what is climbed before the last one; a look at the rest where they stand."""
        if not self.J:
            return Passes()
        if self.on in ("retain", "forget"):
            climbed, rest = (self.J, self.J), (1, 0)
            return Passes(*rest, *climbed) if self.on == "retain" else Passes(*climbed, *rest)
        return Passes(self.J, self.J, self.J, self.J)  # of one role by its name: at most

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Keep what the noise is drawn from; a run that begins forgets an earlier one's running Fisher."""
        self._step, self._seed = step, seed
        if step == 0 and not self._given:
            self._fisher = {}

    def use_fisher(self, fisher: Mapping[str, Tensor]) -> None:
        """Take this diagonal, by the trained tensors' names, for F from now on; it is kept in the state."""
        self._fisher, self._given = dict(fisher), True

    def check(self, roles: Mapping[str, Role]) -> None:
        """UserError where no role of the run is climbed, and for a forget role without a cap."""
        moving = {name: role for name, role in roles.items() if role.moves}
        if not self._climbs(moving):
            raise UserError(
                f"refresh: on is '{self.on}', and the run has no such role: nothing would be refreshed; "
                f"found {', '.join(f'{name} ({role.kind})' for name, role in moving.items()) or 'none'}"
            )

    def _climbs(self, roles: Mapping[str, Role]) -> list[str]:
        climbed = [name for name, role in roles.items() if self.on in ("all", role.kind, name)]
        if any(roles[name].kind == "forget" for name in climbed):
            self._check_cap(self.on)
        return climbed

    def gradients(self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]) -> Gradients:
        """Every role's gradient where the ascents lead, and how far that is for `move`."""
        self._move, self._climbed, self._facts = None, [], {}
        climbed = self._climbs(roles)
        if not climbed or self.J == 0:
            return super().gradients(at, weights, roles)
        first: Gradients = {}
        for name in roles:
            if name in climbed:
                first[name] = at(name)
            else:
                at.look(name)
        rng = step_rng(self._seed, self._step, "refresh", weights.parameters[0].device)
        slope = self._climbed = forget_side(first, climbed, roles)
        self._facts = {"ascent_norm": float(global_norm(slope))}
        del first
        inverse = self._inverse(weights)
        move = [torch.zeros_like(part) for part in slope]
        for turn in range(self.J):
            if turn:
                with weights.perturbed(move):
                    slope = forget_side({name: at(name) for name in climbed}, climbed, roles)
            for index, parameter in enumerate(weights.parameters):
                part, away = slope[index], move[index]
                here = parameter.detach().to(part.dtype) + away
                away += self._ascent(here, part, inverse[index], rng)
        self._bound(move)
        self._move = move
        with weights.perturbed(move):
            return {name: at(name) for name in roles}

    def _ascent(self, here: Tensor, slope: Tensor, inverse: Tensor, rng: torch.Generator) -> Tensor:
        noise: Tensor | float = 0.0
        if self.noise:
            noise = self.noise * torch.randn(here.shape, generator=rng, dtype=here.dtype, device=here.device)
        if self.form == "paper":
            return self.gamma * inverse * slope + noise * (2 * self.gamma * inverse).sqrt()
        along = slope * (here.norm() / (slope.norm() + _TINY))
        return self.delta * inverse * (along + noise)

    def _inverse(self, weights: Weights) -> list[Tensor]:
        """P for each tensor."""
        scale = self.damping if self.form == "released" else 1.0
        found = []
        for name, parameter, part in zip(weights.names, weights.parameters, self._climbed, strict=True):
            fisher = self._fisher.get(name) if self.precondition == "fisher" else None
            if self._fisher and self.precondition == "fisher":
                check_fisher(name, fisher, parameter, "refresh")
            held = part.new_zeros(()) if fisher is None else fisher.to(part)
            found.append(scale / (held + self.damping))
        return found

    def _bound(self, move: list[Tensor]) -> None:
        norm = float(global_norm(move))
        if self.cap is not None and norm > self.cap:
            torch._foreach_mul_(move, self.cap / norm)
            norm = self.cap
        self._facts["move_norm"] = norm

    def _check_cap(self, on: str) -> None:
        if self.cap is None:
            raise UserError(
                f"refresh: on={on} climbs a forget loss, which is an ascent already; smoother.cap=L bounds "
                "each step's move to the L2 norm L, or leave it on=retain"
            )

    def move(self) -> list[Tensor] | None:
        """What the last step's ascents came to."""
        return self._move

    def after_step(self, weights: Weights, step: int) -> None:
        """Take the squared gradient into the running Fisher, where none was given."""
        if self._given or self.precondition != "fisher":
            return
        for name, part in zip(weights.names, self._climbed, strict=False):
            mean = self._fisher.setdefault(name, torch.zeros_like(part))
            mean.mul_(_MEMORY).addcmul_(part, part, value=1 - _MEMORY)

    def facts(self) -> dict[str, float]:
        """`ascent_norm`: the norm of the climbed gradient; `move_norm`: how far the weights were moved."""
        return self._facts

    def state(self) -> dict[str, Tensor]:
        """The Fisher, and whether it was given."""
        kept = {f"fisher.{name}": part for name, part in self._fisher.items()}
        return {**kept, "given": torch.tensor(self._given)} if kept else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take it back, in memory of its own."""
        prefix = "fisher."
        self._given = bool(state["given"]) if state else False
        self._fisher = {
            name.removeprefix(prefix): part.clone() for name, part in state.items() if name.startswith(prefix)
        }
