"""What is wrong with an opened model though its files can be read: values that are not finite, or not those
that its record was written for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oubliette.core.manifest import hash_file, read_manifest

__all__ = ["ModelWarning", "faults_of", "look_for_faults"]


class ModelWarning(UserWarning):
    """A model was opened whose weights are not finite, or not those of the record beside them."""


def look_for_faults(model: Any, folder: Path, *, exact: bool) -> None:
    """Add to `model.faults` what is wrong with a model just opened from `folder`, and warn (ModelWarning).

    One pass over the weights, and one for the hash where there is a record. `exact` says that the weights are
    held in a dtype that loses nothing, without which they have no hash to compare.
    """
    for fault in [*_not_finite(model), *_not_as_recorded(model, folder, exact)]:
        if fault not in model.faults:  # a base's own, said when that was opened
            model.faults += (fault,)
            warnings.warn(f"{folder}: {fault}", ModelWarning, stacklevel=2)


def faults_of(models: Mapping[str, Any]) -> list[str]:
    """What opening found wrong with models, each after its name: notes for figures that are taken of them."""
    return [f"{name}: {fault}" for name, model in models.items() for fault in getattr(model, "faults", ())]


def _not_finite(model: Any) -> list[str]:
    broken = [
        f"{component}.{name}"
        for component, module in model.modules().items()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and not _finite(tensor)
    ]
    if not broken:
        return []
    others = f" and {len(broken) - 1} other tensors hold" if len(broken) > 1 else " holds"
    return [f"'{broken[0]}'{others} values that are not finite (NaN or infinity)"]


def _finite(tensor: Tensor) -> bool:
    # A sum makes no second tensor; only where it overflows must each value be looked at.
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())


def _not_as_recorded(model: Any, folder: Path, exact: bool) -> list[str]:
    record = read_manifest(folder)
    files = record.get("files")
    if isinstance(files, dict):  # adapters: their sum with the base depends on the machine's last bit
        return [
            f"{name} is not the file that its record was written for (sha256 {found[:12]}..., recorded "
            f"{str(said)[:12]}...); it was changed or damaged since"
            for name, said in files.items()
            if (folder / name).is_file() and (found := hash_file(folder / name)) != said
        ]
    said = record.get("fingerprint")
    if not exact or not isinstance(said, str) or (found := model.fingerprint()) == said:
        return []
    return [
        f"its weights are not those that its record was written for (fingerprint {found[:12]}..., recorded "
        f"{said[:12]}...); they were changed or damaged since"
    ]
