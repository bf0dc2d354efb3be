"""A mask's names and a user's module: the same tensors, whatever has been wrapped around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from torch import nn

from oubliette.backends.base import Backend
from oubliette.backends.files.stored import canonical
from oubliette.core.errors import UserError
from oubliette.train.freeze import read_names

if TYPE_CHECKING:
    from oubliette.guard.mask import FrozenTensor, Mask

    AnyMask: TypeAlias = Mask | Path | str | Sequence[str]

__all__ = ["find", "listed", "match", "roots", "some", "tensors", "unwrap", "walk"]

# Levels that torch, accelerate and peft put between a module and what it wraps; they are no part of a name.
_LEVELS = frozenset(
    {"_orig_mod", "_checkpoint_wrapped_module", "base_layer", "original_module", "token_adapter"}
)
_SHOWN = 3


def listed(mask: AnyMask) -> dict[str, FrozenTensor | None]:
    """The frozen tensors by full name, with what the mask says of each (None where it is names alone).

    `mask` is a mask, its folder or `guard.json`, a text file of names, or a sequence of names. Raises
    UserError where it cannot be read or freezes nothing.
    """
    if isinstance(mask, str | Path):
        path = Path(mask)
        if path.suffix.lower() == ".txt":
            names: dict[str, FrozenTensor | None] = dict.fromkeys(read_names(path))
        else:
            from oubliette.guard.mask import read_mask

            return listed(read_mask(path))
    elif hasattr(mask, "frozen"):
        names = {frozen.name: frozen for frozen in mask.frozen}
    else:
        names = dict.fromkeys(mask)
    if not names:
        raise UserError("the mask freezes no tensor: there is nothing to enforce")
    return names


def some(names: Sequence[str], what: str = "") -> str:
    """A few of the names and how many there are: "a, b, c, ... (9 in all)"."""
    shown = ", ".join(names[:_SHOWN])
    return shown + (f", ... ({len(names)} in all)" if len(names) > _SHOWN else "") + what


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside torch's parallel wrappers, torch.compile, a weight average or a PeftModel."""
    from torch.nn.parallel import DataParallel, DistributedDataParallel
    from torch.optim.swa_utils import AveragedModel

    while True:
        if isinstance(module, DistributedDataParallel | DataParallel | AveragedModel):
            module = module.module
        elif isinstance(inner := vars(module).get("_modules", {}).get("_orig_mod"), nn.Module):
            module = inner
        elif callable(base := getattr(module, "get_base_model", None)):  # peft's word alone
            module = cast(nn.Module, base())
        else:
            return module


def roots(model: Any) -> dict[str, nn.Module]:
    """The modules of `model`, each by what its tensors' names begin with ("unet.", or "" for a bare module).

    `model` is a backend, a diffusers pipeline, a module, or a mapping of component names to modules. Looked
    up anew on every call, since training scripts put wrapped modules in place of their own.
    """
    if isinstance(model, nn.Module):
        return {"": model}
    if isinstance(model, Mapping):
        return {f"{name}.": module for name, module in model.items() if isinstance(module, nn.Module)}
    if isinstance(model, Backend):
        full = {id(parameter): name for name, parameter in model.tensors().items()}
        return {_prefix(name, module, full): module for name, module in model.modules().items()}
    if isinstance(parts := getattr(model, "components", None), Mapping):
        return roots(parts)
    raise UserError(
        f"a mask cannot be laid on a {type(model).__name__}: expected a torch module, a mapping of component "
        "names to modules, a diffusers pipeline or an Oubliette model"
    )


def walk(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module inside `module` with its path in the model as it was published; wrappers share theirs.

    Raises UserError for FSDP1, which flattens tensors so that none can be told from its neighbours.
    """
    module = unwrap(module)
    yield path, module
    for name, child in module.named_children():
        if name == "_fsdp_wrapped_module":
            raise UserError(
                "the model is wrapped by FSDP1, which cuts tensors into flat pieces; "
                "a mask needs FSDP2 (accelerate: fsdp_version 2; torch: fully_shard)"
            )
        yield from walk(child, path if name in _LEVELS else f"{path}.{name}" if path else name)


def tensors(model: Any) -> dict[str, nn.Parameter]:
    """Every parameter by the name it has in the published model; a tied one by each of its names."""
    found: dict[str, nn.Parameter] = {}
    for prefix, root in roots(model).items():
        for path, module in walk(root):
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
                found.setdefault(_plain(prefix + (f"{path}.{name}" if path else name)), parameter)
    return found


def find(name: str, held: Mapping[str, Any]) -> str | None:
    """The name in `held` that means a mask's `name`, with its component ("unet.") or without, if any."""
    return next((own for own in (_plain(name), _tail(name)) if own in held), None)


def match(names: Sequence[str], held: Mapping[str, Any]) -> dict[str, str]:
    """For each of a mask's names the one in `held` that means it.

    A bare component's names lack what the mask's begin with ("unet."): then that is dropped. Raises UserError
    naming what is not there, and where the mask freezes tensors of several components but one is given.
    """
    whole = {name: _plain(name) for name in names}
    if all(plain in held for plain in whole.values()):
        return whole
    heads: dict[str, list[str]] = {}
    for name in names:
        heads.setdefault(name.partition(".")[0], []).append(name)
    fitting = [head for head, own in heads.items() if all(_tail(name) in held for name in own)]
    if fitting and len(heads) == 1:
        return {name: _tail(name) for name in names}
    if fitting:
        rest = " and ".join(head for head in heads if head not in fitting)
        given = ", ".join(f'"{head}": ...' for head in heads)
        raise UserError(
            f"the mask freezes tensors of {rest or ' and '.join(heads)} too, and only one component was "
            f"given; pass them together: {{{given}}}"
        )
    missing = [name for name in names if find(name, held) is None] or list(names)
    near = [
        own
        for wanted in (_plain(missing[0]), _tail(missing[0]))
        for own in get_close_matches(wanted, held, n=1, cutoff=0.8)
    ]
    raise UserError(
        f"the mask is not of this model, or its layers were replaced: the mask freezes {some(missing)}, "
        f"and the model has no tensor of that name{f'; the nearest is {near[0]}' if near else ''}"
    )


def _plain(name: str) -> str:
    """Without the level that transformers 5 took out of CLIP's text tower, at the front as well."""
    return canonical(f".{name}")[1:]


def _tail(name: str) -> str:
    return _plain(name.partition(".")[2])


def _prefix(component: str, module: nn.Module, full: Mapping[int, str]) -> str:
    """What a backend puts before a component's own names: nothing where it has one component alone."""
    for own, parameter in module.named_parameters():
        if id(parameter) in full:
            return full[id(parameter)].removesuffix(own)
    return f"{component}."
