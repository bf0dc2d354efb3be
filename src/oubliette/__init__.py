"""Oubliette makes generative models forget a concept, and measures whether they did."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# The face of the package. Each name is imported when first used, so that `import oubliette` stays light.
_FACE = {
    "load": "oubliette.api:load",
    "wrap": "oubliette.api:wrap",
    "erase": "oubliette.api:erase",
    "evaluate": "oubliette.api:evaluate",
    "attack": "oubliette.audit.single:attack",
    "audit": "oubliette.audit.run:audit",
    "UserError": "oubliette.errors:UserError",
}

__all__ = ["UserError", "__version__", "attack", "audit", "erase", "evaluate", "load", "wrap"]

if TYPE_CHECKING:
    from oubliette.api import erase, evaluate, load, wrap
    from oubliette.audit.run import audit
    from oubliette.audit.single import attack
    from oubliette.errors import UserError


class _Room(ModuleType):
    """A subpackage with the name of a function of the face: calling it calls the function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _load(self.__name__.rpartition(".")[2])(*args, **options)


class _Package(ModuleType):
    """Python binds a subpackage here when it is first imported: `oubliette.erase` is both from then on."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FACE and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _load(name: str) -> Any:
    module, attribute = _FACE[name].split(":")
    return getattr(import_module(module), attribute)


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'oubliette' has no attribute '{name}'")
    return _load(name)


def __dir__() -> list[str]:
    return sorted(__all__)
