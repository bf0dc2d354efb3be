"""How the roles' gradients become one update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from oubliette.errors import UserError
from oubliette.train.roles import Role

__all__ = ["DocoRef", "Project", "Sum", "Surgery"]

_CHUNK = 2**25  # elements whose products are held at once: bounds the inner products' memory


class Surgery(Protocol):
    """Combines gradients that were accumulated, averaged over processes and clipped; may overwrite them."""

    def needs(self, role: Role) -> bool:
        """Whether the role's gradient has a part in the update (if not, the loop does not compute it)."""

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """One tensor per trained parameter: the update's direction, in the sense of a gradient."""

    def facts(self) -> dict[str, float]:
        """Numbers about the last combination for the log."""


class Sum:
    """The weighted sum of all gradients: what minimising the weighted sum of the losses does."""

    def needs(self, role: Role) -> bool:
        """A role of weight 0 has no part."""
        return role.weight != 0

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """sum_i weight_i * gradient_i."""
        return _weighted(grads, {name: roles[name].weight for name in grads})

    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}


class _ConflictSurgery:
    """What both projections share: the two sides, their cosines, and the log of them."""

    def __init__(self, strength: float, per: Literal["tensor", "all"]) -> None:
        if strength < 0:
            raise UserError(f"surgery strength must be at least 0, found {strength}")
        self.strength = strength
        self.per = per
        self._facts: dict[str, float] = {}

    def needs(self, role: Role) -> bool:
        """Always: a retain role of weight 0 is still the direction that is protected."""
        return True

    def facts(self) -> dict[str, float]:
        """`conflict`: the share of tensors (or 0/1 for `all`) with a negative cosine; `cosine`: its mean."""
        return self._facts

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """The forget side off its conflict with the retain side; the plain sum where one is absent."""
        self._facts = {}
        sides: dict[str, dict[str, list[Tensor]]] = {"forget": {}, "retain": {}}
        for name, gradient in grads.items():
            sides[roles[name].kind][name] = gradient
        if not sides["forget"] or not sides["retain"]:
            return Sum().combine(grads, roles)
        forget = _weighted(sides["forget"], {name: roles[name].weight for name in sides["forget"]})
        total = sum(roles[name].weight for name in sides["retain"])
        # The retain side points where the weighted sum does; where all weights are 0, where the mean does.
        shares = {
            name: roles[name].weight / total if total else 1 / len(sides["retain"])
            for name in sides["retain"]
        }
        retain = _weighted(sides["retain"], shares)
        inner, forget_norm, retain_norm = _inner_products(forget, retain, self.per)
        cosine = inner / (forget_norm * retain_norm).clamp_min(torch.finfo(inner.dtype).tiny)
        self._facts = {"conflict": float((inner < 0).double().mean()), "cosine": float(cosine.mean())}
        coefficients = torch.where(
            (inner < 0) & (retain_norm > 0), self._coefficients(inner, cosine, retain_norm), 0.0
        )
        for index, coefficient in enumerate(coefficients.tolist()):
            if coefficient:
                forget[index].add_(retain[index], alpha=-self.strength * coefficient)
        return self._add_retain(forget, retain, total)

    def _coefficients(self, inner: Tensor, cosine: Tensor, retain_norm: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no coefficients")

    def _add_retain(self, forget: list[Tensor], retain: list[Tensor], total: float) -> list[Tensor]:
        return forget


class Project(_ConflictSurgery):
    """Take the forget gradient off its conflict with the retain gradient, then add the latter, weighted.

    Where <f, r> < 0: f <- f - strength * <f, r> / ||r||^2 * r (PCGrad, arXiv 2001.06782, one-sided; the
    textbook form of DoCo's concept-preserving gradient, arXiv 2405.15304). `per="tensor"` decides for each
    tensor alone, `per="all"` for all as one vector. The retain roles' weights say how much of r is added
    afterwards; with weight 0, the retain gradient is a constraint only.
    """

    def __init__(self, strength: float = 1.0, per: Literal["tensor", "all"] = "tensor") -> None:
        super().__init__(strength, per)

    def _coefficients(self, inner: Tensor, cosine: Tensor, retain_norm: Tensor) -> Tensor:
        return inner / retain_norm / retain_norm

    def _add_retain(self, forget: list[Tensor], retain: list[Tensor], total: float) -> list[Tensor]:
        if total:
            torch._foreach_add_(forget, retain, alpha=total)
        return forget


class DocoRef(_ConflictSurgery):
    """DoCo's surgery as released, for reproduction: it over-corrects wherever ||f|| < 1.

    Per tensor, with v = r / ||r|| and c = cos(f, r) < 0: f <- f - strength * c * v. A projection would
    subtract ||f|| * c * v, so |c| (1 - ||f||) of v is left over: an implicit retain step. The retain
    gradient is never added, whatever its weight (code of arXiv 2405.15304).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength, "tensor")

    def _coefficients(self, inner: Tensor, cosine: Tensor, retain_norm: Tensor) -> Tensor:
        return cosine / retain_norm


def _weighted(grads: Mapping[str, list[Tensor]], weights: Mapping[str, float]) -> list[Tensor]:
    """sum_i weight_i * gradient_i, into the first one's memory."""
    (first, total), *others = grads.items()
    if weights[first] != 1:
        torch._foreach_mul_(total, weights[first])
    for name, gradient in others:
        torch._foreach_add_(total, gradient, alpha=weights[name])
    return total


def _inner_products(left: list[Tensor], right: list[Tensor], per: str) -> tuple[Tensor, Tensor, Tensor]:
    """<l, r>, ||l|| and ||r|| for each tensor, or for all as one (given n times); each of shape (n,)."""
    products = [
        product.sum()
        for part in _chunks(left)
        for product in torch._foreach_mul([left[i] for i in part], [right[i] for i in part])
    ]
    inner = torch.stack(products)
    left_norm, right_norm = torch.stack(torch._foreach_norm(left)), torch.stack(torch._foreach_norm(right))
    if per == "tensor":
        return inner, left_norm, right_norm
    whole = (inner.sum(), left_norm.norm(), right_norm.norm())
    count = len(products)
    return whole[0].expand(count), whole[1].expand(count), whole[2].expand(count)


def _chunks(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Runs of indices of at most `_CHUNK` elements together (or one tensor)."""
    run: list[int] = []
    size = 0
    for index, tensor in enumerate(tensors):
        if run and size + tensor.numel() > _CHUNK:
            yield run
            run, size = [], 0
        run.append(index)
        size += tensor.numel()
    if run:
        yield run
