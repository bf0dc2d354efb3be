"""Making a mask from a model: hashing what is frozen, and recording what is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oubliette.backends.base import Backend
from oubliette.backends.files.stored import narrowed
from oubliette.core.errors import UserError, suggest
from oubliette.guard.canonical import own_name
from oubliette.guard.hashes import digests, dtype_name, pieces
from oubliette.guard.hub import checked_revision, revision_of
from oubliette.guard.mask import Asked, Base, FrozenTensor, Mask, MaskBudget, check_mask, shares
from oubliette.train.scope import network

__all__ = ["make_mask", "plain"]


def make_mask(
    model: Backend,
    names: Iterable[str],
    *,
    budget: Asked | Mapping[str, Any] | None,
    learned: Mapping[str, Any],
    measured: Mapping[str, Any],
    scores: Mapping[str, float] | None,
    candidates: Iterable[str] | None,
    revision: str | None,
) -> Mask:
    """See `Mask.make`."""
    held = {own_name(name): tensor for name, tensor in model.tensors().items()}
    chosen = _known([own_name(name) for name in names], held, model.source)
    if not chosen:
        raise UserError("a mask needs at least one tensor to freeze, found none")
    pool = _known(_default(model, chosen) if candidates is None else candidates, held, model.source)
    outside = [name for name in chosen if name not in pool]
    if outside:
        raise UserError(f"frozen tensor '{outside[0]}' is no candidate of the mask")
    frozen = []
    for name in chosen:
        tensor = held[name].detach()
        stored = _stored_dtype(model, name, tensor)
        _check_finite(name, tensor)
        found = digests(lambda tensor=tensor: pieces(tensor), tensor.dtype, stored)  # type: ignore[misc]
        frozen.append(FrozenTensor(name, tuple(tensor.shape), dtype_name(stored), found))
    shapes = {name: tuple(held[name].shape) for name in pool}
    source = Path(model.source)
    base = Base(
        source=source.absolute().name
        if source.is_dir()
        else model.source,  # a publisher's paths stay private
        revision=checked_revision(revision) if revision else revision_of(model.source),
        fingerprint=model.fingerprint(),
        kind=model.kind,  # type: ignore[arg-type]
        world=model.world,
    )
    made = Mask(
        base,
        _asked(budget, frozen, shapes),
        tuple(frozen),
        shapes,
        plain(learned, "learned"),
        plain(measured, "measured"),
        None if scores is None else {own_name(name): float(value) for name, value in scores.items()},
    )
    check_mask(made, "the mask")
    return made


def _known(names: Iterable[str], held: Mapping[str, Any], source: str) -> list[str]:
    """The names in the model's order, each once; UserError for one that the model lacks."""
    wanted = {own_name(name) for name in names}
    for name in sorted(wanted - set(held)):
        raise UserError(f"{source}: has no tensor '{name}'; {suggest(name, held)}")
    return [name for name in held if name in wanted]


def _default(model: Backend, chosen: list[str]) -> list[str]:
    inside = network(model)
    return inside if set(chosen) <= {own_name(name) for name in inside} else list(model.tensors())


def _stored_dtype(model: Backend, name: str, tensor: Tensor) -> torch.dtype:
    """What the model's files keep the tensor in, if that holds it exactly; else what it is held in."""
    files = getattr(model, "stored", None)
    dtype = files.dtype(name) if files is not None else getattr(model, "stored_dtype", None)
    return narrowed(tensor, dtype).dtype


def _check_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"tensor '{name}' holds values that are not finite; such a model cannot be guarded")


def _asked(
    asked: Asked | Mapping[str, Any] | None, frozen: list[FrozenTensor], shapes: Mapping[str, Any]
) -> MaskBudget:
    of: Any = "parameters"
    share = None
    if isinstance(asked, Mapping):
        of, share = asked.get("of", of), asked.get("share")
    elif asked is not None:
        of, share = asked.of, asked.share
    return MaskBudget(of, None if share is None else float(share), **shares(frozen, shapes))


def plain(content: Mapping[str, Any], what: str) -> dict[str, Any]:
    """As JSON would give it back; UserError for what it cannot hold."""
    try:
        made: dict[str, Any] = json.loads(json.dumps(dict(content), allow_nan=False, default=_number))
    except (TypeError, ValueError) as error:
        raise UserError(f"mask: '{what}' cannot be written as JSON ({error})") from error
    return made


def _number(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON")
