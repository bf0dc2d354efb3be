"""Saving a diffusion pipeline, whole or as a delta, and the fingerprint of what it holds."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oubliette.backends.attachment import save_attached
from oubliette.backends.base import FORMS
from oubliette.backends.files.changes import changed_tensors
from oubliette.backends.files.delta import base_facts, write_delta
from oubliette.backends.files.lora_form import Factors, adapter_hashes, low_rank
from oubliette.backends.files.stored import canonical, narrowed
from oubliette.backends.layers import own, refuse_open
from oubliette.backends.quiet import quiet_loading
from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import (
    atomic_folder,
    refuse_existing,
    share,
    update_digest,
    write_manifest,
)
from oubliette.core.manifest import record as make_record

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

_HEADER_FACTS = ("method", "concept", "concepts", "anchor")


def fingerprint(
    model: DiffusionBackend, instead: Callable[[str], Tensor] | None = None, *, narrow: bool = True
) -> str:
    """The sha256 of a model's tensors; a tensor that its stored dtype holds exactly is hashed in that dtype.

    So an unchanged model, a model saved, and a model opened again agree, in whatever dtype they are held,
    and an edited model differs from its rounded copy. `instead(name)` gives what to hash for an editable
    tensor; without `narrow` in the dtype it is in, which is then that of the files.
    """
    refuse_open(model)
    digest = hashlib.sha256()
    editable = {canonical(name) for name in model.tensors()} if instead is not None else set()
    tensors = {
        canonical(f"{component}.{name}"): tensor
        for component, module in model.modules().items()
        for name, tensor in own(module.state_dict()).items()
    }
    for name in sorted(tensors):
        given = None if instead is None or name not in editable else instead(name)
        tensor = tensors[name].detach() if given is None else given
        dtype = model.stored.dtype(name) if model.stored and (narrow or given is None) else None
        update_digest(digest, name, narrowed(tensor, dtype))
    return digest.hexdigest()


def save(
    model: DiffusionBackend,
    folder: Path,
    *,
    form: str,
    base: Any,
    record: dict[str, Any] | None,
    dtype: torch.dtype | None,
    rank: int | None,
    energy: float | None,
    factors: Factors | None,
) -> None:
    """Save `model` to `folder` in one of the FORMS; see `DiffusionBackend.save`."""
    if form not in FORMS:
        raise UserError(f"no save form {form!r}; {suggest(form, FORMS)}")
    refuse_existing(folder)
    facts = make_record(kind=model.kind, form=form, world=model.world, model=model.source)
    facts.update(record or {})
    if form == "attached":
        save_attached(model, folder, facts, base=base, stored=lambda: _Stored(model).fingerprint())
        return
    model.refuse_attached()
    if model.stored is None and (form == "full" or base is None):
        if form != "full":
            raise UserError(
                "a pipeline wrapped in memory has no base on disk: give base=..., or save it full"
            )
        _save_wrapped(model, folder, facts)
        return
    base_of = _Stored(model) if base is None or form == "full" else _Held(base)
    adapters = None
    if form == "lora":
        adapters = low_rank(model, base_of.tensor, rank=rank, energy=energy, factors=factors)
    if adapters is None:
        found = changed_tensors(model.tensors(), base_of.tensor, dtype=dtype)
        changed = found.tensors
        facts.update(found.facts())
    else:
        changed, facts["lora"] = adapters.merged, adapters.facts()
    facts["base"] = base_facts(base_of.source, base_of.fingerprint(), folder)
    facts["changed"] = sorted(changed)
    facts["fingerprint"] = fingerprint(model, _either(changed, base_of.tensor), narrow=form != "full")
    with atomic_folder(folder) as target:
        if form == "full":
            assert model.stored is not None
            model.stored.copy_to(target, changed, dtype)
        elif adapters is not None:
            model.save_adapters(target, adapters.values, rank=adapters.rank, alpha=adapters.alpha)
            facts["files"] = adapter_hashes(target)
        else:
            write_delta(target, changed, _header(model, facts))
        write_manifest(target, facts)


def _save_wrapped(model: DiffusionBackend, folder: Path, facts: dict[str, Any]) -> None:
    facts["fingerprint"] = fingerprint(model)
    with atomic_folder(folder) as target:
        with quiet_loading():
            model.pipe.save_pretrained(str(target), safe_serialization=True)
        for file in target.rglob("*.safetensors"):
            share(file)
        write_manifest(target, facts)


class _Stored:
    """The base as it lies on disk: what a model was opened from."""

    def __init__(self, model: DiffusionBackend) -> None:
        assert model.stored is not None
        self.source = model.origin
        self.tensor = model.stored.tensor
        self._model = model

    def fingerprint(self) -> str:
        return fingerprint(self._model, self.tensor)


class _Held:
    """Another backend as the base, with its weights as they are now, in the dtype it stores them in."""

    def __init__(self, base: DiffusionBackend) -> None:
        self.source = base.origin
        self.fingerprint = base.fingerprint
        self._stored = base.stored
        self._tensors = {canonical(name): tensor for name, tensor in base.tensors().items()}

    def tensor(self, name: str) -> Tensor:
        held = self._tensors[canonical(name)].detach()
        return narrowed(held, self._stored.dtype(name) if self._stored else None)


def _either(changed: dict[str, Tensor], base: Callable[[str], Tensor]) -> Callable[[str], Tensor]:
    own = {canonical(name): tensor for name, tensor in changed.items()}
    return lambda name: own[name] if name in own else base(name)


def _header(model: DiffusionBackend, facts: dict[str, Any]) -> dict[str, Any]:
    header = {key: facts[key] for key in _HEADER_FACTS if key in facts}
    header.update(base=facts["base"]["source"], base_fingerprint=facts["base"]["fingerprint"])
    header.update(kind=model.kind, world=model.world, oubliette=facts["versions"]["oubliette"])
    return header


def load_component(kind: list[str], folder: Path) -> Any:
    """Load one component of a pipeline from its own folder, by [library, class] as model_index.json names
    it.
    """
    library, name = kind
    loader = getattr(importlib.import_module(library), name)
    return loader.from_pretrained(str(folder), use_safetensors=True)
