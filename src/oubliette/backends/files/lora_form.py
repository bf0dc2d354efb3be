"""A changed model as a LoRA of its base: what is written with `--save lora`, and how it is opened again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from oubliette.backends.files.adapters import read_lora
from oubliette.backends.files.delta import check_base
from oubliette.backends.files.stored import canonical
from oubliette.backends.files.truncation import TOLERANCE, Product, truncated
from oubliette.backends.layers import adaptable, flat, is_transposed
from oubliette.core.errors import UserError
from oubliette.core.manifest import hash_file, read_manifest
from oubliette.core.numbers import percent

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = [
    "ERROR_BOUND",
    "Factors",
    "LowRankForm",
    "TruncationWarning",
    "adapter_hashes",
    "apply_lora",
    "check_lora",
    "lora_file",
    "low_rank",
]

#: A greater relative error of the whole is worth a word.
ERROR_BOUND = 1e-3
_DIFFUSERS, _PEFT = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"


class TruncationWarning(UserWarning):
    """A LoRA of the rank asked for leaves out a noticeable part of the update."""


@dataclass(frozen=True)
class Factors:
    """Adapters "NAME.lora_A" and "NAME.lora_B" of one rank, as peft shapes them: alpha / rank B A each."""

    values: dict[str, Tensor]
    rank: int
    alpha: float


@dataclass(frozen=True)
class LowRankForm:
    """The change of every tensor as a product, and `merged`, the tensors as whoever opens the file has them
    (fp32).

    `values` are the adapters "NAME.lora_A" and "NAME.lora_B" of one common `rank`, to be written with
    `alpha`.
    """

    products: dict[str, Product]
    values: dict[str, Tensor]
    merged: dict[str, Tensor]
    rank: int
    alpha: float

    @property
    def error(self) -> float:
        """The relative Frobenius error over all tensors together."""
        square = sum(product.square for product in self.products.values())
        return math.sqrt(sum(product.lost for product in self.products.values()) / square)

    def facts(self) -> dict[str, Any]:
        """What the record says of it: the ranks and the relative errors."""
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "tolerance": TOLERANCE,
            "error": self.error,
            "tensors": {
                name: {"rank": product.rank, "error": product.error}
                for name, product in sorted(self.products.items())
            },
        }


def check_lora(model: Backend, names: Iterable[str], scopes: Iterable[str] = ()) -> None:
    """UserError naming the first of `names` that no adapter can change: no linear or convolution weight.

    `scopes` are named as those that would do.
    """
    layers = adaptable(model)
    for name in names:
        if name not in layers:
            raise UserError(
                f"{model.source}: '{name}' is no weight of a linear or convolution layer, which are all that "
                "a LoRA holds; save it as a delta or full, or choose a scope without it"
                + (f" ({', '.join(found)})" if (found := list(scopes)) else "")
            )


def holds(model: Backend, names: Iterable[str]) -> bool:
    """Whether a LoRA can hold a change of every one of these tensors."""
    return set(names) <= set(adaptable(model))


@torch.no_grad()
def low_rank(
    model: Backend,
    base: Callable[[str], Tensor],
    *,
    rank: int | None = None,
    energy: float | None = None,
    factors: Factors | None = None,
) -> LowRankForm:
    """What changed in `model` against the base, as adapters; `base(name)` gives a tensor as the base stores
    it.

    The difference is taken before any rounding to the base's dtype, one tensor at a time, a convolution's as
    (out, in k k). Its rank is the numerical one, singular values under the rounding of the held weights
    (half a unit in the last place times their norm) being zero, or lower where `rank` or `energy` asks for
    that (`truncation.truncated`). Where `factors` are what changed, to that rounding, and no bound is asked
    for, they are written as they are, without an SVD. Warns (TruncationWarning) where the whole is off by
    more than ERROR_BOUND. UserError where nothing changed, or something that is no matrix (`check_lora`).
    """
    layers = adaptable(model)
    exact = None if rank or energy or factors is None else _as_trained(model, base, factors, layers)
    if exact is not None:
        return exact
    products: dict[str, Product] = {}
    before: dict[str, Tensor] = {}
    for name, tensor in model.tensors().items():
        now, stored = tensor.detach().cpu(), base(name).cpu()
        if torch.equal(now, stored.to(now.dtype)):
            continue
        if name not in layers:
            check_lora(model, [name])
        if not bool(torch.isfinite(now).all()):
            raise UserError(f"{name}: holds values that are not finite; nothing was saved")
        difference = flat(now.double() - stored.double(), layers[name])
        products[name] = truncated(difference, floor=_rounding(now), rank=rank, energy=energy)
        before[name] = stored
    common = max((product.rank for product in products.values()), default=0)
    if common == 0:
        raise UserError(f"{model.source}: nothing changed against its base that a LoRA could hold")
    values: dict[str, Tensor] = {}
    merged: dict[str, Tensor] = {}
    for name, product in products.items():
        if product.rank == 0:
            continue
        up, down = product.padded(common)
        if before[name].ndim == 4:
            down = down.view(common, *before[name].shape[1:])
            up = up[:, :, None, None]
        values[f"{name}.lora_A"], values[f"{name}.lora_B"] = down, up
        merged[name] = _merged(before[name], up, down, 1.0, layers[name]).float()
    form = LowRankForm(products, values, merged, common, common)
    if form.error > ERROR_BOUND:
        warnings.warn(
            f"a LoRA of rank {common} leaves out {percent(form.error, '.2f')} of the update's norm; "
            "a higher save.rank (or none) keeps more, save.form delta all of it",
            TruncationWarning,
            stacklevel=2,
        )
    return form


def _as_trained(
    model: Backend, base: Callable[[str], Tensor], factors: Factors, layers: Mapping[str, nn.Module]
) -> LowRankForm | None:
    """The factors as the form, None where they are not all that `model` and base differ by."""
    merged: dict[str, Tensor] = {}
    products: dict[str, Product] = {}
    scale = factors.alpha / factors.rank
    for name, tensor in model.tensors().items():
        now, stored = tensor.detach().cpu(), base(name).cpu()
        down, up = factors.values.get(f"{name}.lora_A"), factors.values.get(f"{name}.lora_B")
        if down is None or up is None:
            if not torch.equal(now, stored.to(now.dtype)):
                return None
            continue
        opened = _merged(stored, up, down, scale, layers[name])
        if not float((opened - now.double()).norm()) <= _rounding(now):
            return None
        square = float((opened - stored.double()).square().sum())
        products[name] = Product(up.flatten(1), down.flatten(1), square, 0.0)
        merged[name] = opened.float()
    if not any(product.square for product in products.values()):
        return None
    return LowRankForm(products, factors.values, merged, factors.rank, factors.alpha)


def _rounding(tensor: Tensor) -> float:
    """The norm of what a tensor's dtype may have rounded away: half a unit in the last place."""
    return torch.finfo(tensor.dtype).eps / 2 * float(tensor.double().norm())


