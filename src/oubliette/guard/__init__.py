"""Guarding: a mask of tensors that fine-tuning must leave as they are, from learning it to verifying it.

Imports train, backends and data. Each name below is imported when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_FACE = {
    "FrozenTensor": "oubliette.guard.mask:FrozenTensor",
    "GuardCallback": "oubliette.guard.callback:GuardCallback",
    "Mask": "oubliette.guard.mask:Mask",
    "MaskViolated": "oubliette.guard.watch:MaskViolated",
    "Watch": "oubliette.guard.watch:Watch",
    "check_adapters": "oubliette.guard.adapters:check_adapters",
    "enforce": "oubliette.guard.enforce:enforce",
    "learn": "oubliette.guard.learn:learn",
    "lora_targets": "oubliette.guard.adapters:lora_targets",
    "picture": "oubliette.guard.show:picture",
    "publish": "oubliette.guard.publish:publish",
    "read_mask": "oubliette.guard.mask:read_mask",
    "sign": "oubliette.guard.sign:sign",
    "summary": "oubliette.guard.show:summary",
    "verify": "oubliette.guard.verify:verify",
    "verify_signature": "oubliette.guard.sign:verify_signature",
}

__all__ = [
    "FrozenTensor",
    "GuardCallback",
    "Mask",
    "MaskViolated",
    "Watch",
    "check_adapters",
    "enforce",
    "learn",
    "lora_targets",
    "picture",
    "publish",
    "read_mask",
    "sign",
    "summary",
    "verify",
    "verify_signature",
]


class _Tool(ModuleType):
    """A module with the name of its one function: calling it calls the function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _load(self.__name__.rpartition(".")[2])(*args, **options)


class _Room(ModuleType):
    """Python binds a module here when it is first imported: `guard.verify` is both from then on."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FACE and type(value) is ModuleType:
            value.__class__ = _Tool
        super().__setattr__(name, value)


def _load(name: str) -> Any:
    module, attribute = _FACE[name].split(":")
    return getattr(import_module(module), attribute)


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'oubliette.guard' has no attribute '{name}'")
    return _load(name)


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Room
