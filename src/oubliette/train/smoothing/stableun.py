"""The forget gradient with what forgetting and remembering say a step ahead, around where it leads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.gradients import global_norm, step_rng
from oubliette.train.roles import Role
from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes
from oubliette.train.smoothing.side import at_least_zero, forget_roles, forget_side
from oubliette.train.weights import Weights

__all__ = ["StableUN"]

Gradients = dict[str, list[Tensor]]


class StableUN(NoSmoother):
    """Feedback from a step ahead, after StableUN (2509.20230), and where near it feedback is asked for.

    g_f = grad L_f(w) + lambda grad F and g_r = grad R take the places of the forget and the retain gradient,
    with w' = w - inner_learning_rate * grad L_f(w) on the step's own batch. Forgetting feedback F is the
    forget loss of a further draw near w', its gradient taken there alone (first order); `probe` says where:

    - `sap`: w' + rho g / |g|, g the forget gradient at w' on the further draw;
    - `gpn`: w' + rho z, z standard normal, the mean over `draws` of them;
    - `gap`: w' - rho a / |a|, a the gradient at w' of the method's inner roles on the further draw: where an
      attacker who relearns would go;
    - `hws`: decay * m + (1 - decay) * w', m the running mean of the weights, m <- decay * m + (1 - decay) * w
      after each update, from those that the run begins at.

    Remembering feedback R is the retain loss at w' on the step's own batch; its lambda is the recipe's retain
    weight, `feedback` is F's. `count`: "single" puts grad L_f(w) into g_f alone, "halves" one half into each
    branch, as the paper's equation 11 is said to. Harmonisation, g_f off its conflict with g_r, is the
    surgery `{name: project, per: all}`, which is handed these two.

    Neither the paper's text nor code could be read: this is built on what its abstract and reviews say. Ours
    are the further draw, the probes' exact places, `gpn`'s number of draws, `hws`'s mean, R on the step's own
    batch, and rho measured on the weights themselves, of adapters on the product (`sap`, `gap`; the step to
    w', `gpn` and `hws` move A and B). With feedback and inner_learning_rate 0, counted once, it is the plain
    gradient, bit for bit. Norms are L2 over all trained tensors together. UserError for `gap` where the
    method has no inner role.
    """

    def __init__(
        self,
        probe: Literal["sap", "gpn", "gap", "hws"] = "sap",
        rho: float = 0.01,
        inner_learning_rate: float = 1e-5,
        feedback: float = 1.0,
        draws: int = 1,
        decay: float = 0.9,
        count: Literal["single", "halves"] = "single",
    ) -> None:
        at_least_zero("stableun", rho=rho, inner_learning_rate=inner_learning_rate, feedback=feedback)
        if draws < 1:
            raise UserError(f"stableun: draws must be at least 1, found {draws}")
        if not 0 <= decay < 1:
            raise UserError(f"stableun: decay must lie in [0, 1), found {decay}")
        self.probe, self.rho, self.inner_learning_rate = probe, rho, inner_learning_rate
        self.feedback, self.draws, self.decay, self.count = feedback, draws, decay, count
        self._step = self._seed = 0
        self._mean: dict[str, Tensor] = {}
        self._facts: dict[str, float] = {}

    @property
    def _around(self) -> bool:
        """Whether feedback is asked for anywhere but at w'."""
        return (self.decay if self.probe == "hws" else self.rho) > 0

    @property
    def extra_passes(self) -> Passes:
        """The feedback's evaluations, those that say where it is asked for, a look at the retain loss."""
        ahead = 1 if self.inner_learning_rate else 0
        if not self.feedback:
            return Passes(retain_forwards=ahead)
        evaluations, inner = 1, 0
        if self._around:
            evaluations = {"sap": 2, "gpn": self.draws}.get(self.probe, 1)
            inner = 1 if self.probe == "gap" else 0
        return Passes(evaluations, evaluations, retain_forwards=ahead, inner=inner, draws=1)

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Keep what the noise is drawn from; a run that begins forgets an earlier one's mean."""
        self._step, self._seed = step, seed
        if step == 0:
            self._mean = {}

    def gradients(self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]) -> Gradients:
        """The branches' gradients, each without its role's weight."""
        forget = forget_roles(roles)
        if not forget:
            return super().gradients(at, weights, roles)
        if self.probe == "gap" and self._around and self.feedback and not at.inner:
            raise UserError(
                "stableun: the probe 'gap' goes where an attacker would, and this method says nothing of an "
                "attacker's loss (it has no inner role); smoother.probe=sap, gpn or hws does without"
            )
        found: Gradients = {}
        for name in roles:
            if name in forget or not self.inner_learning_rate:
                found[name] = at(name)
            else:
                at.look(name)
        side = forget_side(found, forget, roles)
        step = [part.mul(-self.inner_learning_rate) for part in side]
        self._facts = {"gradient_norm": float(global_norm(side))}
        further = at.fresh() if self.feedback else None
        if self.inner_learning_rate:
            with weights.perturbed(step):
                found |= {name: at(name) for name in roles if name not in found}
        if further is not None:
            for name, ahead in self._forgetting(further, weights, forget, roles, step).items():
                torch._foreach_add_(found[name], ahead, alpha=self.feedback)
        if self.count == "halves":
            self._share(found, side, roles)
        return {name: found[name] for name in roles}

    def _forgetting(
        self,
        at: GradientAt,
        weights: Weights,
        forget: list[str],
        roles: Mapping[str, Role],
        step: list[Tensor],
    ) -> Gradients:
        """The mean of each forget role's gradients at the probe's places."""
        total: Gradients = {}
        places = self._places(at, weights, forget, roles, step)
        for place in places:
            with place:
                for name in forget:
                    gradient = at(name)
                    if name in total:
                        torch._foreach_add_(total[name], gradient)
                    else:
                        total[name] = gradient
        if len(places) > 1:
            for gradient in total.values():
                torch._foreach_div_(gradient, len(places))
        return total

    def _places(
        self,
        at: GradientAt,
        weights: Weights,
        forget: list[str],
        roles: Mapping[str, Role],
        step: list[Tensor],
    ) -> list[AbstractContextManager[None]]:
        """Where the feedback is asked for: the weights stand there inside each block."""
        if not self._around:
            return [weights.perturbed(step)]
        if self.probe == "hws":
            return [weights.perturbed(self._remembered(weights, step))]
        if self.probe == "gpn":
            rng = step_rng(self._seed, self._step, "stableun", weights.parameters[0].device)
            return [
                weights.perturbed([part + self.rho * _noise(part, rng) for part in step])
                for _ in range(self.draws)
            ]
        names, whose = (list(at.inner), at.inner) if self.probe == "gap" else (forget, roles)
        with weights.perturbed(step):
            direction = forget_side({name: at(name) for name in names}, names, whose)
        return [self._along(weights, step, direction, -self.rho if self.probe == "gap" else self.rho)]

    @contextmanager
    def _along(
        self, weights: Weights, step: list[Tensor], direction: list[Tensor], length: float
    ) -> Iterator[None]:
        with weights.perturbed(step), weights.uphill(direction, length) as norm:
            self._facts["direction_norm"] = norm
            yield

    def _remembered(self, weights: Weights, step: list[Tensor]) -> list[Tensor]:
        """decay * m + (1 - decay) * w' as a difference to w."""
        places = []
        means = self._mean or weights.start
        for name, parameter, part in zip(weights.names, weights.parameters, step, strict=True):
            mean = means[name].to(part.dtype)
            places.append(self.decay * (mean - parameter.detach()) + (1 - self.decay) * part)
        return places

    def _share(self, found: Gradients, side: list[Tensor], roles: Mapping[str, Role]) -> None:
        """Half of grad L_f(w) out of the forget branch and into the retain branch, by weight."""
        forget = forget_roles(roles)
        kept = next((name for name, role in roles.items() if role.kind == "retain" and role.weight), None)
        if kept is None:
            return  # no other branch: the forget branch has it whole
        (first, *_) = forget
        if not roles[first].weight:
            return
        torch._foreach_add_(found[first], side, alpha=-0.5 / roles[first].weight)
        torch._foreach_add_(found[kept], side, alpha=0.5 / roles[kept].weight)

    @torch.no_grad()
    def after_step(self, weights: Weights, step: int) -> None:
        """Take the weights into the mean."""
        if self.probe != "hws":
            return
        if not self._mean:
            self._mean = {
                name: value.to(torch.promote_types(value.dtype, torch.float32), copy=True)
                for name, value in weights.start.items()
            }
        for name, parameter in zip(weights.names, weights.parameters, strict=True):
            mean = self._mean[name]
            mean.add_(parameter.detach().to(mean.dtype) - mean, alpha=1 - self.decay)

    def facts(self) -> dict[str, float]:
        """`gradient_norm`: |grad L_f(w)|; `direction_norm`: that of the gradient that sets sap's or gap's."""
        return self._facts

    def state(self) -> dict[str, Tensor]:
        """The running mean of `hws`."""
        return {f"mean.{name}": mean for name, mean in self._mean.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the mean back, in memory of its own."""
        self._mean = {name.removeprefix("mean."): tensor.clone() for name, tensor in state.items()}


def _noise(like: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=like.device)
