"""The gradients of one step: accumulated over micro-batches, averaged over processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.train.objective import Objective
from oubliette.train.processes import Processes
from oubliette.train.roles import Draw, Role

__all__ = [
    "GradScale",
    "GradientsOf",
    "StepGradients",
    "as_floats",
    "clip_",
    "global_norm",
    "micro_batch_rng",
    "step_rng",
]


class StepGradients:
    """Evaluates an objective's roles on one step's draws, as often as a smoother asks."""

    def __init__(
        self,
        objective: Objective,
        draws: Sequence[Draw],
        processes: Processes,
        autocast: Callable[[], AbstractContextManager[object]],
        scale: float,
        inner: Mapping[str, Role] | None = None,
        redraw: Callable[[int], Sequence[Draw]] | None = None,
    ) -> None:
        self._objective, self._draws, self._processes = objective, draws, processes
        self._autocast, self._scale = autocast, scale
        self.inner: Mapping[str, Role] = inner or {}
        """The step's inner roles."""
        self._redraw = redraw
        self.losses: dict[str, Tensor] = {}
        """Each role's loss the first time it was evaluated: the mean over micro-batches and processes."""

    def at(self, parameters: Sequence[nn.Parameter]) -> GradientsOf:
        """A role's derivatives as functions of its name alone: what a smoother is given."""
        return GradientsOf(self, parameters)

    def again(self, number: int) -> StepGradients:
        """The same on the step's further draw of this number, from 1."""
        if self._redraw is None or number < 1:
            raise ValueError(f"there is no further draw {number} of this step")
        draws = self._redraw(number)
        return StepGradients(
            self._objective, draws, self._processes, self._autocast, self._scale, self.inner, self._redraw
        )

    def of(self, role: str, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """The role's gradient with respect to `parameters` as they stand, in fp32 (fp64 for fp64 weights).

        UserError if the loss reaches none of them.
        """
        return self._mean(
            role, parameters, lambda loss: torch.autograd.grad(loss, parameters, allow_unused=True)
        )

    def times_hessian(
        self, role: str, parameters: Sequence[nn.Parameter], direction: Sequence[Tensor]
    ) -> list[Tensor]:
        """The Hessian of the role's loss times `direction`, dtypes as in `of`, by differentiating twice.

        Attention is computed in its plain form, since the fused ones have no second derivative. UserError
        where another operation has none.
        """
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def twice(loss: Tensor) -> Sequence[Tensor | None]:
            first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            # A gradient without a graph is constant: it adds nothing to the second derivative.
            bent = [
                (gradient.to(part.dtype) * part).sum()
                for gradient, part in zip(first, direction, strict=True)
                if gradient is not None and gradient.requires_grad
            ]
            if not bent:
                return [torch.zeros_like(parameter) for parameter in parameters]
            if _breaks_off(bent):
                raise RuntimeError("a custom operation in it is marked once_differentiable")
            return torch.autograd.grad(torch.stack(bent).sum(), parameters, materialize_grads=True)

        try:
            with sdpa_kernel(SDPBackend.MATH):
                return self._mean(role, parameters, twice)
        except RuntimeError as error:
            if "is not implemented" not in str(error) and "once_differentiable" not in str(error):
                raise
            raise UserError(
                f"the loss of role '{role}' cannot be differentiated twice ({' '.join(str(error).split())}); "
                "smoother.variant=finite_diff makes do with first derivatives"
            ) from error

    def look(self, role: str) -> None:
        """Evaluate the role's loss, for what its first evaluation leaves behind."""
        losses = []
        for draw in self._draws:
            with self._autocast(), torch.no_grad():
                losses.append(self._objective.loss(role, draw).float())
        self._keep(role, losses)

    def _mean(
        self,
        role: str,
        parameters: Sequence[nn.Parameter],
        differentiate: Callable[[Tensor], Sequence[Tensor | None]],
    ) -> list[Tensor]:
        """What `differentiate` makes of the scaled loss, over micro-batches and processes."""
        total: list[Tensor] = []
        losses: list[Tensor] = []
        reached = False
        for draw in self._draws:
            with self._autocast():
                loss = self._objective.loss(role, draw)
            if loss.ndim != 0:
                raise ValueError(
                    f"the loss of role '{role}' has shape {tuple(loss.shape)}, expected a scalar"
                )
            losses.append(loss.detach().float())
            found: Sequence[Tensor | None] = [None] * len(parameters)
            if loss.requires_grad:
                found = differentiate(loss * self._scale)
            del loss
            reached = reached or any(gradient is not None for gradient in found)
            wide = [
                torch.zeros_like(parameter, dtype=_wide(parameter.dtype))
                if gradient is None
                else gradient.to(_wide(gradient.dtype))
                for gradient, parameter in zip(found, parameters, strict=True)
            ]
            if total:
                torch._foreach_add_(total, wide)
            else:
                total = wide
        if not reached:
            raise UserError(
                f"the loss of role '{role}' reaches none of the {len(parameters)} tensors in scope; "
                "choose a scope whose tensors the objective reads"
            )
        if (divisor := self._scale * len(self._draws)) != 1:
            torch._foreach_div_(total, divisor)
        self._keep(role, losses)
        return self._processes.mean(total)

    def _keep(self, role: str, losses: list[Tensor]) -> None:
        if role not in self.losses:
            self.losses[role] = self._processes.mean([torch.stack(losses).mean()])[0]


class GradientsOf:
    """One step's derivatives with respect to given parameters (`oubliette.train.smoothing.GradientAt`)."""

    def __init__(self, gradients: StepGradients, parameters: Sequence[nn.Parameter]) -> None:
        self._gradients, self._parameters = gradients, parameters

    @property
    def inner(self) -> Mapping[str, Role]:
        """The step's inner roles by name."""
        return self._gradients.inner

    def fresh(self, number: int = 1) -> GradientsOf:
        """The same on the step's further draw of this number."""
        return GradientsOf(self._gradients.again(number), self._parameters)

    def __call__(self, role: str) -> list[Tensor]:
        """The role's gradient at the parameters as they stand."""
        return self._gradients.of(role, self._parameters)

    def look(self, role: str) -> None:
        """A forward pass of the role alone."""
        self._gradients.look(role)

    def times_hessian(self, role: str, direction: list[Tensor]) -> list[Tensor]:
        """The Hessian of the role's loss times `direction`."""
        return self._gradients.times_hessian(role, self._parameters, direction)


class GradScale:
    """The factor that keeps fp16 gradients from vanishing: halved on overflow, doubled after good steps."""

    def __init__(self, enabled: bool, start: float = 2.0**16, patience: int = 2000) -> None:
        self.enabled = enabled
        self.value = start if enabled else 1.0
        self.good = 0
        self._patience = patience

    def shrink(self) -> bool:
        """Halve the factor; False where it is 1 already, so that it was not the factor that overflowed."""
        if self.value <= 1:
            return False
        self.value, self.good = self.value / 2, 0
        return True

    def succeeded(self) -> None:
        """Count a good step."""
        if self.enabled:
            self.good += 1
            if self.good % self._patience == 0:
                self.value *= 2


def global_norm(gradient: list[Tensor]) -> Tensor:
    """The L2 norm over all tensors together, as a scalar tensor."""
    return torch.stack(torch._foreach_norm(gradient)).norm()


def clip_(gradient: list[Tensor], norm: float, limit: float | None) -> None:
    """Scale the gradient, whose norm is given, down to the limit in place, if it is over one."""
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradient, limit / norm)


