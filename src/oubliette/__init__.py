"""Oubliette makes generative models forget a concept, and measures whether they did."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# The face of the package. Each name is imported when first used, so that `import oubliette` stays light.
_FACE = {
    "load": "oubliette.api:load",
    "wrap": "oubliette.api:wrap",
    "erase": "oubliette.api:erase",
    "evaluate": "oubliette.api:evaluate",
    "UserError": "oubliette.errors:UserError",
}

__all__ = ["UserError", "__version__", "erase", "evaluate", "load", "wrap"]

if TYPE_CHECKING:
    from oubliette.api import erase, evaluate, load, wrap
    from oubliette.errors import UserError


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'oubliette' has no attribute '{name}'")
    module, attribute = _FACE[name].split(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