def lora_file(folder: Path) -> Path | None:
    """The adapter file that diffusers or peft would open in a folder; None where there is none."""
    return next((folder / name for name in (_DIFFUSERS, _PEFT) if (folder / name).is_file()), None)


def adapter_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of the adapter file in a folder, by its name: for the record."""
    path = lora_file(folder)
    return {} if path is None else {path.name: hash_file(path)}


@torch.no_grad()
def apply_lora(model: Backend, folder: Path) -> None:
    """Add a folder's adapters to the weights of their base, in place, each summed in fp64 and rounded once.

    UserError if `model` is not the base that the folder's record names (by fingerprint), or lacks a layer,
    and for a file that cannot be read.
    """
    expected = (read_manifest(folder).get("base") or {}).get("fingerprint")
    check_base(model, expected, f"{folder}: was made from a base with fingerprint")
    path = lora_file(folder)
    assert path is not None
    layers = adaptable(model)
    own = {canonical(name): name for name in layers}
    tensors = model.tensors()
    ready: dict[str, Tensor] = {}
    for module, lora in read_lora(path).items():
        name, down, up = f"{module}.weight", lora.down, lora.up
        known = own.get(canonical(name))
        if known is None or not _fits(tensors[known], up, down, layers[known]):
            raise UserError(
                f"{folder}: the adapter of '{name}' {tuple(up.shape)} x {tuple(down.shape)} has no place in "
                f"{model.source}"
            )
        ready[known] = _merged(tensors[known].detach().cpu(), up, down, lora.scale, layers[known])
    for name, value in ready.items():
        tensors[name].copy_(value)


def _fits(weight: Tensor, up: Tensor, down: Tensor, layer: nn.Module) -> bool:
    shape = weight.T.shape if is_transposed(layer) else weight.shape
    return up.shape[:2] == (shape[0], down.shape[0]) and down.shape[1:] == shape[1:]


def _merged(weight: Tensor, up: Tensor, down: Tensor, scale: float, layer: nn.Module) -> Tensor:
    """weight + scale * up down in fp64."""
    product = scale * (up.double().flatten(1) @ down.double().flatten(1))
    return weight.double() + (product.T if is_transposed(layer) else product.view_as(weight))