def micro_batch_rng(seed: int, step: int, micro: int, again: int = 0) -> torch.Generator:
    """A fresh CPU generator that depends on nothing but its arguments, so that resuming needs no state of it.

    `micro` counts the step's micro-batches over all processes: who evaluates one does not change what it
    holds. `again` counts the step's further draws.
    """
    return _seeded(f"{seed}/{step}/{micro}" + (f"/again {again}" if again else ""), "cpu")


def step_rng(seed: int, step: int, part: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for what one part ("pcgrad", "rs") draws in a step, the same in every process."""
    return _seeded(f"{seed}/{step}/{part}", device)


def _seeded(text: str, device: torch.device | str) -> torch.Generator:
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def as_floats(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The scalars as floats, with one transfer from the device."""
    if not values:
        return {}
    stacked = torch.stack([value.detach().float() for value in values.values()])
    return dict(zip(values, stacked.tolist(), strict=True))


def _breaks_off(outputs: Sequence[Tensor]) -> bool:
    """Whether the graph has a custom operation without a second derivative.

    Torch raises on such a node only if the way to the parameters led through it, and it is cut off from them:
    its share would be missing without a word.
    """
    todo = [output.grad_fn for output in outputs]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if node is None:
            continue
        if type(node).__name__ == "Error":
            return True
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        todo.extend(new)
    return False


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32
