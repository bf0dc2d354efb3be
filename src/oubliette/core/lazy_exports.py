"""A package whose functions are imported when they are first used, some of them named like its modules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["export_lazily"]


def export_lazily(package: str, targets: Mapping[str, str]) -> None:
    """Let the package's module offer `targets`: names with the "module:attribute" each stands for.

    Nothing is imported until a name is used. Python binds a module in its package when it is first imported;
    one of these names is then both, the module and, called, the function.
    """

    def load(name: str) -> Any:
        module, attribute = targets[name].split(":")
        return getattr(import_module(module), attribute)

    class Called(ModuleType):
        """A module with the name of a function of the face: calling it calls the function."""

        def __call__(self, *args: Any, **options: Any) -> Any:
            return load(self.__name__.rpartition(".")[2])(*args, **options)

    class Faced(ModuleType):
        """The package: looks names of the face up when they are asked for."""

        def __setattr__(self, name: str, value: Any) -> None:
            if name in targets and type(value) is ModuleType:
                value.__class__ = Called
            super().__setattr__(name, value)

        def __getattr__(self, name: str) -> Any:
            if name not in targets:
                raise AttributeError(f"module '{package}' has no attribute '{name}'")
            return load(name)

        def __dir__(self) -> list[str]:
            return sorted({*vars(self).get("__all__", ()), *targets})

    sys.modules[package].__class__ = Faced
